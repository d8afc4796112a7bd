"""Batches that are drawn ahead are those that are drawn in the step, whatever happens to the thread that draws them."""

import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splitray.errors import StorageError
from splitray.training.data import Order, draw
from splitray.training.feed import Feed
from splitray.training.tree import MIXTURE, Leaf, Segment
from tests.support import tiny

RECIPE = tiny.make_recipe()
SEGMENTS = tiny.segments(RECIPE, Leaf(30 * 64, 40 * 64, "a"), replay=0.3)


class Remote:
    """A shard that is fetched when it is opened, as `MappedShard`; fetching waits for `gate`."""

    is_remote = True

    def __init__(self, array: np.ndarray, gate: threading.Event, opened: list[str], name: str) -> None:
        self._array, self._gate, self._opened, self._name, self.is_open = array, gate, opened, name, False

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, place: slice) -> np.ndarray:
        return self.open()[place]

    def open(self) -> np.ndarray:
        self._opened.append(self._name)
        if not self._gate.wait(30):
            raise StorageError("the line is dead")
        self.is_open = True
        return self._array


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def remote(gate: threading.Event, opened: list[str]) -> Order:
    shards = {d: [Remote(s, gate, opened, f"{d}{n}") for n, s in enumerate(a)] for d, a in tiny.arrays().items()}
    return Order(shards, tiny.WEIGHTS, 16, 0)


@pytest.mark.parametrize("segment", SEGMENTS, ids=lambda s: f"{s.source}-{s.end}")
@pytest.mark.parametrize("pinned", [False, True])
def test_batches_are_those_of_the_order(segment: Segment, pinned: bool, gate: threading.Event) -> None:
    """Two epochs and more, with replay, from the segment's middle; buffers are used again only after the step."""
    gate.set()
    allocated: list[np.ndarray] = []

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        allocated.append(np.empty(shape, dtype=np.int64))
        return allocated[-1]

    start = segment.start + 2 * 64
    feed = Feed(remote(gate, []), segment, start, 1, 2, allocate if pinned else None)
    plain, before = tiny.order(), np.empty(0)
    for tokens in range(start, segment.end, 64):
        batch = feed.next()
        assert np.array_equal(batch, draw(plain, segment, segment.cursor(tokens) + 2, 2)) and batch.dtype == np.int64
        if pinned and tokens > start:
            assert not np.shares_memory(batch, before), "the batch of the step before may still be on its way"
        before = batch
    feed.close()
    assert len(allocated) == (5 if pinned else 0)


def test_shards_are_fetched_in_the_order_of_need_and_of_ones_own_domain(gate: threading.Event) -> None:
    opened: list[str] = []
    specialist = next(s for s in tiny.segments(RECIPE, Leaf(64, 40 * 64, "b")) if s.source == "b")
    feed = Feed(remote(gate, opened), specialist, specialist.start, 0, 4)
    assert not feed.ready()
    gate.set()
    feed.next()
    feed.close()
    assert feed.ready() and set(opened) == {"b0", "b1"}, "a specialist reads its domain only"


def test_an_error_is_raised_where_the_batch_is_asked_for(gate: threading.Event) -> None:
    class Broken(Order):
        def sequences(self, source: str, start: int, count: int) -> np.ndarray:
            if start >= 8:
                raise StorageError("the line is dead")
            return super().sequences(source, start, count)

    feed = Feed(Broken(tiny.arrays(), tiny.WEIGHTS, 16, 0), SEGMENTS[0], 0, 0, 4)
    assert [feed.next().shape for _ in range(2)] == [(4, 17)] * 2 and feed.ready()
    with pytest.raises(StorageError, match="the line is dead"):
        feed.next()
    feed.close()


def test_a_feed_that_nobody_reads_ends() -> None:
    feeds = [Feed(tiny.order(), SEGMENTS[0], 0, 0, 4) for _ in range(3)]
    for feed in feeds:
        feed.close()
    assert not [t for t in threading.enumerate() if t.name == "feed"]


def test_a_feed_is_as_small_for_a_long_segment() -> None:
    endless = replace(SEGMENTS[-1], phases=(*SEGMENTS[-1].phases[:-1], replace(SEGMENTS[-1].phases[-1], end=10**8)))
    tracemalloc.start()
    feed = Feed(remote(threading.Event(), []), endless, 10**7, 0, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    feed.close()
    assert peak < 2**20, "a million batches and more are ahead"


def test_an_order_that_does_not_say_so_is_drawn_in_the_step() -> None:
    drawn: list[Any] = []

    class Own:
        def sequences(self, source: str, start: int, count: int) -> np.ndarray:
            drawn.append((source, start, count))
            return np.zeros((count, 17), dtype=np.int64)

    feed = Feed(Own(), SEGMENTS[0], 0, 1, 2)
    assert feed.ready() and not drawn
    feed.next()
    assert drawn == [(MIXTURE, 2, 2)]


def test_a_source_that_the_corpus_lacks_is_an_error_at_once() -> None:
    """In the thread it would have been seen by nobody, and the first batch waited for for ever."""
    order = Order({"a": tiny.arrays()["a"]}, tiny.WEIGHTS, 16, 0)
    other = next(s for s in tiny.segments(RECIPE, Leaf(64, 40 * 64, "b")) if s.source == "b")
    with pytest.raises(KeyError):
        Feed(order, other, other.start, 0, 4)
