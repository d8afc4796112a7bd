"""Every metric that splitray gives to `ray.util.metrics`: the one description, which the dashboards are made from too.

Prometheus scrapes them from Ray's own port on every node, under the name that `Metric.exported` gives.
"""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: in `ray.util.metrics`.
        kind: a gauge has a value, a counter grows.
        unit: as Grafana names it: `s`, `percentunit`, `none`, ...
        meaning: one sentence.
        tags: the labels of its series.
    """

    name: str
    kind: Literal["gauge", "counter"]
    unit: str
    meaning: str
    tags: tuple[str, ...]

    @property
    def exported(self) -> str:
        """Its name in Prometheus: Ray puts `ray_` before every name, and `_total` after those of counters."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")

    def open(self) -> Any:
        """The metric, to be set in this process."""
        from ray.util.metrics import Counter, Gauge

        kind = Counter if self.kind == "counter" else Gauge
        return kind(self.name, self.meaning, tag_keys=self.tags)


_WORKER = ("run", "worker", "source", "params")

# of workers, about once a second while they train
LOSS = Metric("splitray_loss", "gauge", "none", "Training loss, nats per token.", _WORKER)
TOKENS_PER_SECOND = Metric(
    "splitray_tokens_per_second", "gauge", "none", "Training tokens per second of a worker, or of its group.", _WORKER
)
TOKENS = Metric("splitray_tokens", "counter", "none", "Tokens trained.", _WORKER)
MFU = Metric(
    "splitray_mfu", "gauge", "percentunit", "Share of the GPUs' peak FLOPs that the model's FLOPs take.", _WORKER
)
DATA_WAIT = Metric("splitray_data_wait_seconds", "counter", "s", "Seconds in which training waited for text.", _WORKER)
GRADIENT_NORM = Metric(
    "splitray_gradient_norm", "gauge", "none", "Norm of the last step's gradient, before it was clipped.", _WORKER
)
MEMORY = Metric(
    "splitray_memory_bytes",
    "gauge",
    "bytes",
    "Most memory that a worker has held, of its GPU or else of its own.",
    _WORKER,
)
CHECKPOINT_STALL = Metric(
    "splitray_checkpoint_stall_seconds", "counter", "s", "Seconds in which training waited for checkpoints.", _WORKER
)

# of the driver, as long as the run lasts
STAGE_PROGRESS = Metric(
    "splitray_stage_progress", "gauge", "percentunit", "Share of the stage's work that is done.", ("run", "stage")
)
SECONDS_LEFT = Metric(
    "splitray_stage_seconds_left", "gauge", "s", "Estimated seconds until the stage ends.", ("run", "stage")
)
RESTARTS = Metric(
    "splitray_worker_restarts", "gauge", "none", "Workers that were lost and replaced in this start.", ("run", "stage")
)
HOURS_HELD = Metric(
    "splitray_hours_held", "gauge", "h", "Device-hours held by workers, all starts.", ("run", "purpose", "device")
)
HOURS_USED = Metric(
    "splitray_hours_used", "gauge", "h", "Of these, hours of training and scoring.", ("run", "purpose", "device")
)
ENERGY = Metric(
    "splitray_energy_kwh",
    "gauge",
    "kwatth",
    "Energy that the GPUs have counted, all starts.",
    ("run", "purpose", "device"),
)
MONEY = Metric(
    "splitray_money", "gauge", "none", "Price of the hours held, all starts.", ("run", "purpose", "currency")
)
HOURS_PROVISIONED = Metric(
    "splitray_hours_provisioned", "gauge", "h", "Device-hours that the cluster had while the run went on.", ("run",)
)

BY_WORKER = (LOSS, TOKENS_PER_SECOND, TOKENS, MFU, DATA_WAIT, CHECKPOINT_STALL, GRADIENT_NORM, MEMORY)
BY_DRIVER = (
    STAGE_PROGRESS,
    SECONDS_LEFT,
    RESTARTS,
    HOURS_HELD,
    HOURS_USED,
    ENERGY,
    MONEY,
    HOURS_PROVISIONED,
)
