"""The order of the data: a batch is a pure function of (seed, source, index in the global order).

Documents of a domain are concatenated and cut into windows of `sequence_length` (plus one token, the last target);
each epoch shuffles the windows anew (see `shuffle`). The mixture reads a domain's permutation from its front, the
domain's own stretch reads it from its back: the two share no window until together they have drawn the whole epoch,
though both start at their own index 0. A source of several domains reads each from its back too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from splitray.errors import UserError
from splitray.training.shuffle import Kept, generator, shuffle_of
from splitray.training.tree import MIXTURE, Segment, members

_BLOCK = 1024  # sequences over which the mixture's shares are kept exact


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


class Windows:
    """One domain's training windows.

    Args:
        shards: 1-D token arrays (memory-mapped), documents separated by the end token. Those that have a `close` are
            closed once both ends have passed their span.
        shuffle_tokens: of a span at most; None: the whole domain is one.
    """

    def __init__(
        self, name: str, shards: Sequence[Shard], sequence_length: int, seed: int, shuffle_tokens: int | None = None
    ) -> None:
        self.name, self._shards, self._length = name, list(shards), sequence_length
        tokens = np.array([len(s) for s in self._shards], dtype=np.int64)
        counts = np.maximum(0, (tokens - 1) // sequence_length)
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._shuffle = shuffle_of(seed, name, counts, tokens, shuffle_tokens)
        self._reached: dict[bool, int] = {}  # the span that each end has come to, counted on over the epochs
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

    def _find(self, index: int, from_back: bool) -> tuple[int, int]:
        """The span in which this end reads its `index`-th sequence, counted on over the epochs, and the window."""
        epoch, place = divmod(index, len(self))
        span, window = self._shuffle.at(epoch, len(self) - 1 - place if from_back else place)
        return epoch * self._shuffle.spans + self._mirrored(span, from_back), window

    def _mirrored(self, span: int, from_back: bool) -> int:
        return self._shuffle.spans - 1 - span if from_back else span

    def draw(self, index: int, from_back: bool) -> np.ndarray:
        """The `index`-th sequence of this domain: int array of sequence_length + 1 tokens."""
        span, window = self._find(index, from_back)
        if self._reached.get(from_back) != span:
            self._reach(span, from_back)
        return self[window]

    def _reach(self, span: int, from_back: bool) -> None:
        passed = self._in_use()
        self._reached[from_back] = span
        for shard in passed - self._in_use():
            _close(self._shards[shard])

    def _in_use(self) -> set[int]:
        """The shards of the spans that the two ends have come to."""
        found = set[int]()
        for from_back, reached in self._reached.items():
            epoch, span = divmod(reached, self._shuffle.spans)
            found.update(self._shuffle.shards(epoch, self._mirrored(span, from_back)))
        return found

    def look(self, index: int, from_back: bool) -> tuple[Shard, int]:
        """The shard that holds the `index`-th sequence, and how many spans ahead of the last drawn one it lies.

        Nothing of it is read. Where nothing was drawn yet, the first look counts instead.
        """
        span, window = self._find(index, from_back)
        return self._shards[self._shard(window)], span - self._reached.setdefault(from_back, span)

    def leave(self) -> None:
        """Nothing is drawn for a while: shards that would be closed in their turn are closed."""
        self._reached.clear()
        if self.passes:
            for shard in self._shards:
                _close(shard)

    @property
    def passes(self) -> bool:
        """Whether shards are closed before the epoch is over."""
        return self._shuffle.spans > 1

    def at_once(self, ahead: int, apart: int) -> int:
        """How many shards are needed at once; see `SpanShuffle.at_once`."""
        return self._shuffle.at_once(ahead, apart)

    def shards(self) -> list[Shard]:
        return list(self._shards)


def _close(shard: Any) -> None:
    if (close := getattr(shard, "close", None)) is not None:
        close()


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
        self._blocks: Kept[tuple[np.ndarray, np.ndarray]] = Kept()

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
        picks = generator(self._seed, self._name, block).permutation(np.repeat(np.arange(len(counts)), counts))
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
        shuffle_tokens: of a span at most, see `shuffle`; None: each domain is one.

    One thread at a time may draw or look.
    """

    drawn_ahead = True  # see `Feed`

    def __init__(
        self,
        domains: Mapping[str, Sequence[Shard]],
        weights: Mapping[str, float],
        sequence_length: int,
        seed: int,
        shuffle_tokens: int | None = None,
    ) -> None:
        self._length = sequence_length
        self._windows = {n: Windows(n, s, sequence_length, seed, shuffle_tokens) for n, s in domains.items()}
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
        rows = np.empty((count, self._length + 1), dtype=np.int64)  # copied at once: an array keeps its file in use
        for row, index in zip(rows, range(start, start + count), strict=True):
            windows, place, from_back = self._place(source, index)
            row[:] = windows.draw(place, from_back)
        return rows

    def look(self, source: str, start: int, count: int) -> Iterator[tuple[Shard, int]]:
        """The shards that hold those sequences, in the order of need, and how many spans ahead each is needed.

        Nothing of them is read. Spans count from the one that its domain's order was drawn from last.
        """
        for index in range(start, start + count):
            windows, place, from_back = self._place(source, index)
            yield windows.look(place, from_back)

    @property
    def passes(self) -> bool:
        """Whether some shard is closed and opened again while the order is drawn."""
        return any(windows.passes for windows in self._windows.values())

    def leave(self) -> None:
        """Nothing is drawn for a while: what is kept for the sake of a place in the order is given up."""
        for windows in self._windows.values():
            windows.leave()

    def at_once(self, sources: Iterable[str], ahead: int, apart: int) -> dict[str, int]:
        """How many shards of every domain a machine needs at once at most, while it draws from all these sources.

        Args:
            ahead, apart: in sequences of a source, see `SpanShuffle.at_once`.
        """
        needed = dict[str, int]()
        for source in sources:
            for name, share, slack in self._shares(source):
                windows = self._windows[name]
                shards = windows.at_once(*(int(np.ceil(share * (n + slack))) for n in (ahead, apart)))
                needed[name] = min(needed.get(name, 0) + shards, len(windows.shards()))
        return needed

    def _shares(self, source: str) -> Iterator[tuple[str, float, int]]:
        """The domains of a source with their share, and the sequences over which that may not be kept yet."""
        if source in self._windows:
            yield source, 1.0, 0
            return
        drawn = self.domains([source])
        total, blend = sum(self._weights[n] for n in drawn), self.blend(source)
        for name in drawn:
            yield name, self._weights[name] / total, 2 * blend.block

    def domains(self, sources: Iterable[str]) -> list[str]:
        """The domains that some sources draw from, sorted."""
        named = set(sources)
        mixed = {n for n, weight in self._weights.items() if weight > 0} if MIXTURE in named else set()
        return sorted(mixed.union(*(members(source) for source in named - {MIXTURE})))

    @property
    def names(self) -> list[str]:
        """All domains, drawn from or not."""
        return list(self._windows)

    def shards(self, domain: str) -> list[Shard]:
        """The shards of one domain."""
        return self._windows[domain].shards()
