"""Comparisons worked out by hand, and intervals that must cover what they claim."""

import numpy as np
import pytest

from splitray.evaluate.compare import LN2, Scores, difference, matrix, mean, routed


def scores(nats: list[float], tokens: list[float], size: int = 100) -> Scores:
    return Scores(np.array(nats), np.array(tokens), size)


def test_loss_is_per_token_and_bits_are_per_byte() -> None:
    one = scores([6.0, 4.0], [2, 3], size=20)
    assert one.loss == 2.0 and one.bits_per_byte == pytest.approx(10 / np.log(2) / 20)
    table = matrix({"m": {"x": one, "y": scores([3.0], [1])}}, ["y", "x"])
    assert table.models == ("m",) and table.loss == ((3.0, 2.0),)
    assert table.bits_per_byte[0][1] == one.bits_per_byte


def test_routed_loss_by_hand() -> None:
    """Three specialists x three domains; the router sends one of x's two documents to y, and all of z's to x."""
    tokens = {"x": [2, 4], "y": [5], "z": [1, 3]}
    nats = {
        "x": {"x": [2, 8], "y": [20], "z": [7, 9]},
        "y": {"x": [6, 10], "y": [10], "z": [8, 8]},
        "z": {"x": [9, 9], "y": [30], "z": [1, 2]},
    }
    table = {m: {d: scores(list(map(float, v)), tokens[d], 10) for d, v in row.items()} for m, row in nats.items()}
    routes = {"x": np.array([0, 1]), "y": np.array([1]), "z": np.array([0, 0])}
    weights = {"x": 0.5, "y": 0.25, "z": 0.25}
    found = routed(table, routes, ["x", "y", "z"], weights)
    loss = {"x": (2 + 10) / 6, "y": 10 / 5, "z": (7 + 9) / 4}
    assert found.loss == pytest.approx(0.5 * loss["x"] + 0.25 * loss["y"] + 0.25 * loss["z"])
    assert found.known_loss == pytest.approx(0.5 * 10 / 6 + 0.25 * 10 / 5 + 0.25 * 3 / 4)
    assert found.bits_per_byte == pytest.approx((0.5 * 12 + 0.25 * 10 + 0.25 * 16) / LN2 / 10)
    assert found.agreement == 2 / 5
    own = {d: np.full(len(t), i) for i, (d, t) in enumerate(tokens.items())}
    perfect = routed(table, own, ["x", "y", "z"], weights)
    assert perfect.loss == pytest.approx(perfect.known_loss) and perfect.agreement == 1


def test_mean_follows_the_weights() -> None:
    assert mean({"x": 1.0, "y": 3.0, "unused": 9.0}, {"x": 0.25, "y": 0.75}) == 2.5


def test_the_difference_is_weighted_and_paired() -> None:
    ours = {"x": scores([1.0, 2.0], [1, 2]), "y": scores([8.0], [4])}
    other = {"x": scores([2.0, 4.0], [1, 2]), "y": scores([4.0], [4])}
    found = difference(ours, other, {"x": 0.5, "y": 0.5})
    assert found.value == pytest.approx(0.5 * (3 - 6) / 3 + 0.5 * (8 - 4) / 4)
    # every document of x gains one nat a token and y has but one: resampling changes nothing
    assert found.low == pytest.approx(found.value) == found.high
    with pytest.raises(AssertionError):
        difference(ours, other | {"x": scores([2.0, 4.0], [2, 1])}, {"x": 0.5, "y": 0.5})


def test_the_interval_covers_the_truth() -> None:
    """Documents of different length whose gap has a known mean of 0.05 nats a token: 95 % intervals, 200 samples."""
    draw, covered, widths = np.random.default_rng(5), 0, []
    for _ in range(200):
        found = []
        for _ in ("x", "y"):
            tokens = draw.integers(50, 400, size=60).astype(float)
            base = tokens * draw.normal(3.0, 0.5, size=60)
            gap = tokens * draw.normal(0.05, 0.3, size=60)
            found.append((Scores(base + gap, tokens, 1), Scores(base, tokens, 1)))
        ours, other = ({d: pair[i] for d, pair in zip(("x", "y"), found, strict=True)} for i in (0, 1))
        told = difference(ours, other, {"x": 0.5, "y": 0.5}, draws=400)
        assert told.low < told.value < told.high
        covered += told.low <= 0.05 <= told.high
        widths.append(told.high - told.low)
    assert 0.90 <= covered / 200 <= 0.985, covered
    # pairing takes the documents' own spread out: unpaired, 0.5 nats of it would widen the interval
    assert np.mean(widths) < 0.16
