"""The order of the data: a batch is a pure function of (seed, source, index in the global order).

Documents of a domain are concatenated and cut into windows of `sequence_length` (plus one token, the last target);
each epoch permutes the windows anew. The mixture reads a domain's permutation from its front, the domain's own
stretch reads it from its back: the two share no window until together they have drawn the whole epoch, though
both start at their own index 0. A source of several domains reads each from its back too.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from splitray.errors import UserError
from splitray.training.tree import MIXTURE, Segment, members

_BLOCK = 1024  # sequences over which the mixture's shares are kept exact
_KEPT = 2  # permutations in memory: who looks ahead asks for the next one before the one in use is over
T = TypeVar("T")


class Sequences(Protocol):
    """An order of the data: sequences `start` to `start + count` of a source, int64 [count, sequence_length + 1]."""

    def sequences(self, source: str, start: int, count: int) -> np.ndarray: ...


class Shard(Protocol):
    """A 1-D array of tokens, whole or cut by a slice; what reads it may have to fetch it first."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> np.ndarray: ...


def draw(order: Sequences, segment: Segment, start: int, count: int) -> np.ndarray:
    """Sequences `start` to `start + count` of a segment's stretch, replayed ones among them.

    int64 [count, sequence_length + 1].
    """
    runs = [order.sequences(*run) for run in segment.draws(start, count)]
    return runs[0] if len(runs) == 1 else np.concatenate(runs)


def _generator(*parts: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class _Kept(OrderedDict[int, T]):
    """The last few values of a function of one number."""

    def get_or_make(self, number: int, make: Callable[[], T]) -> T:
        if number not in self:
            self[number] = make()
            while len(self) > _KEPT:
                self.popitem(last=False)
        return self[number]


class Windows:
    """One domain's training windows.

    Args:
        shards: 1-D token arrays (memory-mapped), documents separated by the end token.
    """

    def __init__(self, name: str, shards: Sequence[Shard], sequence_length: int, seed: int) -> None:
        self.name, self._shards, self._length, self._seed = name, list(shards), sequence_length, seed
        counts = [max(0, (len(s) - 1) // sequence_length) for s in self._shards]
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._epochs: _Kept[np.ndarray] = _Kept()
        if len(self) == 0:
            raise UserError(
                f"domain {name} has fewer training tokens than one sequence of {sequence_length + 1}; "
                "shorten training.sequence_length, give more text of it, or have fewer domains"
            )

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __getitem__(self, window: int) -> np.ndarray:
        shard = self._shard(window)
        begin = (window - int(self._offsets[shard])) * self._length
        return self._shards[shard][begin : begin + self._length + 1]

    def _shard(self, window: int) -> int:
        return int(np.searchsorted(self._offsets, window, side="right")) - 1

    def _window(self, index: int, from_back: bool) -> int:
        epoch, place = divmod(index, len(self))
        permuted = self._epochs.get_or_make(
            epoch, lambda: _generator(self._seed, self.name, epoch).permutation(len(self))
        )
        return int(permuted[-1 - place if from_back else place])

    def draw(self, index: int, from_back: bool) -> np.ndarray:
        """The `index`-th sequence of this domain: int array of sequence_length + 1 tokens."""
        return self[self._window(index, from_back)]

    def shard_of(self, index: int, from_back: bool) -> Shard:
        """The shard that holds the `index`-th sequence. Nothing of it is read."""
        return self._shards[self._shard(self._window(index, from_back))]

    def shards(self) -> list[Shard]:
        return list(self._shards)


class Blend:
    """Which domain each sequence of a blend is of, and its place in that domain's order; shares are kept over blocks.

    Args:
        name: of the blend: the mixture, or a source of several domains. Each draws in an order of its own.
        weights: share of every domain in it.
    """

    def __init__(self, name: str, weights: Mapping[str, float], seed: int) -> None:
        self._name, self._names, self._seed = name, sorted(weights), seed
        share = np.array([weights[n] for n in self._names], dtype=np.float64)
        self._edges = np.concatenate([[0.0], np.cumsum(share / share.sum())])
        self._edges[-1] = 1.0
        # every domain with a share gets at least two sequences a block, so that rounding never goes backwards
        self.block = max(_BLOCK, int(np.ceil(2 / share[share > 0].min() * share.sum())))
        self._blocks: _Kept[tuple[np.ndarray, np.ndarray]] = _Kept()

    def _drawn(self, sequences: int) -> np.ndarray:
        """How many of the blend's first `sequences` (a whole number of blocks) fall on each domain."""
        return np.diff(np.floor(self._edges * sequences + 1e-9)).astype(np.int64)

    def pick(self, index: int) -> tuple[str, int]:
        """Domain of the blend's `index`-th sequence, and its place in that domain's order."""
        block, place = divmod(index, self.block)
        picks, places = self._blocks.get_or_make(block, lambda: self._picks(block))
        return self._names[int(picks[place])], int(places[place])

    def _picks(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """For every sequence of a block: the domain, and the place in that domain's order."""
        before = self._drawn(block * self.block)
        counts = self._drawn((block + 1) * self.block) - before
        picks = _generator(self._seed, self._name, block).permutation(np.repeat(np.arange(len(counts)), counts))
        places = np.empty(len(picks), dtype=np.int64)
        for domain in range(len(counts)):
            chosen = picks == domain
            places[chosen] = before[domain] + np.arange(int(chosen.sum()))
        return picks, places


class Order:
    """The global order of every source of a corpus.

    Args:
        domains: training shards of every domain, by name. A shard is read when a sequence of it is drawn.
        weights: share of every domain in the mixture.

    One thread at a time may draw.
    """

    drawn_ahead = True  # see `Feed`

    def __init__(
        self, domains: Mapping[str, Sequence[Shard]], weights: Mapping[str, float], sequence_length: int, seed: int
    ) -> None:
        self._windows = {n: Windows(n, shards, sequence_length, seed) for n, shards in domains.items()}
        self._weights, self._seed = {n: weights[n] for n in domains}, seed
        self._blends = {MIXTURE: Blend(MIXTURE, self._weights, seed)}

    def blend(self, source: str) -> Blend:
        """The blend of the mixture, or of several domains: they keep the shares that they have to each other in it."""
        if source not in self._blends:
            self._blends[source] = Blend(source, {n: self._weights[n] for n in members(source)}, self._seed)
        return self._blends[source]

    def _place(self, source: str, index: int) -> tuple[Windows, int, bool]:
        """Whose window a source's `index`-th sequence is, its place in that domain's order, and from which end."""
        domain, place = (source, index) if source in self._windows else self.blend(source).pick(index)
        return self._windows[domain], place, source != MIXTURE

    def sequences(self, source: str, start: int, count: int) -> np.ndarray:
        """Sequences `start` to `start + count` of a source: int64 [count, sequence_length + 1]."""
        rows = []
        for index in range(start, start + count):
            windows, place, from_back = self._place(source, index)
            rows.append(windows.draw(place, from_back))
        return np.stack(rows).astype(np.int64)

    def needed(self, source: str, start: int, count: int) -> Iterator[Shard]:
        """The shards that hold those sequences, in the order in which they are needed. Nothing of them is read."""
        for index in range(start, start + count):
            windows, place, from_back = self._place(source, index)
            yield windows.shard_of(place, from_back)

    def domains(self, sources: Iterable[str]) -> list[str]:
        """The domains that some sources draw from, sorted."""
        named = set(sources)
        mixed = {n for n, weight in self._weights.items() if weight > 0} if MIXTURE in named else set()
        return sorted(mixed.union(*(members(source) for source in named - {MIXTURE})))

    def shards(self, domain: str) -> list[Shard]:
        """The shards of one domain."""
        return self._windows[domain].shards()
