"""The one loop that trains a segment. Imports no Ray: Ray Train workers and long-lived actors are thin hosts of it."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from splitray.errors import CorruptError, SplitrayError
from splitray.runtime.gpu import gpu_software
from splitray.storage.keys import CheckpointKey
from splitray.storage.store import Published, Store
from splitray.training import warm
from splitray.training.data import Sequences
from splitray.training.exact import use_exact
from splitray.training.feed import Feed
from splitray.training.restore import start_engine
from splitray.training.saving import Saver, checkpoints_of
from splitray.training.settings import TrainingSettings
from splitray.training.tree import Segment

_log = logging.getLogger(__name__)

_STOP, _CHECKPOINT = 2, 1
_LOOK_SECONDS = 0.05  # between looks whether every rank has its first batch


class NonFiniteLossError(SplitrayError):
    """The loss or the gradient became NaN or infinite; the step was not taken, nothing was published."""


class Interrupted(SplitrayError):
    """The loop was asked to stop; its state is checkpointed and the same call continues it."""


@dataclass
class Progress:
    """What a hook sees after a step: `tokens` of the lineage, `trained` of them by this call.

    `data_wait` and `checkpoint_stall` are the seconds of this call in which training waited for text, and for states
    to be copied and the one before to be written. `gradient_norm` is the last step's, before it was clipped, and
    `memory` the bytes that this process has held at most: of its GPU, else of the machine.
    """

    segment: Segment
    tokens: int
    trained: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    data_wait: float = 0.0
    checkpoint_stall: float = 0.0
    gradient_norm: float = math.nan
    memory: int = 0


@dataclass
class Hooks:
    """Where a host listens and speaks: `progress` about once a second, `stop` before every step.

    `start` names the start of the run that trains; it is recorded beside the segment.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    every_seconds: float = 1.0
    start: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)


def train(
    segment: Segment,
    order: Sequences | Callable[[], Sequences],
    store: Store,
    settings: TrainingSettings,
    hooks: Hooks | None = None,
) -> Published:
    """Train one segment to its end and publish it; at once where it already stands.

    Args:
        order: of the data, or what opens it. That is called after the group's first collective: a rank that downloads
            before it would let the others run into a time-out.

    Continues from the newest good checkpoint of the segment, else from its parent, else from the root. Interrupted
    and resumed on the same hardware and world size, the result is bit-identical. Every rank of the group calls it.

    Raises:
        NonFiniteLossError: before the step that it would have poisoned.
        Interrupted: `hooks.stop` said so; a checkpoint was written first.
        CorruptError: the parent is damaged.
        StorageError: the store does not take the state.
    """
    from splitray.training import group
    from splitray.training.process import join_world

    hooks = hooks or Hooks()
    use_exact(settings.exact)
    join_world()
    while True:
        origin = group.on_first_rank(lambda: _origin(segment, store, hooks))
        if origin is None:
            return group.on_first_rank(lambda: _standing(store, segment.key))
        held = group.on_every_rank(partial(_standing, store, origin.key)) if origin.key is not None else None
        try:
            engine = start_engine(segment, held, settings)
        except CorruptError as error:  # on every rank alike
            if origin.key is None or origin.key == segment.parent:
                raise
            group.on_first_rank(partial(_invalidate, store, origin.key, error))
            continue
        return _train(_Start(segment, origin, held, engine), order, store, settings, hooks)


@dataclass(frozen=True)
class _Origin:
    """Where training starts: a token count, and the key of its state (None at the root)."""

    tokens: int
    key: str | None


@dataclass(frozen=True)
class _Start:
    """A segment about to be trained: from where, by what that publishes, with which engine."""

    segment: Segment
    origin: _Origin
    held: Published | None
    engine: Any


def _train(
    start: _Start,
    order: Sequences | Callable[[], Sequences],
    store: Store,
    settings: TrainingSettings,
    hooks: Hooks,
) -> Published:
    segment, origin, held, engine = start.segment, start.origin, start.held, start.engine
    provenance = _provenance(engine, settings, hooks.provenance, origin, held)
    loss, tokens, began = float("nan"), origin.tokens, time.monotonic()
    checkpointed, reported, data_wait, stall = began, 0.0, 0.0, 0.0
    with ExitStack() as closing:
        closing.push(partial(_close_failed, engine))
        saver = Saver(segment, store, engine)
        closing.callback(saver.close)
        feed = _feed(start, order)
        closing.callback(feed.close)
        _await_first_batch(feed, segment, engine.device, hooks)
        while tokens < segment.end:
            _seed(segment, tokens, engine.rank, engine.device)
            wish = _STOP if hooks.stop() else 0
            if engine.rank == 0 and time.monotonic() - checkpointed > settings.checkpoint_seconds:
                wish = max(wish, _CHECKPOINT)
            asked = time.monotonic()
            batch = feed.next()
            data_wait += time.monotonic() - asked
            rate = segment.learning_rate(tokens)
            loss, taken, agreed = engine.step(batch, rate, wish)
            if not taken:
                what = "the gradient is not finite" if math.isfinite(loss) else "the loss is not finite"
                raise NonFiniteLossError(
                    f"segment {segment.key}: {what} (loss {loss:.4g}) at token {tokens} of {segment.source}, learning "
                    f"rate {rate:.2g}; no step was taken. Lower training.learning_rate or look at the text drawn there"
                )
            tokens += segment.recipe.batch_tokens
            now = time.monotonic()
            if engine.rank == 0 and (now - reported > hooks.every_seconds or tokens == segment.end):
                reported, speed = now, (tokens - origin.tokens) / max(now - began, 1e-9)
                trained = tokens - origin.tokens
                seen = (data_wait, stall, engine.gradient_norm, engine.memory())
                hooks.progress(Progress(segment, tokens, trained, loss, rate, speed, *seen))
            if agreed and tokens < segment.end:
                paused = time.monotonic()
                meta = {"segment": segment.key, "tokens": tokens, **provenance}
                saver.checkpoint(meta | _trained_by(hooks.start, tokens - origin.tokens, held))
                checkpointed = time.monotonic()
                stall += checkpointed - paused
                if agreed == _STOP:
                    saver.wait()
                    raise Interrupted(f"segment {segment.key} stopped at token {tokens}; a checkpoint is kept")
        known = None if math.isnan(loss) else loss  # of no step at all
        spent = {"train_loss": known, "tokens_trained": tokens - origin.tokens, "seconds": time.monotonic() - began}
        spent |= _trained_by(hooks.start, tokens - origin.tokens, held)
        made = saver.publish(_meta(segment) | spent | provenance)
        warm.keep(engine, segment.recipe, settings)
        return made


def _feed(start: _Start, order: Sequences | Callable[[], Sequences]) -> Feed:
    from splitray.training import engine as engines
    from splitray.training import group

    engine, segment = start.engine, start.segment
    opened = group.on_every_rank(order) if callable(order) else order
    rank_batch = segment.recipe.global_batch_size // engine.world
    return Feed(opened, segment, start.origin.tokens, engine.rank, rank_batch, engines.pinned(engine.device))


def _close_failed(engine: Any, kind: type[BaseException] | None, *_: Any) -> None:
    """Close an engine whose training ends in an error; one that ends well may be kept."""
    if kind is not None:
        engine.close()


def _await_first_batch(feed: Feed, segment: Segment, device: Any, hooks: Hooks) -> None:
    """Until every rank has its first batch, asked in one collective after another: downloads outlast time-outs."""
    from splitray.training import group

    while True:
        ready, going_on = group.least([feed.ready(), not hooks.stop()], device)
        if ready:
            return
        if not going_on:
            raise Interrupted(f"stopped before segment {segment.key} had its first batch")
        feed.wait(_LOOK_SECONDS)


def _origin(segment: Segment, store: Store, hooks: Hooks) -> _Origin | None:
    """The newest good checkpoint, else the parent, else the root; None where the segment already stands.

    Checkpoints that are damaged or of another segment are withdrawn, or their keys could never be published again.
    """
    if store.find(segment.key) is not None:
        return None
    if hooks.stop():
        raise Interrupted(f"stopped before segment {segment.key}")
    for key in reversed(store.keys(checkpoints_of(segment))):
        held = store.find(key)
        if held is None:
            continue
        try:
            tokens = int(held.meta.get("tokens", -1))
            if held.meta.get("segment") != segment.key or not segment.start < tokens < segment.end:
                raise CorruptError(f"{key} is no checkpoint of {segment.key}")
            return _Origin(tokens, key)
        except CorruptError as error:
            _invalidate(store, key, error)
    assert (segment.parent is None) == (segment.start == 0), segment
    return _Origin(segment.start, segment.parent)


def _invalidate(store: Store, key: str, error: CorruptError) -> None:
    _log.warning("store: %s; the checkpoint is invalidated", error)
    store.invalidate(key)


def reached(store: Store, segments: Sequence[Segment]) -> int:
    """Tokens of segments that the store holds, in published ones and in the newest checkpoints of the others."""
    keys, total = store.keys(), 0
    for segment in segments:
        found = (CheckpointKey.match(k) for k in keys if k.startswith(checkpoints_of(segment)))
        parts = (key.tokens - segment.start for key in found if key is not None)
        total += segment.tokens if segment.key in keys else max(parts, default=0)
    return total


def _standing(store: Store, key: str) -> Published:
    published = store.find(key)
    if published is None:
        raise CorruptError(f"the store {store.root.uri} holds no readable {key}")
    return published


def _provenance(
    engine: Any, settings: TrainingSettings, extra: dict[str, Any], origin: _Origin, held: Published | None
) -> dict[str, Any]:
    """What is recorded beside a segment and not hashed: how and on what it was trained.

    `resharded` lists where, in this segment or one it descends from, a checkpoint was continued by another number of
    workers, another ZeRO stage or another kind of GPU with its software: the loss is continuous there, the bits are
    not those of an undisturbed run.
    """
    import deepspeed
    import torch

    how: dict[str, Any] = {"world": engine.world, "zero_stage": engine.stage}
    before = held.meta if held is not None else {}
    compared = dict(how)
    how["gpu"] = gpu_software()
    if before.get("gpu", how["gpu"]) != how["gpu"]:  # the first release did not record it
        compared["gpu"] = how["gpu"]
    resharded = list(before.get("resharded", []))
    if "segment" in before and any(before[k] != v for k, v in compared.items()):
        resharded.append({"tokens": origin.tokens, "from": {k: before[k] for k in compared}, "to": compared})
    return {
        **how,
        "resharded": resharded,
        "micro_batch": engine.micro,
        "threads": torch.get_num_threads(),
        "reduction": settings.reduction,
        "compile": engine.compiled or False,
        "activation_checkpointing": engine.checkpointing,
        "exact": settings.exact,
        "versions": {"torch": torch.__version__, "deepspeed": deepspeed.__version__},
        **extra,
    }


def _trained_by(start: str, trained: int, held: Published | None) -> dict[str, Any]:
    """Which starts of a run trained the tokens of a segment: this one, and those whose checkpoint it continued."""
    before = held.meta.get("trained_by", {}) if held is not None and "segment" in held.meta else {}
    return {"start": start, "trained_by": {**before, start: before.get(start, 0) + trained}} if start else {}


def _meta(segment: Segment) -> dict[str, Any]:
    return {
        "recipe": segment.recipe.to_json(),
        "phases": [asdict(p) for p in segment.phases],
        "start": segment.start,
        "end": segment.end,
        "parent": segment.parent,
        "final": segment.final,
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's threads for a block, in this thread: OpenMP keeps the number by thread, not by process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seed(segment: Segment, tokens: int, rank: int, device: Any) -> None:
    """Dropout, where a model has it, depends on (seed, token, rank) alone, so a resumed step draws the same."""
    import torch

    digest = hashlib.sha256(f"{segment.recipe.seed}/{tokens}/{rank}".encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    torch.default_generator.manual_seed(seed)  # torch.manual_seed queues a call for every kind of device it never used
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
