"""The engine that a segment begins with: from nothing, or from a published state of any world, read by all ranks.

In a group every rank reads an even share of the weights and sends it to the others, then the moments of what it holds
itself. So all of a state is read about once for the group, whoever wrote it: 4 bytes a parameter pass the network.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from splitray.errors import CorruptError
from splitray.storage.store import Published
from splitray.training import state as states
from splitray.training import warm
from splitray.training.settings import TrainingSettings
from splitray.training.shards import INDEX, MOMENTS, WEIGHTS, Piece, Reader, shares
from splitray.training.tree import Segment

if TYPE_CHECKING:
    import torch

Ready = dict[Piece, "torch.Tensor"]


class Source(Protocol):
    """A state of which pieces can be read."""

    shapes: dict[str, tuple[int, ...]]
    step: int

    @property
    def has_moments(self) -> bool: ...

    def read(self, piece: Piece) -> "torch.Tensor": ...


def start_engine(segment: Segment, held: Published | None, settings: TrainingSettings) -> Any:
    """The engine of a segment, in the state that `held` publishes or at its model's initial weights. Collective.

    Raises (on every rank):
        CorruptError: `held` is damaged on the way to some rank, or no state of this model.
    """
    from splitray.training import engine as engines
    from splitray.training import group
    from splitray.training.model import build, trained

    if held is None:
        return engines.Engine(build(segment.recipe), segment.recipe, settings)
    if group.world_size() == 1:
        return _alone(segment, states.load(held), settings)
    source = group.on_every_rank(lambda: _source(held))
    model = build(segment.recipe)
    tensors = {(WEIGHTS, name): param.detach().view(-1) for name, param in trained(model).items()}
    group.on_every_rank(lambda: states.check_names({n: p.shape for n, p in trained(model).items()}, source.shapes))
    _spread(source, [WEIGHTS], tensors)
    engine = engines.Engine(model, segment.recipe, settings)
    try:
        _restore(engine, source)
    except BaseException:
        engine.close()
        raise
    return engine


def _alone(segment: Segment, start: states.State, settings: TrainingSettings) -> Any:
    from splitray.training import engine as engines
    from splitray.training.model import build

    engine = warm.take(segment.recipe, settings)
    if engine is not None:
        states.load_weights(engine.lm, start)
    else:
        model = build(segment.recipe)
        states.load_weights(model, start)
        engine = engines.Engine(model, segment.recipe, settings)
    engine.restore(start)
    return engine


def _restore(engine: Any, source: Source) -> None:
    """Set the moments of what this rank holds."""
    from splitray.training import group

    held = engine.fragments()
    if engine.stage == 0:  # everything, on every rank: read once, and sent
        _spread(source, MOMENTS, {(k, f.name): f.values[k] for f in held for k in MOMENTS})
    else:
        pieces = [(fragment, kind) for kind in MOMENTS for fragment in held]
        read: Callable[[], list[torch.Tensor]] = lambda: [source.read(f.piece(k)) for f, k in pieces]  # noqa: E731
        for (fragment, kind), values in zip(pieces, group.on_every_rank(read)):
            fragment.values[kind].copy_(values)
    engine.count_steps(source.step)


def _spread(source: Source, kinds: Iterable[str], tensors: "Mapping[tuple[str, str], torch.Tensor]") -> None:
    """Fill flat tensors that every rank has in full: each reads its share, and sends it to the others. Collective."""
    import torch

    from splitray.training import group

    every = shares(kinds, source.shapes, group.world_size())
    mine = group.on_every_rank(lambda: {piece: source.read(piece) for piece in every[group.rank()]})
    with torch.no_grad():
        for rank, pieces in enumerate(every):
            for piece in pieces:
                part = tensors[piece.kind, piece.name][piece.start : piece.stop]
                part.copy_(group.sent(mine.get(piece), len(part), rank))


def _source(held: Published) -> Source:
    source: Source = Reader(held) if INDEX in held.files else _Whole(held)
    if not source.has_moments:
        raise CorruptError(f"{held.key} holds no moments, so training cannot continue from it")
    return source


class _Whole:
    """A state that one process has written, as a file of weights and a file of moments: read by memory map."""

    def __init__(self, published: Published) -> None:
        self._files = {
            name: published.fetch(name, trust=True)
            for name in (states.WEIGHT_FILE, states.MOMENT_FILE)
            if name in published.files
        }
        self.shapes = {}
        for name, file in self._tensors(states.WEIGHT_FILE):
            self.shapes[name] = tuple(file.get_slice(name).get_shape())
        self.key, self.step = published.key, int(published.recorded("step"))
        if self.has_moments:
            wanted = {f"{m}/{name}": shape for name, shape in self.shapes.items() for m in MOMENTS}
            found = {n: tuple(f.get_slice(n).get_shape()) for n, f in self._tensors(states.MOMENT_FILE)}
            if wanted != found:
                raise CorruptError(f"{self.key}: its moments do not belong to its weights")

    @property
    def has_moments(self) -> bool:
        return states.MOMENT_FILE in self._files

    def _tensors(self, file: str) -> Iterable[tuple[str, Any]]:
        with _opened(self._files[file]) as tensors:
            yield from [(name, tensors) for name in tensors.keys()]  # noqa: SIM118 - it is no dictionary

    def read(self, piece: Piece) -> "torch.Tensor":
        file, name = states.MOMENT_FILE, f"{piece.kind}/{piece.name}"
        if piece.kind == WEIGHTS:
            file, name = states.WEIGHT_FILE, piece.name
        with _opened(self._files[file]) as tensors:
            values: torch.Tensor = tensors.get_tensor(name).reshape(-1)[piece.start : piece.stop].clone()
        return values


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{path}: {error}") from error
