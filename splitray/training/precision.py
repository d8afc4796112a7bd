"""fp32 or bf16: the training speed in either is measured, never assumed, and the choice belongs to the store.

Timings on a busy machine vary, so two measurements may disagree, and segments of one precision are of no use in the
other. So a store has one choice for every kind of machine. The first that is recorded is everybody's.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from splitray.errors import CorruptError
from splitray.storage.checksum import fingerprint
from splitray.storage.keys import PrecisionKey
from splitray.storage.store import Store
from splitray.training.settings import ModelShape, TrainingSettings

_log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "bf16")
_MARGIN = 1.1  # bf16 must win by a tenth: near a tie fp32 is the safer arithmetic
_STEPS = 6
_LARGEST = 8_000_000  # parameters of the model measured on a CPU; the ratio no longer moves above


def measure_precision(shape: ModelShape, training: TrainingSettings, vocab: int) -> dict[str, float]:
    """Training speed of one process in either precision, tokens per second; takes a few seconds."""
    from splitray.training.model import size

    if shape.path is not None or size(shape, vocab, training).params > _LARGEST:
        shape = ModelShape(hidden=256, layers=4)
    tokens = min(training.global_batch_size, 16) * training.sequence_length
    return {p: tokens / min(lap for lap, _ in step_seconds(shape, training, vocab, p, _STEPS)[1:]) for p in PRECISIONS}


def faster(speeds: dict[str, float]) -> str:
    """The precision that measured speeds are for."""
    return "bf16" if speeds["bf16"] > _MARGIN * speeds["fp32"] else "fp32"


def step_seconds(
    shape: ModelShape, training: TrainingSettings, vocab: int, precision: str, steps: int
) -> list[tuple[float, float]]:
    """Seconds of each of the first steps that this process trains, on 16 sequences at most: by the clock, and of the
    process's own work."""
    import torch

    from splitray.training import engine as engines
    from splitray.training.model import build
    from splitray.training.process import join_world
    from splitray.training.recipe import recipe

    torch.set_num_threads(training.threads)  # of this process, which measures and ends
    join_world()
    sequences = np.random.default_rng(0).integers(
        vocab, size=(min(training.global_batch_size, 16), training.sequence_length + 1)
    )
    settings: TrainingSettings = training.model_copy(
        update={"precision": precision, "global_batch_size": len(sequences)}
    )
    made = recipe(shape, settings, {"content_hash": "", "vocab": vocab, "end_token": 0}, {}, 0)
    engine = engines.Engine(build(made), made, settings)
    laps = []
    for _ in range(steps):
        begun, worked = time.perf_counter(), time.process_time()
        engine.step(sequences, 1e-4)
        laps.append((time.perf_counter() - begun, time.process_time() - worked))
    engine.close()
    return laps


@dataclass(frozen=True)
class PrecisionChoice:
    """What `training.precision: auto` means, fp32 or bf16, and why.

    Args:
        machine: the kind of machine; None where it did not decide.
        tokens_per_second: the training speeds that were measured, by precision.
    """

    precision: str
    why: str
    machine: str | None = None
    tokens_per_second: dict[str, float] | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON types, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def key_of(machine: str) -> str:
    """The store's name of the choice for a kind of machine."""
    return PrecisionKey(fingerprint({"cpu": machine})).format()


def recorded(store: Store, machine: str) -> PrecisionChoice | None:
    """The choice that the store holds for a kind of machine; None where it holds none.

    Raises:
        CorruptError: it holds one that is no precision.
    """
    key = key_of(machine)
    published = store.find(key)
    if published is None:
        return None
    precision, speeds = published.recorded("precision"), published.meta.get("tokens_per_second")
    if precision not in PRECISIONS:
        raise CorruptError(f"{key} records the precision {precision!r}: delete done/{key}.json in {store.root.uri}")
    return PrecisionChoice(precision, "chosen for the store", machine, speeds if isinstance(speeds, dict) else None)


def choose(store: Store, machine: str, measure: Callable[[], dict[str, float]]) -> PrecisionChoice:
    """The store's choice for a kind of machine. Where there is none, the faster precision becomes it.

    What stands afterwards is read again, so that two starts at once use the same.

    Args:
        measure: training speeds in tokens per second, by precision; see `measure_precision`.
    """
    if (known := recorded(store, machine)) is not None:
        return known
    speeds = measure()
    mine = PrecisionChoice(faster(speeds), "measured", machine, speeds)
    _log.info("measured %.0f tokens/s in fp32, %.0f in bf16", speeds["fp32"], speeds["bf16"])
    store.attempt(key_of(machine)).publish(mine.plain())
    first = recorded(store, machine) or mine
    if first.precision == mine.precision:
        return mine
    _log.info("another start was first to choose, and chose %s", first.precision)
    return first
