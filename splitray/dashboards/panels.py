"""What the dashboard shows: rows of panels, each with its queries in PromQL.

Queries filter by the variable `$run`, the names of runs, and average over `$window`. Gauges of the driver carry sums
over all starts, so two processes of one run are joined by `max`, never added.
"""

from dataclasses import dataclass
from typing import Literal

from splitray.executor import metrics
from splitray.executor.metrics import Metric

GPU_UTILISATION = "ray_node_gpus_utilization"  # Ray's own, in percent of every GPU of every node


@dataclass(frozen=True)
class Query:
    """One query; `legend` names its series, labels in `{{}}`."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel of a row; its unit is Grafana's name of one.

    Attributes:
        needs: what has to be there for it to show anything: the panel is empty elsewhere.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "bargauge"] = "timeseries"
    needs: Literal["", "gpu", "price", "long segments"] = ""


@dataclass(frozen=True)
class Row:
    """Panels below one title."""

    title: str
    panels: tuple[Panel, ...]


def _series(metric: Metric) -> str:
    return f'{metric.exported}{{run=~"$run"}}'


def _rate(metric: Metric, *labels: str) -> Query:
    """A counter's growth a second, summed over workers."""
    names = ", ".join(labels)
    return Query(f"sum by ({names}) (rate({_series(metric)}[$window]))", _legend(labels))


def _max(metric: Metric, *labels: str) -> Query:
    return Query(f"max by ({', '.join(labels)}) ({_series(metric)})", _legend(labels))


def _mean(metric: Metric, *labels: str) -> Query:
    return Query(f"avg by ({', '.join(labels)}) ({_series(metric)})", _legend(labels))


def _total(metric: Metric, legend: str, *labels: str) -> Query:
    """The sum over the series of a run's driver, each once."""
    inner = ", ".join(("run", *metric.tags[1:]))
    outer = f" by ({', '.join(labels)})" if labels else ""
    return Query(f"sum{outer} (max by ({inner}) ({_series(metric)}))", legend)


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)


ROWS = (
    Row(
        "Progress",
        (
            Panel(
                "Stages",
                "Share of each stage's work that is done. Stages that were done before this start do not appear.",
                metrics.STAGE_PROGRESS.unit,
                (_max(metrics.STAGE_PROGRESS, "run", "stage"),),
                "bargauge",
            ),
            Panel(
                "Time left",
                "Estimated time until the stage ends, at the pace so far.",
                metrics.SECONDS_LEFT.unit,
                (_max(metrics.SECONDS_LEFT, "run", "stage"),),
            ),
        ),
    ),
    Row(
        "Training",
        (
            Panel(
                "Tokens per second",
                "Tokens that are trained, by the text that they are drawn from, over all workers.",
                "none",
                (_rate(metrics.TOKENS, "source"),),
            ),
            Panel(
                "Losses by source",
                "Training loss in nats per token, by the text and by N of the model. Compare curves of one N.",
                metrics.LOSS.unit,
                (_mean(metrics.LOSS, "source", "params"),),
            ),
            Panel(
                "Gradient norm",
                "Norm of the gradient before it is clipped. One that grows by itself comes before a loss that does.",
                metrics.GRADIENT_NORM.unit,
                (_mean(metrics.GRADIENT_NORM, "source", "params"),),
            ),
            Panel(
                "Model FLOPs utilisation",
                "Share of the GPUs' peak in bf16 that the model's own FLOPs take. Empty on CPUs.",
                metrics.MFU.unit,
                (_mean(metrics.MFU, "source", "params"),),
                needs="gpu",
            ),
            Panel(
                "GPU utilisation",
                "Share of the time in which some kernel ran on a GPU, as the driver counts it. Ray's own metric.",
                "percent",
                (Query(f"avg by (instance, GpuIndex) ({GPU_UTILISATION})", "{{instance}} {{GpuIndex}}"),),
                needs="gpu",
            ),
        ),
    ),
    Row(
        "Where time goes",
        (
            Panel(
                "Data wait",
                "Seconds a second in which workers wait for text, summed over workers. Near zero is well.",
                metrics.DATA_WAIT.unit,
                (_rate(metrics.DATA_WAIT, "source"),),
            ),
            Panel(
                "Checkpoint stall",
                "Seconds a second in which workers wait for a state to be copied, or for the one before to be written.",
                metrics.CHECKPOINT_STALL.unit,
                (_rate(metrics.CHECKPOINT_STALL, "source"),),
                needs="long segments",
            ),
            Panel(
                "Memory",
                "Most memory that a worker has held since it started: of its GPU, else of its machine.",
                metrics.MEMORY.unit,
                (_max(metrics.MEMORY, "worker"),),
            ),
            Panel(
                "Restarts",
                "Workers of this start that were lost and replaced. One that keeps growing is a machine to look at.",
                metrics.RESTARTS.unit,
                (_max(metrics.RESTARTS, "run", "stage"),),
            ),
        ),
    ),
    Row(
        "Cost",
        (
            Panel(
                "Hours held and used",
                "Device-hours of all starts: held by workers, used by training and scoring, and had by the cluster.",
                metrics.HOURS_HELD.unit,
                (
                    _total(metrics.HOURS_HELD, "held"),
                    _total(metrics.HOURS_USED, "used"),
                    _total(metrics.HOURS_PROVISIONED, "cluster"),
                ),
            ),
            Panel(
                "Hours held by purpose",
                "Device-hours of all starts that workers held.",
                metrics.HOURS_HELD.unit,
                (_total(metrics.HOURS_HELD, "{{purpose}}", "purpose"),),
            ),
            Panel(
                "Money",
                "Price of the hours held, over all starts. It needs resources.price_per_hour or instance_type.",
                metrics.MONEY.unit,
                (_total(metrics.MONEY, "{{currency}}", "currency"),),
                "stat",
                needs="price",
            ),
            Panel(
                "Money by purpose",
                "The same by what the hours were for.",
                metrics.MONEY.unit,
                (_total(metrics.MONEY, "{{purpose}} {{currency}}", "purpose", "currency"),),
                needs="price",
            ),
            Panel(
                "Energy",
                "What the GPUs have counted, over all starts. Empty where no GPU counts.",
                metrics.ENERGY.unit,
                (_total(metrics.ENERGY, "{{purpose}}", "purpose"),),
                needs="gpu",
            ),
        ),
    ),
)
