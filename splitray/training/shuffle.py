"""How an epoch of a domain is shuffled: a pure function of (seed, domain, epoch, place).

One shuffle permutes all sequences of the domain. So every shard is needed from the first steps on, and a machine has to
keep them all. The other works in two levels for a corpus that exceeds the disk. It permutes the shards, cuts them into
**spans** of a few shards, and permutes the sequences of each span. A machine then needs the span in use and the next.

Shards are cut by the hash of the documents' ids, so each is a random sample of its domain. What two levels lose is that
sequences of one span stay near each other.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeVar

import numpy as np

_KEPT = 2  # permutations in memory: who looks ahead asks for the next one before the one in use is over
_KEPT_SPANS = 4  # spans are read from both ends, and looked ahead in from both: a megabyte each at 2^28 tokens
T = TypeVar("T")


def generator(*parts: object) -> np.random.Generator:
    """Random numbers that the parts alone decide."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class Kept(OrderedDict[Hashable, T]):
    """The last few values of a function."""

    def __init__(self, most: int = _KEPT) -> None:
        super().__init__()
        self._most = most

    def get_or_make(self, number: Hashable, make: Callable[[], T]) -> T:
        if number not in self:
            self[number] = make()
            while len(self) > self._most:
                self.popitem(last=False)
        return self[number]


class Shuffle(Protocol):
    """The order of a domain's sequences in every epoch, in `spans` spans an epoch."""

    spans: int

    def at(self, epoch: int, place: int) -> tuple[int, int]:
        """The span of the epoch's `place`-th sequence, and which sequence of the domain that is."""
        ...

    def shards(self, epoch: int, span: int) -> Sequence[int]:
        """Which shards a span consists of."""
        ...

    def at_once(self, ahead: int, apart: int) -> int:
        """How many shards are needed at once at most; see `SpanShuffle.at_once`."""
        ...


class WholeShuffle:
    """One permutation of all sequences: an epoch is one span.

    Args:
        counts: sequences of every shard, int64 [shards].
    """

    spans = 1

    def __init__(self, seed: int, name: str, counts: np.ndarray) -> None:
        self._seed, self._name, self._shards, self._total = seed, name, range(len(counts)), int(counts.sum())
        self._epochs: Kept[np.ndarray] = Kept()

    def at(self, epoch: int, place: int) -> tuple[int, int]:
        permuted = self._epochs.get_or_make(
            epoch, lambda: generator(self._seed, self._name, epoch).permutation(self._total)
        )
        return 0, int(permuted[place])

    def shards(self, epoch: int, span: int) -> Sequence[int]:
        return self._shards

    def at_once(self, ahead: int, apart: int) -> int:
        return len(self._shards)


class SpanShuffle:
    """A permutation of the shards, and one of the sequences of every span of them.

    All spans of an epoch have the same number of shards, up to one.

    Args:
        counts: sequences of every shard, int64 [shards].
        tokens: of every shard, int64 [shards].
        most: tokens of a span at most; a span has one shard at least.
    """

    def __init__(self, seed: int, name: str, counts: np.ndarray, tokens: np.ndarray, most: int) -> None:
        self._seed, self._name, self._counts = seed, name, counts
        self._offsets = np.cumsum(counts) - counts
        self._filled = np.flatnonzero(counts)  # a shard shorter than a sequence gives none
        self._size = max(1, most // int(tokens[self._filled].max(initial=1)))
        self.spans = max(1, -(-len(self._filled) // self._size))
        self._fewest = max(1, len(self._filled) // self.spans)  # shards of a span
        self._layouts: Kept[tuple[list[np.ndarray], np.ndarray]] = Kept(_KEPT_SPANS)
        self._permuted: Kept[np.ndarray] = Kept(_KEPT_SPANS)

    def at(self, epoch: int, place: int) -> tuple[int, int]:
        _, edges = self._layout(epoch)
        span = int(np.searchsorted(edges, place, side="right")) - 1
        permuted = self._permuted.get_or_make((epoch, span), lambda: self._permute(epoch, span))
        return span, int(permuted[place - int(edges[span])])

    def shards(self, epoch: int, span: int) -> Sequence[int]:
        return [int(shard) for shard in self._layout(epoch)[0][span]]

    def at_once(self, ahead: int, apart: int) -> int:
        """How many shards the processes of a machine need at once at most.

        Args:
            ahead: sequences from the last one that some process needs to the first that some process fetches.
            apart: those of them that lie between two processes. Each fetches the next span at the earliest.
        """
        spans = min(self._covered(ahead), self._covered(apart) + 1)
        return min(len(self._filled), spans * self._size)

    def _covered(self, sequences: int) -> int:
        """How many spans so many sequences in a row can touch: the first, the last, and those between, the shortest.

        A short shard may end one epoch and begin the next.
        """
        shortest = np.repeat(np.sort(self._counts[self._filled]), 2)
        ends = np.cumsum(shortest)[self._fewest - 1 :: self._fewest]
        return 2 + int(np.searchsorted(ends, sequences, side="right"))

    def _layout(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The shards of every span, and the places at which spans begin, with the epoch's end."""
        return self._layouts.get_or_make(epoch, lambda: self._lay_out(epoch))

    def _lay_out(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        shards = generator(self._seed, self._name, epoch, "shards").permutation(self._filled)
        spans = np.array_split(shards, self.spans)
        return spans, np.cumsum([0, *(int(self._counts[span].sum()) for span in spans)])

    def _permute(self, epoch: int, span: int) -> np.ndarray:
        shards = self._layout(epoch)[0][span]
        sequences = [self._offsets[shard] + np.arange(self._counts[shard]) for shard in shards]
        return generator(self._seed, self._name, epoch, "span", span).permutation(np.concatenate(sequences))


def shuffle_of(seed: int, name: str, counts: np.ndarray, tokens: np.ndarray, most: int | None) -> Shuffle:
    """The shuffle of a domain: of all its sequences, or in spans of at most so many tokens."""
    return WholeShuffle(seed, name, counts) if most is None else SpanShuffle(seed, name, counts, tokens, most)
