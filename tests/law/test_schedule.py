"""The learning-rate schedule of runs: its area against an integral, in tables, in laws, and in plans."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.integrate import quad

from splitray.errors import UserError
from splitray.law import Law, Question, answer, fit, read_runs
from splitray.law.forms.schedule import CONSTANT_RATE, RateSchedule
from splitray.training.settings import Schedule
from splitray.training.tree import Leaf
from tests.law.test_fit import ladder
from tests.law.test_forms import BY_HAND

DECAY = RateSchedule(0.15, 0.05)


def rate(token, D, S, schedule):
    """The learning rate over its peak at a token of a leaf, written out."""
    total = D + S
    begins = total * (1 - schedule.decay_fraction)
    after = schedule.specialist_lr_multiplier if token >= D else 1.0
    done = max(0.0, (token - begins) / (total - begins))
    return after * (1 - (1 - schedule.min_lr_ratio) * done)


@pytest.mark.parametrize("D, S", [(1e6, 1e3), (1e6, 1e5), (1e6, 1e6), (0.0, 1e5), (1e6, 1.76e5), (1e6, 0.0)])
@pytest.mark.parametrize("schedule", [DECAY, RateSchedule(0.3, 0.0, 0.5), RateSchedule(0.15, 1.0), CONSTANT_RATE])
def test_the_area_is_the_integral_of_the_rate(D, S, schedule):
    begins = (D + S) * (1 - schedule.decay_fraction)
    inner = [begins] if D < begins < D + S else None
    if schedule.decay_fraction == 0:
        wanted = S
    else:
        wanted = quad(lambda token: rate(token, D, S, schedule), D, D + S, points=inner)[0]
    assert float(schedule.area(D, S)) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert schedule.sloped_area(D, S).value == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_the_area_is_that_of_the_segments_that_are_trained():
    """Summed over the batches of a leaf's phases, as the trainer sets them."""
    batch, leaf = 10, Leaf(100_000, 5_000, "a")
    phases = leaf.phases(Schedule(0.15, 0.5), batch)
    total = 0.0
    for phase in phases:
        if phase.source == "a":
            begin = max([leaf.pretrain_tokens, *(p.end for p in phases if p.end < phase.end)])
            for after in range(begin + batch, phase.end + 1, batch):
                done = 0.0 if phase.decay is None else (after - phase.decay[0]) / (phase.decay[1] - phase.decay[0])
                total += batch * phase.rate * (1 - 0.95 * done)
    assert float(RateSchedule(0.15, 0.05, 0.5).area(1e5, 5e3)) == pytest.approx(total, rel=1e-2)


def scheduled(form="mixture_gap", schedule=DECAY, **columns):
    """A noise-free table of a known law under a schedule."""
    true = replace(Law.known(form, BY_HAND[form][0]), schedules=(schedule,))
    names = ("decay_fraction", "min_lr_ratio", "specialist_lr_multiplier")
    table = ladder(true)
    for name, value in zip(names, schedule.plain(), strict=True):
        table = table.append_column(name, pa.array(np.full(len(table), value)))
    return true, table


@pytest.mark.parametrize("form", ["mixture_gap", "ossifying_gap"])
def test_a_law_under_a_schedule_is_found_again(form):
    true, table = scheduled(form)
    law = fit(table, form=form)
    assert law.schedules == (DECAY,)
    for D, S in ((5e11, 1e10), (1e11, 1e9)):
        assert float(law.predict(2.7e9, D, S)) == pytest.approx(float(true.predict(2.7e9, D, S)), rel=2e-3)
        other = RateSchedule(0.3, 0.05)
        assert float(law.predict(2.7e9, D, S, schedule=other)) == pytest.approx(
            float(true.predict(2.7e9, D, S, schedule=other)), rel=2e-3
        )


def test_a_table_without_the_columns_has_a_constant_rate():
    true = Law.known("mixture_gap", BY_HAND["mixture_gap"][0])
    flat = ladder(true)
    law = fit(flat, form="mixture_gap")
    assert law.schedule == CONSTANT_RATE
    ones = flat.append_column("decay_fraction", pa.array(np.zeros(len(flat))))
    ones = ones.append_column("min_lr_ratio", pa.array(np.ones(len(flat))))
    assert fit(ones, form="mixture_gap").constants == pytest.approx(law.constants, rel=1e-6)


def test_runs_of_two_schedules_are_no_replicates_and_both_are_kept():
    _, table = scheduled()
    other = table.set_column(table.column_names.index("decay_fraction"), "decay_fraction", pa.array([0.3] * len(table)))
    both = pa.concat_tables([table, table, other])
    both = both.append_column("trunk", pa.array(["a"] * 2 * len(table) + ["b"] * len(table)))
    runs = read_runs(both)
    assert not runs.replicated
    assert runs.schedule.distinct()[0] == (DECAY, RateSchedule(0.3, 0.05))


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"decay_fraction": 1.0, "min_lr_ratio": 0.1}, "decay_fraction must be at least 0 and below 1"),
        ({"decay_fraction": 0.1, "min_lr_ratio": 2.0}, "min_lr_ratio must lie between 0 and 1"),
        ({"decay_fraction": 0.1}, "give both or none"),
        ({"specialist_lr_multiplier": 0.0}, "specialist_lr_multiplier must be above 0"),
    ],
)
def test_a_schedule_that_is_none_is_refused(columns, message):
    table = ladder(Law.known("mixture_gap", BY_HAND["mixture_gap"][0]))
    for name, value in columns.items():
        table = table.append_column(name, pa.array(np.full(len(table), value)))
    with pytest.raises(UserError, match=message):
        read_runs(table)


def test_a_law_and_a_plan_keep_their_schedule_in_their_files(tmp_path):
    _, table = scheduled()
    law = fit(table, form="mixture_gap", bootstrap=5)
    law.save(tmp_path / "law.json")
    again = Law.load(tmp_path / "law.json")
    assert again.schedules == (DECAY,) and again.reach.plain() == law.reach.plain()
    assert (again.predict_draws(1e10, 1e12, 1e10) == law.predict_draws(1e10, 1e12, 1e10)).all()
    plan = answer(law, Question(1.3e9, 240e9, 16))
    plan.save(tmp_path / "plan.json")
    assert type(plan).load(tmp_path / "plan.json").schedule == DECAY


def test_a_law_of_the_first_release_predicts_as_it_did(tmp_path):
    """Its file has no schedule, no reach, and no c of forms that have got one since."""
    constants = BY_HAND["effective_tokens"][0] | {"c": 0.0}
    law = replace(Law.known("effective_tokens", constants), objective=1.0, noise=0.01)
    law.save(tmp_path / "law.json")
    record = json.loads((tmp_path / "law.json").read_text())
    for name in ("schedules", "reach", "traits", "checksum", "sha256"):
        record.pop(name, None)
    for component in record["components"]:
        component["vectors"] = [vector[:-1] for vector in component["vectors"]]
    found = Law._of({name: value for name, value in record.items() if name != "schema"})
    assert float(found.predict(1e9, 1e11, 1e9)) == pytest.approx(float(law.predict(1e9, 1e11, 1e9)), rel=1e-14)
    assert found.schedule == CONSTANT_RATE and found.reach.idle


def test_a_plan_for_a_schedule_that_no_run_had_says_so():
    _, table = scheduled()
    law = fit(table, form="mixture_gap", bootstrap=5)
    codes = [w.code for w in answer(law, Question(1.3e9, 240e9, 16)).warnings]
    assert "other_schedule" not in codes
    other = answer(law, Question(1.3e9, 240e9, 16, schedule=RateSchedule(0.3, 0.05)))
    told = next(w for w in other.warnings if w.code == "other_schedule")
    assert "0.3" in told.reason and "0.15" in told.reason


@pytest.mark.parametrize("form", ["mixture_gap", "ossifying_gap", "effective_tokens"])
def test_plan_and_threshold_under_a_schedule_are_those_of_a_search_by_hand(form):
    true, _ = scheduled(form)
    K, params = 16, 1.3e9
    s = np.unique(np.concatenate([np.linspace(0, 1, 4001), 1 - np.geomspace(1e-7, 0.1, 2000)]))

    def gain(budget):
        loss = true.predict(params, s * budget, (1 - s) * budget / K)
        return float(loss[-1] - loss.min()), float(s[loss.argmin()])

    plan = answer(true, Question(params, 240e9, K))
    assert plan.split_fraction.value == pytest.approx(gain(240e9)[1], abs=2e-3)
    threshold = plan.split_threshold.value
    if 1e-2 * params < threshold < 1e8 * params:
        if threshold > 0.011 * params:
            assert gain(threshold * 0.9)[0] <= 1e-9
        assert gain(threshold * 1.1)[0] > 0
