"""Ranking candidate runs: against the exact answer for a straight line, and against actually training them."""

import numpy as np
import pyarrow as pa
import pytest

from splitray.errors import UserError
from splitray.law import Law, fit, plan
from splitray.law.planning.next_run import _shrinkage, next_run
from splitray.law.planning.question import Question
from tests.support.laws import BUDGET, CONSTANTS, K, N, simulate, with_draws

QUESTION = Question(N, BUDGET, K)
FORM = "effective_tokens"


def candidates(places: list[tuple[float, float, float]], **more: list) -> pa.Table:
    params, shared, special = np.array(places, dtype=float).T
    return pa.table({"params": params, "pretrain_tokens": shared, "specialize_tokens": special, **more})


@pytest.mark.parametrize(("noise", "slope"), [(0.1, 1.0), (1.0, 1.0), (1.0, -0.3), (0.5, 0.0)])
def test_gaussian_shrinkage_is_the_textbook_posterior(noise: float, slope: float) -> None:
    """For target and outcome jointly normal, 1 - rho^2 of the variance is left."""
    rng = np.random.default_rng(1)
    expected = rng.standard_normal(4000)
    target = slope * expected + 0.5 * rng.standard_normal(4000)
    rho2 = slope**2 / ((slope**2 + 0.25) * (1 + noise**2))
    assert _shrinkage(target, expected, noise) == pytest.approx(1 - np.sqrt(1 - rho2), abs=0.02)


def test_training_the_top_run_shrinks_the_interval_more_than_the_bottom_one() -> None:
    truth = Law.known(FORM, CONSTANTS[FORM])
    places = [(n, d, r * d) for n in (2e7, 4e7, 8e7, 1.6e8, 3.2e8) for d in (1e9, 3e9, 1e10) for r in (0, 0.05, 0.2)]
    # Long and large runs beside ones that the table holds already.
    offered = [(1.3e9, 1e11, 5e9), (5e8, 1e11, 5e9), (5e8, 1e11, 0.0), (5e8, 2e10, 1e9)]
    offered += [(2e7, 1e9, 0.0), (2e7, 1e9, 2e8), (4e7, 1e9, 0.0)]
    # Equal cost leaves the information alone to rank by.
    table = candidates(offered, tokens=[1e10] * len(offered))
    widths: dict[str, list[float]] = {"before": [], "top": [], "bottom": []}
    for seed in range(4):
        runs = simulate(truth, places, 0.001, seed)
        law = fit(runs, form=FORM, bootstrap=150)
        ranked = next_run(law, QUESTION, table)
        assert ranked[0].shrinkage > 0.2 and ranked[-1].shrinkage < 0.05
        for name, run in (("before", None), ("top", ranked[0]), ("bottom", ranked[-1])):
            added = runs
            if run is not None:
                # Trained with three seeds: the effect of one is within the noise of an interval's width.
                where = [(run.params, run.pretrain_tokens, run.specialize_tokens)] * 3
                added = pa.concat_tables([runs, simulate(truth, where, 0.001, 100 + seed)])
            split = plan(fit(added, form=FORM, bootstrap=150), params=N, budget=BUDGET, domains=K).split_fraction
            widths[name].append(split.high - split.low)
    before, top, bottom = (np.mean(widths[name]) for name in ("before", "top", "bottom"))
    assert top < 0.75 * before
    assert top < 0.75 * bottom


def test_cost_counts_and_ties_go_to_the_cheaper() -> None:
    law = with_draws(FORM, CONSTANTS[FORM], draws=200, spread=0.01)
    table = candidates([(5e8, 2e10, 1e9)] * 3, tokens=[4e9, 1e9, 2e9])
    ranked = next_run(law, QUESTION, table)
    assert [run.row for run in ranked] == [2, 3, 1]
    assert len({run.shrinkage for run in ranked}) == 1
    assert ranked[0].per_token == pytest.approx(ranked[0].shrinkage / 1e9)
    assert next_run(law, QUESTION, candidates([(5e8, 2e10, 1e9)]))[0].tokens == 2.1e10


def test_a_noisier_run_tells_less() -> None:
    law = with_draws(FORM, CONSTANTS[FORM], draws=200, spread=0.001)
    table = candidates([(5e8, 2e10, 1e9)])
    told = [next_run(law, QUESTION, table, noise=noise)[0].shrinkage for noise in (1e-5, 1e-2, 1.0)]
    assert told[0] > told[1] > told[2] and told[2] < 0.02


def test_a_certain_split_cannot_be_sharpened() -> None:
    law = with_draws("chinchilla", {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}, 100, 0.01)
    assert [run.shrinkage for run in next_run(law, QUESTION, candidates([(5e8, 2e10, 1e9)]))] == [0.0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (candidates([(5e8, 2e10, 1e9)]).drop_columns(["params"]), "params"),
        (candidates([(5e8, 2e10, 1e9)]).slice(0, 0), "rows"),
        (candidates([(5e8, 2e10, 1e9), (0.0, 2e10, 1e9)]), "row 2"),
        (candidates([(5e8, -1.0, 1e9)]), "pretrain_tokens"),
        (candidates([(5e8, float("nan"), 1e9)]), "pretrain_tokens"),
        (candidates([(5e8, 2e10, 1e9)], domain=["klingon"]), "klingon"),
        (candidates([(5e8, 2e10, 1e9)], tokens=[0.0]), "tokens"),
        ("no_such_file.csv", "no_such_file"),
    ],
)
def test_rubbish_candidates(table: pa.Table, said: str) -> None:
    law = with_draws(FORM, CONSTANTS[FORM], draws=40, spread=0.01)
    with pytest.raises(UserError, match=said):
        next_run(law, QUESTION, table)


def test_a_law_without_draws_is_refused() -> None:
    with pytest.raises(UserError, match="bootstrap"):
        next_run(Law.known(FORM, CONSTANTS[FORM]), QUESTION, candidates([(5e8, 2e10, 1e9)]))
