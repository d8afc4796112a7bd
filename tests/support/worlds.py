"""What a pair of gloo processes trains for test_zero.py: `python worlds.py STORE RANK`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from splitray.errors import StorageError
from splitray.storage.store import Store
from splitray.training.loop import Hooks, Interrupted, NonFiniteLossError, Progress, train
from splitray.training.tree import Leaf, Segment
from tests.support import tiny

CASES = [(stage, precision) for stage in (0, 1, 2, 3) for precision in ("fp32", "bf16")]
STEPS, STOP_AFTER = 6, 3


class Recorder:
    """A data order and hooks that write down what was drawn and said; asks to stop once, before step `stop_before`."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.drawn: list[tuple[str, int, int]] = []
        self.steps: list[tuple[int, float, float]] = []
        self._order, self._stop_before = tiny.order(), stop_before
        self.hooks = Hooks(self._progress, self._stop, every_seconds=-1.0)

    def sequences(self, source: str, start: int, count: int) -> np.ndarray:
        self.drawn.append((source, start, count))
        return self._order.sequences(source, start, count)

    def _progress(self, progress: Progress) -> None:
        self.steps.append((progress.tokens, progress.loss, progress.learning_rate))

    def _stop(self) -> bool:
        if len(self.drawn) != self._stop_before:
            return False
        self._stop_before = None
        return True


def segment_of(stage: int, precision: str) -> tuple[Any, Segment]:
    """A stretch of the mixture that warms up, keeps its moments, and can be continued."""
    settings = tiny.training(zero_stage=stage, precision=precision)
    made = tiny.make_recipe(settings)
    return settings, tiny.segments(made, Leaf(STEPS * made.batch_tokens, 4 * made.batch_tokens, "a"))[0]


def interrupted_and_not(root: Path, stage: int, precision: str) -> dict[str, Any]:
    """Train one segment in peace, and again with a stop in its middle; what either drew and said."""
    settings, segment = segment_of(stage, precision)
    whole, halves = Recorder(), Recorder(stop_before=STOP_AFTER)
    train(segment, whole, Store(root / "whole"), settings, whole.hooks)
    stopped = expects(Interrupted, lambda: train(segment, halves, Store(root / "halves"), settings, halves.hooks))
    train(segment, halves, Store(root / "halves"), settings, halves.hooks)
    said = {name: {"drawn": r.drawn, "steps": r.steps} for name, r in (("whole", whole), ("halves", halves))}
    return {"key": segment.key, "stopped": stopped, **said}


def expects(kind: type[Exception], action: Callable[[], Any]) -> str | None:
    """The message of the error that an action must end in, None where it ends well."""
    try:
        action()
    except kind as error:
        return str(error)
    return None


def begin_in_two(root: Path) -> str:
    """Two workers at ZeRO 1 stop inside a segment that others are to end."""
    settings, segment = segment_of(1, "fp32")
    stopping = Recorder(stop_before=STOP_AFTER)
    expects(Interrupted, lambda: train(segment, stopping, Store(root / "changed"), settings, stopping.hooks))
    return segment.key


def end_with(root: Path, name: str, stage: int) -> list[Any]:
    """Continue a copy of what `begin_in_two` left, with another stage in this world."""
    settings, segment = segment_of(stage, "fp32")
    rest = Recorder()
    train(segment, rest, Store(root / name), settings, rest.hooks)
    return rest.steps


class Full(Store):
    """A store that its first rank cannot write to."""

    def attempt(self, key: str, nonce: str | None = None) -> Any:
        raise StorageError("the disk is full")


def main(root: Path, rank: int) -> dict[str, Any]:
    import shutil

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(root / "meet"), 2), rank=rank, world_size=2)
    said: dict[str, Any] = {f"{s}-{p}": interrupted_and_not(root / f"two-{s}-{p}", s, p) for s, p in CASES}
    said["changed"] = begin_in_two(root)
    if rank == 0:
        shutil.copytree(root / "changed", root / "to-three")
    dist.barrier()
    said["to-three"] = end_with(root, "to-three", 3)
    settings, segment = segment_of(1, "fp32")
    said["full"] = expects(StorageError, lambda: train(segment, Recorder(), Full(root / "full"), settings))
    burning = tiny.training(zero_stage=1, learning_rate=1e30, warmup_tokens=0)
    hot = tiny.segments(tiny.make_recipe(burning), Leaf(640))[0]
    said["burning"] = expects(NonFiniteLossError, lambda: train(hot, Recorder(), Store(root / "hot"), burning))
    dist.barrier()
    dist.destroy_process_group()
    return said


if __name__ == "__main__":
    place, number = Path(sys.argv[1]), int(sys.argv[2])
    (place / f"said-{number}.json").write_text(json.dumps(main(place, number)))
