"""The order of the data against its definition, window by window."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitray.errors import UserError
from splitray.training.data import Order
from splitray.training.tree import MIXTURE, union
from tests.support import tiny

LENGTH = 16


def identity(windows: dict[str, int]) -> dict[str, list[np.ndarray]]:
    """Shards whose window w of the k-th domain holds tokens k * 10^6 + w * LENGTH + 0...LENGTH, in two shards."""
    made = {}
    for k, (name, count) in enumerate(sorted(windows.items())):
        stream = 10**6 * k + np.arange(count * LENGTH + 1)
        cut = (count // 2) * LENGTH
        made[name] = [stream[: cut + 1], stream[cut:]] if cut else [stream]
    return made


def drawn(order: Order, source: str, start: int, count: int) -> list[tuple[int, int]]:
    """(domain, window) of each sequence, and that each is a whole window with its one target token more."""
    rows = order.sequences(source, start, count)
    assert rows.dtype == np.int64 and rows.shape == (count, LENGTH + 1)
    assert (np.diff(rows, axis=1) == 1).all() and (rows[:, 0] % 10**6 % LENGTH == 0).all()
    return [(int(r[0]) // 10**6, int(r[0]) % 10**6 // LENGTH) for r in rows]


def make(windows: dict[str, int], weights: dict[str, float], seed: int = 0) -> Order:
    return Order(identity(windows), weights, LENGTH, seed)


EVEN = {"a": 0.5, "b": 0.5}


@given(st.integers(0, 5000), st.integers(1, 40), st.sampled_from([MIXTURE, "a", "b"]), st.sampled_from([1, 2, 4]))
@settings(max_examples=60)
def test_pure_function_and_ranks_slice_it(start: int, count: int, source: str, world: int) -> None:
    """Whatever was drawn before, and in whatever slices: the same sequences."""
    order, other = make({"a": 37, "b": 90}, EVEN), make({"a": 37, "b": 90}, EVEN)
    other.sequences(MIXTURE, 999, 3)
    whole = order.sequences(source, start, count * world)
    slices = [other.sequences(source, start + rank * count, count) for rank in reversed(range(world))]
    assert np.array_equal(whole, np.concatenate(slices[::-1]))


def test_the_seed_and_the_source_decide() -> None:
    first, second = make({"a": 50, "b": 50}, EVEN), make({"a": 50, "b": 50}, EVEN, seed=1)
    for source in (MIXTURE, "a"):
        assert drawn(first, source, 0, 50) != drawn(second, source, 0, 50)
    assert [w for _, w in drawn(first, "a", 0, 50)] != [w for _, w in drawn(first, "b", 0, 50)]


def test_epochs_draw_every_window_once_and_reshuffle() -> None:
    order = make({"a": 37, "b": 90}, EVEN)
    epochs = [[w for _, w in drawn(order, "a", e * 37, 37)] for e in range(3)]
    assert all(sorted(e) == list(range(37)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_mixture_and_domain_share_no_window_until_the_epoch_is_drawn() -> None:
    """The mixture reads a domain's permutation from its front, the domain's own stretch from its back."""
    order = make({"a": 80, "b": 80}, EVEN)
    for split in (10, 40, 79):
        mixture: Counter[int] = Counter()
        index = 0
        while sum(mixture.values()) < split:
            ((domain, window),) = drawn(order, MIXTURE, index, 1)
            mixture[window] += domain == 0
            index += 1
        own = [w for _, w in drawn(order, "a", 0, 80 - split)]
        assert not set(own) & {w for w, n in mixture.items() if n}, split
        assert sorted([*own, *mixture.elements()]) == list(range(80)), "together they are one epoch"


@pytest.mark.parametrize(
    "weights", [EVEN, {"a": 0.001, "b": 0.999}, {"a": 0.3, "b": 0.2, "c": 0.5}, {"a": 0.0, "b": 1.0}]
)
def test_the_mixture_keeps_its_shares(weights: dict[str, float]) -> None:
    """At the end of each block the counts are the shares to the sequence, and every domain's order has no gap."""
    windows = dict.fromkeys(weights, 50)
    order = make(windows, weights)
    block = order.blend(MIXTURE).block
    rows = drawn(order, MIXTURE, 0, 3 * block)
    for blocks in (1, 2, 3):
        counts = Counter(domain for domain, _ in rows[: blocks * block])
        for k, name in enumerate(sorted(weights)):
            assert abs(counts[k] - weights[name] * blocks * block) < 1, (name, blocks)
    for k, name in enumerate(sorted(weights)):
        places = [w for domain, w in rows if domain == k]
        for epoch in range(len(places) // 50):
            assert sorted(places[epoch * 50 : (epoch + 1) * 50]) == list(range(50)), name
    # shuffled inside a block: no long run of one domain where the shares are even
    if weights == EVEN:
        assert max(len(run) for run in "".join(str(d) for d, _ in rows[:block]).replace("01", "0 1").split()) < 40


def test_several_domains_as_one_source_keep_their_shares_to_each_other() -> None:
    """b and c have 0.2 and 0.6 of the mixture, so one sequence in four is b's; each is read as its own stretch is."""
    order = make({"a": 50, "b": 60, "c": 70}, {"a": 0.2, "b": 0.2, "c": 0.6})
    source = union(["c", "b"])
    assert source == union(["b", "c"])
    block = order.blend(source).block
    rows = drawn(order, source, 0, block)
    counts = Counter(domain for domain, _ in rows)
    assert (counts[0], counts[1], counts[2]) == (0, block // 4, 3 * block // 4)
    for k, name in ((1, "b"), (2, "c")):
        assert [w for d, w in rows if d == k] == [w for _, w in drawn(order, name, 0, counts[k])], name
    assert drawn(order, source, 7, 5) == rows[7:12]


def test_a_domain_shorter_than_a_sequence_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"domain b .*fewer training tokens than one sequence of 17"):
        Order({"a": [np.arange(40)], "b": [np.arange(16)]}, EVEN, LENGTH, 0)


def test_real_shards_lose_only_their_tails() -> None:
    """What is cut into windows is the shards' own tokens, less a rest shorter than a window each."""
    shards = tiny.arrays(windows=40)
    order = Order(shards, EVEN, LENGTH, 3)
    count = sum((len(s) - 1) // LENGTH for s in shards["a"])
    rows = order.sequences("a", 0, count)
    told = sorted(tuple(r) for r in rows)
    expected = [s[i : i + LENGTH + 1] for s in shards["a"] for i in range(0, len(s) - LENGTH, LENGTH)]
    assert told == sorted(tuple(int(t) for t in row) for row in expected)
