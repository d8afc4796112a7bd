"""Curves, resampling, efficiency ratios and their slope, against planted truths and direct computation."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from splitray.errors import UserError
from splitray.results.study import LOSS_DOMAIN, Answer, StudyRun
from splitray.results.study_analysis import AT_LEAST, AT_MOST, MEASURED, UNKNOWN, Interval, RatioSlope
from splitray.study.analysis.gap import GENERALS_BEST, HALFWAY, OWN_BEST, ratios
from splitray.study.analysis.resampling import trajectories
from splitray.study.analysis.slope import fit_power_law, ratio_slope
from splitray.study.analysis.tables import StudyTable
from tests.study.analysis.planted_study import SIZES, World

FINE = tuple(int(t) for t in np.geomspace(20_000, 2_000_000, 12))


def sger(table: StudyTable, arm: str = "filtered", named: str = GENERALS_BEST, draws: int = 200) -> list:
    found = ratios(trajectories(table, LOSS_DOMAIN, draws))
    return [r for r in found if r.arm == arm and r.named == named]


@pytest.mark.parametrize("named", [GENERALS_BEST, HALFWAY])
def test_the_ratio_is_the_planted_worth_of_a_token_at_every_level(named: str) -> None:
    world = World()
    for row in sger(world.study(tokens=FINE), named=named):
        assert row.kind == MEASURED
        assert row.ratio.low == pytest.approx(world.worth(row.params, "filtered"), rel=0.02)


def test_an_arm_that_never_gets_there_gives_a_bound_and_no_number() -> None:
    world = World()
    for row in sger(world.study(tokens=FINE), named=OWN_BEST):
        assert row.kind == AT_LEAST and row.ratio.high is None and row.high is None
        assert row.general.high is None and row.unmeasured == 1.0
        assert row.ratio.low is not None and row.ratio.low <= world.worth(row.params, "filtered")
    worse = World(rho={"filtered": 0.2}, q={})
    for row in sger(worse.study(tokens=FINE)):
        assert row.kind == AT_MOST and row.ratio.low is None
        assert row.ratio.high is not None and row.ratio.high >= 0.2


def test_a_level_that_no_training_is_needed_for_has_no_ratio() -> None:
    table = World().study(seeds=1)
    base = {r.model: r.value for r in table.runs if r.tokens == 0 and r.measure == LOSS_DOMAIN}
    worse = [
        dataclasses.replace(r, value=base[r.model] * 1.01) if r.arm == "general" and r.tokens else r for r in table.runs
    ]
    rows = sger(StudyTable(worse))
    assert {r.kind for r in rows} == {UNKNOWN}
    slope = ratio_slope(rows)
    assert slope.slope is None and "0 of 5 sizes" in slope.reason


def test_the_slope_of_a_power_law_is_found_through_a_bound() -> None:
    world = World()
    rows = sger(world.study())  # with these snapshots the largest size is a bound
    assert [r.kind for r in rows] == [MEASURED] * 4 + [AT_LEAST]
    found = ratio_slope(rows)
    assert found.slope is not None and found.slope.value == pytest.approx(0.3, abs=0.01)
    assert (found.sizes, found.censored, len(found.left_out)) == (5, 1, 5)
    at_reference = 5.0 * (found.reference / 600_000) ** 0.3
    assert found.at_reference == pytest.approx(at_reference, rel=0.02)


def test_without_bounds_the_interval_of_the_slope_is_students() -> None:
    random = np.random.default_rng(0)
    x = np.log(np.array(list(SIZES.values())) / 6e5)
    y = 1.0 + 0.3 * x + 0.2 * random.standard_normal(x.size)
    fitted, line = fit_power_law(x, y, y), stats.linregress(x, y)
    half = stats.t.ppf(0.975, x.size - 2) * line.stderr
    assert fitted is not None
    assert fitted.b == pytest.approx(line.slope, abs=1e-3)
    assert (fitted.low, fitted.high) == pytest.approx((line.slope - half, line.slope + half), abs=2e-3)


def test_a_likelihood_with_bounds_is_better_than_taking_them_for_numbers() -> None:
    """Of 40 tables whose ratios above 4 are cut off, intervals have the true slope about as often as they say."""
    random = np.random.default_rng(1)
    x = np.log(np.array([0.1, 0.2, 0.5, 1.0, 2.0, 5.0]))
    held, off, naive = 0, [], []
    for _ in range(40):
        y = 1.0 + 0.4 * x + 0.15 * random.standard_normal(x.size)
        low, high = np.minimum(y, math.log(4)), np.where(y > math.log(4), math.inf, y)
        fitted = fit_power_law(x, low, high)
        assert fitted is not None
        held += fitted.low <= 0.4 <= fitted.high
        off.append(fitted.b - 0.4)
        naive.append(np.polyfit(x, low, 1)[0] - 0.4)
    assert held >= 34
    assert abs(np.mean(off)) < 0.03 < abs(np.mean(naive))


def test_ratios_that_are_all_bounds_have_no_slope() -> None:
    found = ratio_slope(sger(World().study(), named=OWN_BEST))
    assert found.slope is None and "bounds on one side" in found.reason and found.left_out == ()


def test_one_number_beside_bounds_tells_a_side_of_the_slope_and_no_slope() -> None:
    """Four sizes need 16 times at least, and the largest exactly that: any steep fall fits, however steep."""
    number, bound = (Interval(16.0, 16.0), MEASURED), (Interval(16.0, None), AT_LEAST)

    def measured_at(place: int) -> RatioSlope:
        rows = sger(World().study())
        known = [number if n == place else bound for n in range(len(rows))]
        return ratio_slope(
            [dataclasses.replace(r, ratio=ratio, kind=kind) for r, (ratio, kind) in zip(rows, known, strict=True)]
        )

    found = measured_at(4)
    assert (found.sizes, found.censored) == (5, 4)
    assert found.slope is None and found.at_reference is None and found.left_out == ()
    assert "it is below 0.00" in found.reason and "snapshots at fewer tokens" in found.reason
    assert "it is above 0.00" in measured_at(0).reason


def test_intervals_of_the_ratio_have_the_truth_as_often_as_they_say() -> None:
    world, held, of = World(), 0, 0
    for draw in range(12):
        for row in sger(world.study(tokens=FINE, noise=0.002, draw=draw), draws=150):
            exact = world.worth(row.params, "filtered")
            held += (row.low or 0.0) <= exact <= (row.high or math.inf)
            of += 1
    assert 0.85 * of <= held, (held, of)


def test_arms_are_paired_by_seed() -> None:
    """What a seed shares over all arms moves the curves far, and their difference not at all."""
    rows = []
    for seed, factor in enumerate((0.9, 1.0, 1.1)):
        for arm, offset in (("general", 0.0), ("filtered", -0.5)):
            for tokens in (0, 100, 200):
                loss = (4.0 + (offset if tokens else 0.0)) * factor
                rows.append(
                    StudyRun("m", "own", 1000, arm, seed, tokens, 6e3 * tokens, 1e-3, 0.1, LOSS_DOMAIN, loss, False)
                )
    general, filtered = trajectories(StudyTable(rows), LOSS_DOMAIN, draws=300)
    assert np.ptp(general.values[1:, -1]) > 0.3
    ratio = filtered.values / general.values
    assert np.ptp(ratio[:, -1]) < 1e-12


def test_questions_are_drawn_in_pairs_as_a_direct_bootstrap_draws_them() -> None:
    random = np.random.default_rng(3)
    hard = random.normal(1.0, 0.5, 80)  # what all models share
    gain = random.normal(-0.05, 0.1, 80)
    runs, answers = [], []
    for arm in ("general", "filtered"):
        nats = hard + (gain if arm == "filtered" else 0.0)
        run = StudyRun("m", "own", 1000, arm, 0, 500, 3e6, 1e-3, 0.1, "exam/e/nats_per_byte", nats.mean(), False)
        runs += [run, dataclasses.replace(run, measure="exam/e/accuracy", value=0.5)]
        runs.append(dataclasses.replace(run, measure="exam/e/margin", value=0.0))
        answers += [Answer("m", arm, 0, 500, "e", q, float(n), 0.0, 0.5) for q, n in enumerate(nats)]
    general, filtered = trajectories(StudyTable(runs, answers), "exam/e/nats_per_byte", draws=2000)
    paired = (filtered.values - general.values)[1:, 0]
    direct = gain[np.random.default_rng(9).integers(80, size=(2000, 80))].mean(axis=1)
    assert filtered.questions == 80
    assert paired.std() == pytest.approx(direct.std(), rel=0.08)
    assert paired.std() < 0.5 * filtered.values[1:, 0].std()


def test_checkpoints_are_chosen_by_validation_text_and_never_by_an_exam() -> None:
    rows = []
    for tokens, loss, nats in ((0, 5.0, 2.0), (100, 4.0, 1.5), (200, 3.0, 1.2), (300, 3.5, 0.5)):
        run = StudyRun("m", "own", 1000, "general", 0, tokens, 6e3 * tokens, 1e-3, 0.1, LOSS_DOMAIN, loss, False)
        rows += [run, dataclasses.replace(run, measure="exam/e/nats_per_byte", value=nats)]
    [line] = trajectories(StudyTable(rows), "exam/e/nats_per_byte")
    assert line.tokens[line.chosen] == 200 and line.best()[0] == 1.2


def test_one_seed_borrows_the_spread_of_the_other_sizes() -> None:
    table = World().study(noise=0.003)
    largest = [r for r in table.runs if r.model != "h128" or r.seed == 0]
    lines = {t.model.name: t for t in trajectories(StudyTable(largest), LOSS_DOMAIN) if t.arm == "general"}
    alone, shared = (lines[m].values[1:, -1].std() / lines[m].values[0, -1] for m in ("h128", "h96"))
    assert lines["h128"].seeds == 1
    assert alone == pytest.approx(math.sqrt(3) * shared, rel=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": math.nan}, "loss/domain is nan"),
        ({"arm": "medium"}, "none of general"),
        ({"params": 7}, "must be those of one model"),
        ({}, "is there twice"),
    ],
)
def test_rows_that_no_study_leaves_are_named(change: dict, message: str) -> None:
    table = World().study(seeds=1)
    bad = dataclasses.replace(table.runs[8], **change)
    kept = [r for r in table.runs if (r.arm, r.tokens, r.measure) != (bad.arm, bad.tokens, bad.measure) or not change]
    with pytest.raises(UserError, match=message):
        StudyTable([*kept, bad]).check()
