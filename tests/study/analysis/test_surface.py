"""The law's view of a study: recovery of planted surfaces, forecasts, advice and its regret."""

import dataclasses
import json
import math

import numpy as np
import pytest

from splitray.errors import CorruptError, UserError
from splitray.results.study import LOSS_DOMAIN
from splitray.results.study_analysis import StudyAnalysis, StudyForecast
from splitray.study.analysis.advice import Means, ShelfModel, advise
from splitray.study.analysis.analyse import analyse
from splitray.study.analysis.arm_forms import effective
from splitray.study.analysis.foresight import forecast, score, surface_of
from splitray.study.analysis.regret import ADVICE, ALWAYS, NEVER, regret
from splitray.study.analysis.resampling import trajectories
from splitray.study.analysis.surface import fit_surface
from splitray.study.analysis.tables import StudyTable
from tests.study.analysis.planted_study import SIZES, TOKENS, World

WORLD = World()
CROSSING = World(rho={"filtered": 1.0}, q={"filtered": 0.8})  # filtering hurts small models and helps large ones


def test_the_planted_surface_is_found_without_noise() -> None:
    surface = surface_of(WORLD.study(seeds=1))
    assert surface.form.name == "worth"
    assert surface.heldout["worth"] < 1e-4 < surface.heldout["closing"]
    for params in (600_000, 10_000_000):
        assert surface.predict(params, 2e6, "filtered")[0, 0] == pytest.approx(
            WORLD.loss(params, 2e6, "filtered"), 1e-4
        )
        assert surface.multiplier(params, 2e6, "filtered")[0] == pytest.approx(WORLD.worth(params, "filtered"), 0.01)


def test_two_sizes_forecast_a_third_from_its_loss_before() -> None:
    table = WORLD.study({name: SIZES[name] for name in ("h32", "h64", "h128")}, noise=0.002)
    before = float(np.mean([r.value for r in table.runs if (r.model, r.measure, r.tokens) == ("h128", LOSS_DOMAIN, 0)]))
    found = score(forecast(table.without("h128"), SIZES["h128"], TOKENS, before=before), table.only(["h128"]))
    assert found.relative < 0.03 and found.best_arm_right


def test_arms_have_one_loss_before_training() -> None:
    surface = surface_of(WORLD.study(noise=0.003))
    at_zero = [surface.predict(SIZES["h64"], 0.0, arm) for arm in surface.arms]
    assert np.ptp(at_zero, axis=0).max() < 1e-4


def test_intervals_have_the_truth_at_least_as_often_as_they_say() -> None:
    held = dict.fromkeys(("inside", "beyond", "multiplier"), 0)
    for draw in range(8):
        table = WORLD.study(noise=0.003, draw=draw)
        surface = fit_surface(trajectories(table, LOSS_DOMAIN, draws=60), draws=80)
        assert surface is not None
        for name, params in (("inside", 600_000), ("beyond", 10_000_000)):
            low, high = np.quantile(surface.predict(params, 2e6, "filtered")[1:, 0], [0.1, 0.9])
            held[name] += low <= WORLD.loss(params, 2e6, "filtered") <= high
        low, high = np.quantile(surface.multiplier(10_000_000, 2e6, "filtered")[1:], [0.1, 0.9])
        held["multiplier"] += low <= WORLD.worth(10_000_000, "filtered") <= high
    assert min(held.values()) >= 4, held  # 80 % of 8 are 6; 3 or less have a chance of 1 % there


def test_an_arm_below_the_general_floor_is_infinitely_better() -> None:
    """An arm closes a gap that general text leaves open: the other form is chosen, and its multiplier has no end."""
    rows = []
    for row in World(rho={"filtered": 1.0}, q={}).study(seeds=1).runs:
        gap = 0.8 * (1 - (1 + row.tokens / 300_000) ** -0.6) if row.arm == "filtered" else 0.0
        rows.append(dataclasses.replace(row, value=row.value - gap))
    surface = surface_of(StudyTable(rows))
    assert surface.form.name == "closing"
    assert math.isinf(surface.multiplier(1e9, 1e9, "filtered")[0])


def test_repeated_text_counts_as_muennighoff_count_it() -> None:
    assert float(effective(50.0, 100.0)) == 50.0
    assert float(effective(400.0, 100.0)) == pytest.approx(100 * (1 + 15.4 * (1 - math.exp(-3 / 15.4))))
    assert float(effective(1e9, 100.0)) == pytest.approx(100 * 16.4)
    slope = float(effective(100.001, 100.0) - effective(100.0, 100.0)) / 0.001
    assert slope == pytest.approx(1.0, abs=1e-3)


def test_a_forecast_is_sealed_and_scored() -> None:
    table = WORLD.study(noise=0.002)
    known, unseen = table.without("h128"), table.only(["h128"])
    before = float(np.mean([r.value for r in unseen.runs if r.measure == LOSS_DOMAIN and r.tokens == 0]))
    made = forecast(known, SIZES["h128"], TOKENS, before=before)
    again = StudyForecast.parse(json.loads(json.dumps(made.plain())), "a forecast")
    assert again == made
    changed = made.plain() | {"params": 1.0}
    with pytest.raises(CorruptError, match="checksum"):
        StudyForecast.parse(changed, "a forecast")
    found = score(made, unseen)
    assert len(found.points) == 12 and found.relative < 0.01 and found.inside >= 0.6
    assert found.differences is not None and found.differences < 0.05 and found.best_arm_right
    assert made.ratios["filtered"].holds(WORLD.worth(SIZES["h128"], "filtered"))
    with pytest.raises(UserError, match="nothing of the forecast was measured"):
        score(made, known)
    with pytest.raises(UserError, match="no forecast for mix"):
        forecast(known, 1e6, TOKENS, ["mix"])


@pytest.mark.parametrize(("params", "arm"), [(100_000, "general"), (3_000_000, "filtered")])
def test_advice_filters_where_it_pays_and_not_elsewhere(params: int, arm: str) -> None:
    surface = surface_of(CROSSING.study(noise=0.001))
    found = advise(surface, Means(6.0 * params * 1_500_000, [ShelfModel("mine", params)]))
    assert found.first.arm == arm and (found.first.best or 0) > 0.9
    assert found.first.tokens == pytest.approx(1_500_000)
    assert found.other_arm is not None and found.other_arm.low is not None and found.other_arm.low > 0


def test_advice_takes_the_best_size_of_the_shelf() -> None:
    surface = surface_of(WORLD.study(noise=0.001))
    flops = 6.0 * 600_000 * 2_000_000
    shelf = [ShelfModel(name, params) for name, params in SIZES.items()]
    found = advise(surface, Means(flops, shelf))
    truth = {
        (name, arm): WORLD.loss(params, flops / (6 * params), arm)
        for name, params in SIZES.items()
        for arm in ("general", "filtered")
    }
    assert (found.first.model, found.first.arm) == min(truth, key=lambda o: truth[o])
    assert found.first.loss.value == pytest.approx(min(truth.values()), rel=0.01)
    assert len(found.options) == 10 and sum(o.best or 0 for o in found.options) == pytest.approx(1.0)


def test_little_text_of_the_topic_changes_the_advice() -> None:
    """Filtered tokens are worth 1.5 general ones, until there are so few that they are read 100 times."""
    world = World(rho={"filtered": 1.5}, q={})
    surface = surface_of(world.study(noise=0.001))
    shelf, flops = [ShelfModel("mine", 600_000)], 6.0 * 600_000 * 2_000_000
    plenty, little = (advise(surface, Means(flops, shelf, topic_tokens=t)) for t in (4_000_000, 20_000))
    assert plenty.first.arm == "filtered" and plenty.first.epochs == pytest.approx(0.5)
    assert little.first.arm == "general"
    assert plenty.more_text is not None and plenty.more_text.value == pytest.approx(0.0, abs=1e-9)
    poor = advise(surface, Means(flops, shelf, topic_tokens=100_000), arms=["filtered"])
    assert poor.more_text is not None and poor.more_text.value > 0.01
    assert any("20 times" in note for note in poor.unknown)


def test_the_run_that_decides_is_named_where_the_choice_is_open_and_only_there() -> None:
    open_world = World(rho={"filtered": 1.03}, q={})
    surface = surface_of(open_world.study(noise=0.02, seeds=2))
    assert surface.form.name == "closing"  # the form that cannot say by itself that an arm is worse
    means = Means(6.0 * 600_000 * 2_000_000, [ShelfModel("mine", 600_000)])
    found = advise(surface, means)
    assert found.decider is not None and 0 < found.decider.saved < 0.2
    assert found.decider.flops <= means.flops * 1.0001
    assert 0.1 < (found.first.best or 0) < 0.95
    clear = advise(surface_of(WORLD.study(noise=0.001)), means)
    assert clear.decider is None and clear.first.arm == "filtered"


def test_advice_needs_something_to_choose_from() -> None:
    surface = surface_of(WORLD.study(seeds=1))
    with pytest.raises(UserError, match="0 models"):
        advise(surface, Means(1e12, []))
    with pytest.raises(UserError, match="two sizes"):
        surface_of(WORLD.study({"h32": 100_000}))


def test_regret_on_a_size_and_on_a_domain_that_were_held_out() -> None:
    table = CROSSING.study(noise=0.001)
    for model, worse in (("h32", ALWAYS), ("h128", NEVER)):
        rows = regret(table.without(model), table.only([model]), model)
        assert len(rows) == 3 and {r.model for r in rows} == {model}
        for row in rows:
            assert row.regret[ADVICE] == 0.0
            assert row.regret[worse] is not None and row.regret[worse] > 0.01
            exact = [CROSSING.loss(SIZES[model], row.flops / 6 / SIZES[model], arm) for arm in ("general", "filtered")]
            assert row.regret[worse] == pytest.approx(max(exact) - min(exact), abs=0.02)
    other = World(rho={"filtered": 1.2}, q={"filtered": 0.7}, stock=600_000).study(noise=0.001, draw=5)
    rows = regret(table, other, "medicine")
    assert len(rows) == 15 and {r.held_out for r in rows} == {"medicine"}
    mean = {rule: np.mean([r.regret[rule] for r in rows]) for rule in (ADVICE, ALWAYS, NEVER)}
    assert mean[ADVICE] < mean[ALWAYS] and mean[ADVICE] < mean[NEVER]
    with pytest.raises(UserError, match="no regret for medicine"):
        regret(table, StudyTable([r for r in other.runs if r.arm == "general"]), "medicine")


def test_the_whole_analysis_survives_its_file_and_says_what_was_forgotten() -> None:
    table = WORLD.study(noise=0.001)
    means = Means(1e13, [ShelfModel("mine", 1_000_000, before=4.9)], topic_tokens=3_000_000)
    found = analyse(table, means, draws=60)
    again = StudyAnalysis.parse(json.loads(json.dumps(found.plain())), "an analysis")
    assert again == found
    assert found == analyse(table, means, draws=60)
    forgot = {(f.model, f.arm): f for f in found.forgetting}
    for model, params in SIZES.items():
        row = forgot[model, "filtered"]
        exact = WORLD.general_loss(params, row.tokens, "filtered") - WORLD.general_loss(params, 0, "filtered")
        assert row.difference.value == pytest.approx(exact, abs=0.02)
        assert row.to_general is not None and row.to_general.value > 0
    assert found.surface is not None
    assert found.surface.slopes["filtered"].holds(0.3) and found.surface.sizes == 5
    assert {s.arm for s in found.slopes} == {"filtered", "quality"}
    assert any("is a bound" in note for note in found.warnings)


def test_given_models_are_advised_by_what_was_measured_and_no_further() -> None:
    params = 135_000_000
    rows = [dataclasses.replace(r, root="given") for r in WORLD.study({"given": params}, noise=0.002).runs]
    shelf = [ShelfModel("given", params), ShelfModel("unknown", 1e9)]
    found = analyse(StudyTable(rows), Means(6.0 * params * 700_000, shelf)).advice
    assert found is not None and {o.model for o in found.options} == {"given"}
    assert (found.first.arm, found.first.tokens) == ("filtered", pytest.approx(700_000))
    exact = WORLD.loss(params, 700_000, "filtered")
    assert found.first.loss.value == pytest.approx(exact, rel=0.01) and found.first.best == 1.0
    more = analyse(StudyTable(rows), Means(6.0 * params * 9_000_000, shelf)).advice
    assert more is not None and more.first.tokens == TOKENS[-1]
    assert any("options end where it ends" in note for note in more.unknown)


def test_a_study_of_given_models_alone_has_curves_and_no_law() -> None:
    rows = [dataclasses.replace(r, root="given") for r in WORLD.study({"given": 135_000_000}, seeds=1).runs]
    found = analyse(StudyTable(rows), Means(6.0 * 135_000_000 * 1_000_000, [ShelfModel("given", 135_000_000)]))
    assert found.surface is None and len(found.curves) == 6
    assert found.advice is not None and found.advice.first.best is None and found.advice.first.loss.low is None
    assert all(p.value.low is None for c in found.curves for p in c.points)
    assert any("one seed" in note for note in found.warnings) and any("no law" in note for note in found.warnings)
