"""The one loop that trains a segment. Imports no Ray: Ray Train workers and long-lived actors are thin hosts of it."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from splitray.errors import CorruptError, SplitrayError
from splitray.store import Published, Store
from splitray.training import state as states
from splitray.training.settings import TrainingSettings
from splitray.training.tree import Segment

_STOP, _CHECKPOINT = 2, 1


class NonFiniteLossError(SplitrayError):
    """The loss or the gradient became NaN or infinite; the step was not taken, nothing was published."""


class Interrupted(SplitrayError):
    """The loop was asked to stop; its state is checkpointed and the same call continues it."""


class Sequences(Protocol):
    def sequences(self, source: str, start: int, count: int) -> np.ndarray: ...


@dataclass
class Progress:
    """What a hook sees after a step."""

    segment: Segment
    tokens: int
    loss: float
    learning_rate: float
    tokens_per_second: float


@dataclass
class Hooks:
    """Where a host listens and speaks: `progress` about once a second, `stop` before every step."""

    progress: Callable[[Progress], None] = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    every_seconds: float = 1.0
    remarks: dict[str, Any] = field(default_factory=dict)


def train(
    segment: Segment, order: Sequences, store: Store, settings: TrainingSettings, hooks: Hooks | None = None
) -> Published:
    """Train one segment to its end and publish it; at once where it already stands.

    Continues from the newest good checkpoint of the segment, else from its parent, else from the root. Interrupted
    and resumed on the same hardware and world size, the result is bit-identical. Every rank of the group calls it.

    Raises:
        NonFiniteLossError: before the step that it would have poisoned.
        Interrupted: `hooks.stop` said so; a checkpoint was written first.
        CorruptError: the parent is damaged.
    """
    from splitray.training import engine as engines

    hooks = hooks or Hooks()
    if (done := store.find(segment.key)) is not None:
        return done
    engines.join_world()
    tokens, start = _starting_point(segment, store)
    engine = _engine(segment, start, settings)
    rank_batch = segment.recipe.values["batch_sequences"] // engine.world
    pace = _Pace(tokens, time.monotonic())
    began_at, remark = tokens, _Remarks(hooks.remarks, engine.world, engine.stage, settings)
    loss, checkpointed, reported = float("nan"), time.monotonic(), 0.0
    try:
        while tokens < segment.end:
            _seed(segment, tokens, engine.rank)
            wish = _STOP if hooks.stop() else 0
            if engine.rank == 0 and time.monotonic() - checkpointed > settings.checkpoint_seconds:
                wish = max(wish, _CHECKPOINT)
            cursor = segment.cursor(tokens) + engine.rank * rank_batch
            batch = order.sequences(segment.source, cursor, rank_batch)
            rate = segment.learning_rate(tokens)
            loss, agreed = engine.step(batch, rate, wish)
            if not np.isfinite(loss):
                raise NonFiniteLossError(
                    f"segment {segment.key}: loss {loss} at token {tokens} of {segment.source}, learning rate "
                    f"{rate:.2g}; no step was taken. Lower training.learning_rate or look at the text drawn there"
                )
            tokens += segment.recipe.batch_tokens
            now = time.monotonic()
            if engine.rank == 0 and (now - reported > hooks.every_seconds or tokens == segment.end):
                reported = now
                hooks.progress(Progress(segment, tokens, loss, rate, pace.rate(tokens, now)))
            if agreed and tokens < segment.end:
                _checkpoint(segment, engine, store, tokens, remark())
                checkpointed = time.monotonic()
                if agreed == _STOP:
                    raise Interrupted(f"segment {segment.key} stopped at token {tokens}; a checkpoint is kept")
        state = engine.state(moments=not segment.final)
        published = None
        if state is not None:
            meta = _meta(segment) | {
                "train_loss": loss,
                "tokens_trained": tokens - began_at,
                "seconds": time.monotonic() - pace.began,
                **remark(),
            }
            published = states.publish(store, segment.key, state, meta)
            for key in store.keys(_part(segment)):
                store.withdraw(key)
        _barrier(engine)
    finally:
        engine.close()
    published = published or store.find(segment.key)
    assert published is not None
    return published


class _Pace:
    def __init__(self, tokens: int, began: float) -> None:
        self.began, self._tokens = began, tokens

    def rate(self, tokens: int, now: float) -> float:
        return (tokens - self._tokens) / max(now - self.began, 1e-9)


class _Remarks:
    """What is recorded beside a segment and not hashed: how and on what it was trained."""

    def __init__(self, extra: dict[str, Any], world: int, stage: int, settings: TrainingSettings) -> None:
        import deepspeed
        import torch

        self._values = {
            "world": world,
            "zero_stage": stage,
            "micro_batch": settings.micro_batch,
            "threads": torch.get_num_threads(),
            "compile": settings.compile,
            "versions": {"torch": torch.__version__, "deepspeed": deepspeed.__version__},
            **extra,
        }

    def __call__(self) -> dict[str, Any]:
        return dict(self._values)


def _starting_point(segment: Segment, store: Store) -> tuple[int, states.State | None]:
    """Tokens and state to start from: the newest good checkpoint, else the parent, else the root (None)."""
    for key in reversed(store.keys(_part(segment))):
        held = store.find(key)
        if held is None:
            continue
        try:
            return int(held.meta["tokens"]), states.load(held)
        except CorruptError:
            continue  # an older one or the parent is as good, only further back
    if segment.parent is None:
        assert segment.start == 0, segment
        return 0, None
    parent = store.find(segment.parent)
    if parent is None:
        raise CorruptError(f"segment {segment.key} starts from {segment.parent}, which the store does not hold")
    return segment.start, states.load(parent)


def _engine(segment: Segment, start: states.State | None, settings: TrainingSettings) -> Any:
    from splitray.training import engine as engines
    from splitray.training.model import build

    model = build(segment.recipe.values)
    if start is not None:
        load_weights(model, start)
    engine = engines.Engine(model, segment.recipe.values, settings)
    if start is not None:
        engine.restore(start)
    return engine


def load_weights(model: Any, state: states.State) -> None:
    """Copy a state's weights into a model of the same recipe."""
    import torch

    named = dict(model.named_parameters())
    if named.keys() != state.weights.keys():
        raise CorruptError(
            f"the state holds other parameters than the model: {sorted(named.keys() ^ state.weights)[:4]}"
        )
    with torch.no_grad():
        for name, param in named.items():
            param.copy_(state.weights[name])


def _checkpoint(segment: Segment, engine: Any, store: Store, tokens: int, remark: dict[str, Any]) -> None:
    state = engine.state(moments=True)
    if state is not None:
        key = f"{_part(segment)}{tokens:015d}"
        states.publish(store, key, state, {"segment": segment.key, "tokens": tokens, **remark})
        for old in store.keys(_part(segment)):
            if old < key:
                store.withdraw(old)
    _barrier(engine)


def _part(segment: Segment) -> str:
    return f"part-{segment.key}-"


def _meta(segment: Segment) -> dict[str, Any]:
    return {
        "recipe": segment.recipe.values,
        "phases": [{"source": p.source, "end": p.end, "decay": p.decay} for p in segment.phases],
        "start": segment.start,
        "end": segment.end,
        "parent": segment.parent,
        "final": segment.final,
    }


def _seed(segment: Segment, tokens: int, rank: int) -> None:
    """Dropout, where a model has it, depends on (seed, token, rank) alone, so a resumed step draws the same."""
    import torch

    digest = hashlib.sha256(f"{segment.recipe.values['seed']}/{tokens}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _barrier(engine: Any) -> None:
    if engine.world > 1:
        import torch.distributed as dist

        dist.barrier()
