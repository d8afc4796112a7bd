"""Draws outside the table: the distance, the stretch, what folds make of a form that is wrong, and coverage."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from splitray.law import Law, Question, answer, fit
from splitray.law.fitting.reach import folds
from splitray.law.reach import Reach, frontier
from splitray.law.runs import read_runs
from tests.law.test_fit import ladder
from tests.law.test_forms import BY_HAND

TABLE = (np.array([1e8, 1e8, 4e8]), np.array([1e10, 2e10, 5e9]), np.array([1e9, 0.0, 1e9]))


def test_distance_is_joint():
    reach = Reach(2.0, 2.0, frontier(*TABLE))
    assert len(reach.frontier) == 3
    for inside in ((1e8, 1e10, 1e9), (5e7, 1e9, 1e8), (1e8, 2e10, 0.0), (4e8, 5e9, 0.0)):
        assert reach.distance(*map(np.array, inside)) == 0
    # each coordinate alone is within the table; together they are not
    assert reach.distance(np.array(4e8), np.array(1e10), np.array(1e9)) == pytest.approx(np.log(2))
    assert reach.distance(np.array(8e8), np.array(1e10), np.array(1e9)) == pytest.approx(np.log(4))
    assert reach.weight(np.array(8e8), np.array(1e10), np.array(1e9)) == 1


def law(draws=200, form="mixture_gap", noise=0.003):
    return fit(ladder(Law.known(form, BY_HAND[form][0]), noise=noise), form=form, bootstrap=draws)


def test_draws_are_stretched_outside_the_table_and_only_there():
    plain = replace(law(), reach=Reach())
    edge = frontier(np.array([5e8]), np.array([5e10]), np.array([1e10]))
    wide = replace(plain, reach=Reach(2.0, 2.0, edge))
    inside, outside = (1e8, 1e10, 1e9), (4e9, 1e12, 1e10)
    assert wide.predict_draws(*inside) == pytest.approx(plain.predict_draws(*inside), rel=1e-14)
    fitted = float(plain.predict(*outside))
    assert np.log(wide.predict_draws(*outside) / fitted) == pytest.approx(
        2 * np.log(plain.predict_draws(*outside) / fitted)
    )


def test_a_new_size_gets_one_common_shift():
    plain = replace(law(), reach=Reach())
    edge = frontier(np.array([5e8]), np.array([5e10]), np.array([1e10]))
    shifted = replace(plain, reach=Reach(1.0, 2.0, edge))
    D = np.geomspace(1e11, 1e12, 5)
    shift = np.log(shifted.predict_draws(4e9, D, 0.0) / plain.predict_draws(4e9, D, 0.0))
    # one sign in every draw, of a size that follows the draws' own spread
    assert (np.sign(shift) == np.sign(shift[:, :1])).all()
    spread = np.log(plain.predict_draws(4e9, D, 0.0) / plain.predict(4e9, D, 0.0)).std(axis=0)
    assert shift.std(axis=0) == pytest.approx(np.sqrt(3) * spread, rel=0.15)


def test_a_plan_is_as_wide_as_its_draws_are_stretched_and_the_shift_moves_no_split():
    plain = replace(law(), reach=Reach())
    edge = frontier(np.array([5e8]), np.array([5e10]), np.array([1e10]))
    question = Question(4e9, 2e12, 16)
    near = answer(plain, question)
    wide = answer(replace(plain, reach=Reach(2.0, 2.0, edge)), question)
    level = answer(replace(plain, reach=Reach(1.0, 3.0, edge)), question)

    def width(estimate):
        return estimate.high - estimate.low

    assert wide.split_fraction.value == pytest.approx(near.split_fraction.value, abs=1e-6)
    assert width(wide.split_fraction) == pytest.approx(2 * width(near.split_fraction), rel=0.25)
    assert width(wide.predicted_loss) == pytest.approx(2 * width(near.predicted_loss), rel=0.25)
    assert level.split_fraction == near.split_fraction
    assert width(level.predicted_loss) > 2 * width(near.predicted_loss)


def test_slopes_of_stretched_draws_are_those_of_their_losses():
    """The threshold compares slopes at D' = 0: they must be of what the line searches."""
    edge = frontier(np.array([5e8]), np.array([5e10]), np.array([1e10]))
    stretched = replace(law(20), reach=Reach(1.7, 2.5, edge))
    surface = Question(4e9, 2e12, 16).surface(stretched)
    D, h = np.array([[1e12]]), 1e-4
    by_D, by_S = surface.slopes_unsplit(4e9, D)
    more, less = (surface.unsplit(4e9, D * (1 + sign * h)) for sign in (1, -1))
    assert by_D.sum(0) == pytest.approx((more - less) / (2 * h * D), rel=1e-4)
    step = 1e3
    at, ahead, twice = (surface.loss(4e9, D, np.full((1, 1, 1), k * step)) for k in (0, 1, 2))
    assert by_S.sum(0) == pytest.approx((-3 * at + 4 * ahead - twice) / (2 * step), rel=2e-2)


def test_folds_see_that_a_form_is_wrong_beyond_its_table():
    """Losses that turn up with the size, which no form follows: every fold that hides the largest is too low."""
    table = ladder(Law.known("chinchilla", BY_HAND["chinchilla"][0]), 0.001)
    turned = np.exp(0.01 * np.maximum(np.log(table["params"].to_numpy() / 5e7), 0.0) ** 2)
    bent = table.set_column(table.column_names.index("loss"), "loss", pa.array(table["loss"].to_numpy() * turned))
    right, wrong = (fit(runs, "chinchilla", bootstrap=50).reach for runs in (table, bent))
    assert right.level < 1.5 < wrong.level


def test_folds_hide_the_largest_sizes_tokens_and_compute():
    runs = read_runs(ladder(Law.known("mixture_gap", BY_HAND["mixture_gap"][0])))
    masks = folds(runs)
    sizes = np.unique(runs.params)
    assert (masks[0] == (runs.params == sizes[-1])).all() and (masks[1] == (runs.params >= sizes[-2])).all()
    for mask, values in zip(masks[2:], (runs.pretrain_tokens, runs.specialize_tokens), strict=False):
        assert values[mask].min() > values[~mask].max()


def test_a_table_of_one_size_gets_the_factor_that_other_tables_show():
    runs = ladder(Law.known("mixture_gap", BY_HAND["mixture_gap"][0]), 0.003).to_pylist()
    one = pa.Table.from_pylist([row for row in runs if row["params"] < 3e7 and row["specialize_tokens"] == 0])
    law = fit(one.append_column("seed", pa.array([0] * len(one))), "compute_alone", bootstrap=20)
    assert law.reach.level >= 1.0
