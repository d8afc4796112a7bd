"""Spans of shards against their definition, sequence by sequence: by enumeration, and by what a machine must keep."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitray.training.data import Order
from splitray.training.feed import Feed, reach
from splitray.training.recipe import Recipe
from splitray.training.tree import MIXTURE, Leaf
from tests.support import tiny

LENGTH, SEED = 16, 3
EVEN = {"a": 0.5, "b": 0.5}
COUNTS = {"a": [9, 0, 12, 12, 5, 12, 11, 12], "b": [8, 8, 8, 2]}  # sequences of each shard; one is too short for any


class Recorded:
    """A shard that tells when it is opened and closed. Its sequence w holds the tokens (first + w) * 100 + 0...16."""

    is_remote = True

    def __init__(self, name: str, first: int, count: int, log: list[tuple[str, bool]]) -> None:
        self.name, self._log, self.is_open, self.count = name, log, False, count
        starts = np.repeat((first + np.arange(count)) * LENGTH, LENGTH) + np.tile(np.arange(LENGTH), count)
        self._array = np.append(starts, (first + count) * LENGTH)

    def __len__(self) -> int:
        return len(self._array) if self.count else 7

    def __getitem__(self, place: slice) -> np.ndarray:
        self.open()
        return self._array[place]

    def open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self._log.append((self.name, True))

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._log.append((self.name, False))


def make(most: int | None, log: list[tuple[str, bool]] | None = None, counts: Any = COUNTS) -> Order:
    log = [] if log is None else log
    domains = {
        d: [
            Recorded(f"{d}{n}", 10**4 * k + sum(sizes[:n]), count, log)  # sequence numbers go on over the shards
            for n, count in enumerate(sizes)
        ]
        for k, (d, sizes) in enumerate(sorted(counts.items()))
    }
    return Order(domains, {d: 1 / len(counts) for d in counts}, LENGTH, SEED, most)


def drawn(order: Order, source: str, start: int, count: int) -> list[int]:
    """Which sequence each is: 10,000 for a domain, and one for each sequence before it in the domain."""
    rows = order.sequences(source, start, count)
    assert (np.diff(rows, axis=1) == 1).all() and (rows[:, 0] % LENGTH == 0).all()
    return [int(n) // LENGTH for n in rows[:, 0]]


def shard_of(domain: str, sequence: int) -> int:
    return int(np.searchsorted(np.cumsum(COUNTS[domain]), sequence % 10**4, side="right"))


MOST = [1, 200, 400, 600, 10**6]  # a shard of 12 sequences has 193 tokens: 1, 1, 2, 3 and all shards a span


@pytest.mark.parametrize("most", MOST)
@pytest.mark.parametrize("domain", ["a", "b"])
def test_an_epoch_has_every_sequence_once_and_epochs_differ(most: int, domain: str) -> None:
    order, total = make(most), sum(COUNTS[domain])
    first = 0 if domain == "a" else 10**4
    epochs = [drawn(order, domain, e * total, total) for e in range(4)]
    assert all(sorted(e) == list(range(first, first + total)) for e in epochs)
    assert all(one != other for n, one in enumerate(epochs) for other in epochs[:n])
    assert drawn(make(most), domain, 2 * total + 5, 30) == (epochs[2] + epochs[3])[5:35], "from any place"


@pytest.mark.parametrize("most", MOST)
def test_shards_are_drawn_in_spans_of_even_size(most: int) -> None:
    """Of the 7 shards of a that hold a sequence, at most so many at once; the rest of the epoch never meets them."""
    size = max(1, most // 193)
    spans = -(-7 // size)
    sequences = drawn(make(most), "a", 0, sum(COUNTS["a"]))[::-1]  # a domain alone is read from the back
    left, found = [shard_of("a", s) for s in sequences], list[set[int]]()
    while left:
        # the smallest beginning of what is left whose shards do not come again
        cut = next(n for n in range(1, len(left) + 1) if not set(left[:n]) & set(left[n:]))
        found.append(set(left[:cut]))
        left = left[cut:]
    assert [len(span) for span in found] == [len(part) for part in np.array_split(range(7), spans)]
    assert set.union(*found) == set(range(8)) - {1}, "the short shard gives none"


def test_shards_of_a_span_are_mixed_and_neighbours_of_one_part() -> None:
    """In 200 epochs of b a shard stands on every place of the epoch alike, and so does a sequence in its span."""
    order, total = make(17 * LENGTH, counts={"a": [4], "b": [8, 8, 8, 8]}), 32
    epochs = [drawn(order, "b", e * total, total) for e in range(200)]
    place = np.array([[e.index(10**4 + s) for s in range(total)] for e in epochs])
    assert np.abs(place.mean(axis=0) - 15.5).max() < 4 * 9.23 / np.sqrt(200), "mean of a uniform place: 15.5 +- 9.23"
    halves = place // 16
    assert all((halves[:, shard * 8 : shard * 8 + 8].std(axis=1) == 0).all() for shard in range(4)), "whole shards"
    together = (halves[:, 0] == halves[:, 8]).mean()
    assert abs(together - 1 / 3) < 4 * np.sqrt(2 / 9 / 200), "two shards of four share a span of two in a third"
    inside = place % 16
    runs = [abs(int(a) - int(b)) for row in inside for a, b in pairwise(row[:8])]
    assert abs(np.mean(runs) - 17 / 3) < 0.5, "mean distance of two of 16 places without repetition: 17/3"


@given(st.integers(0, 900), st.integers(1, 20), st.sampled_from([MIXTURE, "a", "b", "a+b"]), st.sampled_from([1, 2, 4]))
@settings(max_examples=60, deadline=None)
def test_a_pure_function_whatever_was_drawn_before_and_in_slices(
    start: int, count: int, source: str, world: int
) -> None:
    order, other = make(400), make(400)
    other.sequences(MIXTURE, 333, 5)
    list(other.look("a", 99, 5))
    whole = order.sequences(source, start, count * world)
    slices = [other.sequences(source, start + rank * count, count) for rank in reversed(range(world))]
    assert np.array_equal(whole, np.concatenate(slices[::-1]))


@pytest.mark.parametrize("split", [10, 41, 72])
def test_mixture_and_domain_together_are_one_epoch(split: int) -> None:
    order, mixture, index = make(400), list[int](), 0
    while len(mixture) < split:
        mixture += [s for s in drawn(order, MIXTURE, index, 1) if s < 10**4]
        index += 1
    own = drawn(order, "a", 0, sum(COUNTS["a"]) - split)
    assert sorted(mixture + own) == list(range(sum(COUNTS["a"])))


def test_the_order_of_whole_domains_is_another_and_keeps_its_shards_open() -> None:
    log: list[tuple[str, bool]] = []
    whole = make(None, log)
    assert drawn(whole, "a", 0, 40) != drawn(make(10**6), "a", 0, 40)
    drawn(whole, "a", 40, 300)
    whole.leave()
    assert all(opened for _, opened in log) and not whole.passes


def kept(log: list[tuple[str, bool]]) -> int:
    """The most shards that were open at once."""
    opened = np.cumsum([1 if one else -1 for _, one in log])
    assert opened[-1] == 0, "all are closed in the end"
    return int(opened.max())


@pytest.mark.parametrize("replay", [0.0, 0.4])
@pytest.mark.parametrize("most", [1, 400])
@pytest.mark.parametrize("begin", [0, 177])
def test_a_feed_keeps_two_spans_of_each_order_and_opens_a_shard_once_an_epoch(
    most: int, replay: float, begin: int
) -> None:
    """From the start of a segment of four epochs, and resumed inside: two ranks draw what one process draws."""
    counts = {"a": [120, 120, 120, 120, 120, 60], "b": [200, 200, 200]}
    most *= 10
    recipe = replace(tiny.make_recipe(), shuffle_tokens=most)
    segment = next(s for s in tiny.segments(recipe, Leaf(64, 600 * 64, "a"), replay=replay) if s.source == "a")
    plain = make(most, counts=counts)
    for rank in range(2):
        log: list[tuple[str, bool]] = []
        order = make(most, log, counts)
        feed = Feed(order, segment, segment.start + begin * 64, rank, 2)
        for number in range(begin, segment.tokens // 64):
            runs = segment.draws(number * 4 + segment.cursor(segment.start) + rank * 2, 2)
            assert np.array_equal(feed.next(), np.concatenate([plain.sequences(*run) for run in runs]))
        feed.close()
        size = max(1, most // (120 * LENGTH + 1))
        opened = Counter(name for name, one in log if one)
        assert kept(log) <= (2 * size if not replay else 2 * size + min(6, 4 * size) + 3)
        if not replay:
            epochs = segment.tokens / LENGTH / 660
            assert set(opened) == {f"a{n}" for n in range(6)} and max(opened.values()) <= np.ceil(epochs)


@pytest.mark.parametrize("most", [1, 200, 400, 600])
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_at_once_bounds_what_any_stretch_of_the_order_touches(most: int, batch: int) -> None:
    """Enumerated over three epochs: a process stands at each place in turn, and another is ahead of it."""
    order, total = make(most), sum(COUNTS["a"])
    shards = [shard_of("a", s) for s in drawn(order, "a", 0, 3 * total)]
    order.leave()
    spans = [spans for _, spans in order.look("a", 0, 3 * total)]
    far = reach(batch)
    told, found = order.at_once(["a"], **far)["a"], 0
    for behind in range(2 * total):
        ahead = min(behind + far["apart"], 3 * total) - 1
        fetched = [n for n in range(behind, min(behind + far["ahead"], 3 * total)) if spans[n] <= spans[ahead] + 1]
        found = max(found, len({shards[n] for n in fetched}))
    assert found <= told <= 7
    assert order.at_once(["a", MIXTURE], **far)["a"] >= told and set(order.at_once([MIXTURE], **far)) == {"a", "b"}


def test_two_spans_suffice_where_spans_are_long() -> None:
    counts = {"a": [1000] * 12, "b": [1000] * 4}
    order = make(3 * 1000 * LENGTH + 3, counts=counts)
    assert order.at_once(["a"], **reach(4)) == {"a": 6}
    assert order.at_once(["a", MIXTURE], **reach(4)) == {"a": 12, "b": 4}


def test_a_recipe_without_spans_is_written_as_before() -> None:
    plain, spans = tiny.make_recipe(), tiny.make_recipe(tiny.training(shuffle_tokens=4096))
    assert "shuffle_tokens" not in plain.to_json() and spans.to_json()["shuffle_tokens"] == 4096
    assert plain.hash != spans.hash and Recipe.from_json(spans.to_json()) == spans
    assert "shuffle_tokens" not in tiny.training().identity()
    assert tiny.training(shuffle_tokens=4096).identity()["shuffle_tokens"] == 4096
