"""Comparisons worked out by hand, and intervals that must cover what they claim."""

import numpy as np
import pytest

from splitray.evaluate.compare import (
    LN2,
    Scores,
    contrasts,
    difference,
    forgetting,
    matrix,
    mean,
    resampled,
    routed,
)


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
    assert found.low == pytest.approx(found.value) and found.high == pytest.approx(found.value)
    with pytest.raises(AssertionError):
        difference(ours, other | {"x": scores([2.0, 4.0], [2, 1])}, {"x": 0.5, "y": 0.5})


def test_forgetting_by_hand() -> None:
    """Two specialists: x's gained 1 nat a token on x, lost 2 on y and 3 on z; y's lost half a nat on x alone."""
    tokens, weights = {"x": [2.0], "y": [4.0], "z": [5.0]}, {"x": 0.5, "y": 0.25, "z": 0.25}
    base = {d: scores([3 * t for t in ts], ts) for d, ts in tokens.items()}
    change = {"x": {"x": -1.0, "y": 2.0, "z": 3.0}, "y": {"x": 0.5, "y": 0.0, "z": 0.0}}
    rows = {m: {d: scores([(3 + c[d]) * t for t in ts], ts) for d, ts in tokens.items()} for m, c in change.items()}
    first, second = forgetting(rows, base, weights)
    assert (first.domain, first.before, first.after) == ("x", 3.0, pytest.approx(3 + 0.5 * -1 + 0.25 * 2 + 0.25 * 3))
    assert first.difference.value == pytest.approx(first.after - first.before)
    assert first.elsewhere is not None and first.elsewhere.value == pytest.approx((2 + 3) / 2)
    assert second.elsewhere is not None and second.elsewhere.value == pytest.approx(0.5 * 0.5 / 0.75)
    (alone,) = forgetting({"x": {"x": rows["x"]["x"]}}, {"x": base["x"]}, {"x": 1.0})
    assert alone.elsewhere is None and alone.difference.value == pytest.approx(-1.0)


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


WEIGHTS = {"x": 0.75, "y": 0.25}
CLUSTER, SHARED, OWN = 8, 0.2, 0.2  # documents of a group; deviations of what they share, and of each alone


def clustered(seed: int, groups: int = 60, truth: float = 0.05) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """Documents of equal length in groups, whose gap in nats a token has a known mean; a model and the other one."""
    draw, ours, other = np.random.default_rng(seed), {}, {}
    for domain in WEIGHTS:
        shared = np.repeat(draw.normal(truth, SHARED, size=groups), CLUSTER)
        gap = shared + draw.normal(0, OWN, size=groups * CLUSTER)
        names = np.repeat([f"{domain}-{g}" for g in range(groups)], CLUSTER)
        order = draw.permutation(len(gap))
        base, tokens = draw.normal(300, 50, size=len(gap)), np.full(len(gap), 100.0)
        ours[domain] = Scores(base + 100 * gap[order], tokens, 1, names[order])
        other[domain] = Scores(base, tokens, 1, names[order])
    return ours, other


def plain_bootstrap(ours: dict[str, Scores], other: dict[str, Scores], draws: int = 2000) -> tuple[float, float]:
    """Whole groups drawn with replacement within every domain: the 95 % interval."""
    random, found = np.random.default_rng(9), []
    members = {}
    for domain in WEIGHTS:
        names = ours[domain].groups
        assert names is not None
        members[domain] = [np.flatnonzero(names == name) for name in sorted(set(names))]
    for _ in range(draws):
        total = 0.0
        for domain, weight in WEIGHTS.items():
            some = members[domain]
            rows = np.concatenate([some[g] for g in random.integers(len(some), size=len(some))])
            gap = (ours[domain].nats - other[domain].nats)[rows]
            total += weight * gap.sum() / ours[domain].tokens[rows].sum()
        found.append(total)
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def alone(scores: dict[str, Scores]) -> dict[str, Scores]:
    """The same documents, each its own group."""
    return {d: Scores(s.nats, s.tokens, s.text_bytes) for d, s in scores.items()}


def test_intervals_over_groups_are_those_of_a_plain_bootstrap() -> None:
    ours, other = clustered(3)
    found, (low, high) = difference(ours, other, WEIGHTS, draws=4000), plain_bootstrap(ours, other)
    assert found.low == pytest.approx(low, abs=0.06 * (high - low))
    assert found.high == pytest.approx(high, abs=0.06 * (high - low))


def test_groups_widen_intervals_by_the_design_effect() -> None:
    """Kish's design effect of equal groups is 1 + (m - 1) times the correlation within a group: here 4.5."""
    effect = 1 + (CLUSTER - 1) * SHARED**2 / (SHARED**2 + OWN**2)
    ratios, covered, covered_alone, samples = [], 0, 0, 150
    for seed in range(samples):
        ours, other = clustered(seed)
        grouped = difference(ours, other, WEIGHTS, draws=400)
        single = difference(alone(ours), alone(other), WEIGHTS, draws=400)
        assert grouped.value == pytest.approx(single.value)
        ratios.append((grouped.high - grouped.low) / (single.high - single.low))
        covered += grouped.low <= 0.05 <= grouped.high
        covered_alone += single.low <= 0.05 <= single.high
    assert np.mean(ratios) == pytest.approx(np.sqrt(effect), rel=0.05)
    assert 0.90 <= covered / samples <= 0.99, covered
    assert covered_alone / samples < 0.75, "documents of one group are not independent"


def test_a_group_with_documents_in_two_domains_is_drawn_once() -> None:
    """What it gains in one domain it loses in the other: drawn together, that cancels in every draw."""
    draw = np.random.default_rng(0)
    gap, tokens = draw.normal(0, 30, size=40), np.full(40, 100.0)
    names = np.array([f"book {n}" for n in range(40)])
    other = {d: Scores(np.full(40, 300.0), tokens, 1, names) for d in "ab"}
    ours = {"a": Scores(300 + gap, tokens, 1, names), "b": Scores(300 - gap, tokens, 1, names)}
    found = difference(ours, other, {"a": 0.5, "b": 0.5})
    assert found.high - found.low < 1e-9
    assert resampled(ours, {"a": 0.5, "b": 0.5}).groups == 40
    apart = difference(alone(ours), alone(other), {"a": 0.5, "b": 0.5})
    assert apart.high - apart.low > 0.05
    counted = resampled(alone(ours), {"a": 0.5, "b": 0.5})
    assert (counted.groups, counted.documents, counted.by_domain) == (80, 80, {"a": 40, "b": 40})


def test_the_plan_is_compared_with_every_other_split() -> None:
    ours, other = clustered(1, truth=-0.3)
    near = {d: Scores(s.nats + np.tile([1.0, -1.0], len(s.nats) // 2), s.tokens, 1, s.groups) for d, s in ours.items()}
    found = {c.strategy: c for c in contrasts({"planned": ours, "unsplit": other, "half": near}, "planned", WEIGHTS)}
    assert list(found) == ["unsplit", "half"]
    assert found["unsplit"].significant and found["unsplit"].difference == difference(ours, other, WEIGHTS)
    assert not found["half"].significant and found["half"].difference.value == pytest.approx(0)
