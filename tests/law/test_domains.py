"""Which number of domains to plan for, from rows of several."""

import numpy as np
import pyarrow as pa
import pytest

from splitray.errors import UserError
from splitray.law import Law, fit, plan
from splitray.law.planning.domains import choose_domains, rows_of
from splitray.law.planning.question import Limits, Question
from tests.support.laws import BUDGET, CONSTANTS, N, ladder

GAP = CONSTANTS["mixture_gap"]
GAPS = {4: 0.10, 8: 0.25, 16: 0.26}  # nats that a domain's own model can win: 16 domains hardly more than 8
ASK = Question(N, BUDGET, 1)


def table(gaps: dict[int, float] = GAPS) -> pa.Table:
    """The ladder for each number of domains, under a law whose gap has its own height."""
    parts = []
    for count, gap in gaps.items():
        law = Law.known("mixture_gap", GAP | {"G": gap})
        params, shared, special = (np.array(column) for column in zip(*ladder()))
        noise = np.exp(0.001 * np.random.default_rng(count).standard_normal(len(params)))
        columns = {"params": params, "pretrain_tokens": shared, "specialize_tokens": special}
        columns |= {"loss": law.predict(params, shared, special) * noise}
        names = {"domain": ["d"] * len(params), "clustering": [count] * len(params)}
        parts.append(pa.table(columns | names))
    return pa.concat_tables(parts)


def fitted(rows: pa.Table) -> Law:
    return fit(rows, form="mixture_gap", bootstrap=20)


def test_the_number_whose_split_gains_most_is_planned_for() -> None:
    made = choose_domains(table({4: 0.05, 8: 0.3}), [8, 4], ASK, fitted)
    assert [c.domains for c in made.candidates] == [4, 8] and made.best.domains == 8
    truths = [plan(Law.known("mixture_gap", GAP | {"G": g}), params=N, budget=BUDGET, domains=k).gain.value
              for k, g in ((4, 0.05), (8, 0.3))]  # fmt: skip
    for candidate, truth in zip(made.candidates, truths, strict=True):
        assert (
            candidate.plan.gain.value == pytest.approx(truth, abs=0.01) and candidate.plan.domains == candidate.domains
        )
    shares = [c.best_in for c in made.candidates]
    assert None not in shares and sum(s or 0 for s in shares) == pytest.approx(1.0)
    assert (shares[1] or 0) > 0.9


def test_of_numbers_that_gain_alike_the_smallest_is_taken() -> None:
    same = dict.fromkeys((8, 9), 0.25)  # a ninth domain that wins nothing of its own
    made = choose_domains(table(same), list(same), ASK, fitted)
    gains = [c.plan.gain.value for c in made.candidates]
    assert abs(gains[0] - gains[1]) < 0.003 or gains[0] > gains[1]
    assert made.best.domains == 8


def test_scarce_text_speaks_for_fewer_domains() -> None:
    rows = table()
    rich, poor = (
        choose_domains(rows, [8, 16], ASK, lambda t: fit(t, form="mixture_gap"), text=text)
        for text in (None, BUDGET / 40)
    )
    lost = [a.plan.gain.value - b.plan.gain.value for a, b in zip(rich.candidates, poor.candidates, strict=True)]
    costs = [c.plan.repetition_cost for c in poor.candidates]
    assert all(cost is not None and cost.value > 0.003 for cost in costs) and min(lost) != 0
    assert poor.candidates[1].question.limits == Limits(available=BUDGET / 40 / 16)


def test_what_the_table_lacks_is_named() -> None:
    rows = table({4: 0.1})
    with pytest.raises(UserError, match="no row has clustering = 8; the table has 4"):
        rows_of(rows, 8)
    with pytest.raises(UserError, match="no column clustering"):
        rows_of(rows.drop_columns(["clustering"]), 4)
    with pytest.raises(UserError, match="name no domains"):
        choose_domains(rows, [4], Question(N, BUDGET, ["d"]), fitted)
