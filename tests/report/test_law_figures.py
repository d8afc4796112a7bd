"""The figures show the plan's own numbers, and are written whole."""

from pathlib import Path

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.law import Law, fit
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Question
from splitray.law.planning.sweep import sweep_budgets, sweep_params
from splitray.report import law_figures as draw
from tests.support.laws import BUDGET, CONSTANTS, K, N, ladder, simulate, with_draws

QUESTION = Question(N, BUDGET, K)
FORM = "effective_tokens"


@pytest.fixture(scope="module")
def law() -> Law:
    return with_draws(FORM, CONSTANTS[FORM], draws=40, spread=0.003)


def test_sweeps_agree_with_single_plans(law: Law) -> None:
    budgets = np.array([1e10, BUDGET, 5e12])
    sweep = sweep_budgets(law, QUESTION, budgets)
    for index, budget in enumerate(budgets):
        single = answer(law, Question(N, budget, K))
        for name in ("split_fraction", "pretrain_tokens", "predicted_loss", "compute_multiplier"):
            one, other = getattr(sweep, name)[index], getattr(single, name)
            assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-4)
    thresholds = sweep_params(law, QUESTION, np.array([N]))
    assert thresholds[0] == answer(law, QUESTION).split_threshold


def test_loss_against_fraction_shows_the_law_and_the_plan(law: Law) -> None:
    plan = answer(law, QUESTION)
    (axes,) = draw.loss_against_fraction(law, QUESTION, plan).axes
    lines = {line.get_label(): line for line in axes.lines}
    x, y = lines["the plan's budget"].get_data()
    assert y == pytest.approx(law.predict(N, x * BUDGET, (1 - x) * BUDGET / K), abs=1e-9)
    assert lines["planned split"].get_data() == (
        pytest.approx([plan.split_fraction.value]),
        pytest.approx([min(y)], abs=1e-4),
    )
    dashes = {line.get_linestyle() for line in axes.lines if len(line.get_xdata()) > 10}
    assert len(dashes) == 3, "the three budgets must differ without colour"
    assert axes.get_xlabel() and "nats" in axes.get_ylabel()


def test_every_figure_is_written_and_labelled(tmp_path: Path) -> None:
    truth = Law.known(FORM, CONSTANTS[FORM])
    fitted = fit(simulate(truth, ladder()), form=FORM, bootstrap=20)
    names = draw.write_figures(fitted, QUESTION, answer(fitted, QUESTION), tmp_path / "figures")
    assert len(names) == 10 and {Path(name).suffix for name in names} == {".svg", ".png"}
    for name in names:
        content = (tmp_path / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml") and len(content) > 5000


def test_held_out_points_come_from_a_fit_that_never_saw_them() -> None:
    truth = Law.known(FORM, CONSTANTS[FORM])
    table = simulate(truth, ladder())
    fitted = fit(table, form=FORM)
    held_out = draw.held_out_errors(fitted)
    assert held_out is not None
    observed, predicted = held_out
    largest = np.asarray(table["params"]) == 5e8
    assert sorted(observed) == pytest.approx(sorted(np.asarray(table["loss"])[largest]))
    assert np.abs(predicted / observed - 1).max() < 0.03
    inside = fitted.predict(
        5e8, np.asarray(table["pretrain_tokens"])[largest], np.asarray(table["specialize_tokens"])[largest]
    )
    assert not np.allclose(predicted, inside, rtol=1e-6), "predicted by the fit that has seen the points"
    left, right = draw.predicted_against_observed(fitted, held_out).axes
    fills = [points.get_facecolor().size > 0 and points.get_facecolor()[0, 3] > 0 for points in left.collections]
    assert fills == [True, False], "held-out points must be hollow"
    assert "%" in right.get_ylabel()


def test_without_runs_there_is_nothing_to_compare(law: Law) -> None:
    with pytest.raises(UserError, match="no table of runs"):
        draw.predicted_against_observed(law)


def test_infinite_multipliers_are_marked() -> None:
    law = with_draws("release", CONSTANTS["release"], draws=20, spread=0.002)
    sweep = sweep_budgets(law, QUESTION, np.logspace(10, 16, 7))
    assert any(np.isinf(e.value) for e in sweep.compute_multiplier)
    (axes,) = draw.multiplier_against_budget(sweep, answer(law, QUESTION)).axes
    assert any("infinite" in (text.get_text()) for text in axes.get_legend().get_texts())
