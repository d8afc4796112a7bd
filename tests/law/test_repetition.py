"""Repeated text: what it is worth in the law and in the plan, and that nothing changes where none repeats."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.integrate import quad

from splitray.errors import UserError
from splitray.law import Law, Plan, fit, plan
from splitray.law.arrays import Array
from splitray.law.planning.question import Limits, Question
from splitray.law.repetition import PUBLISHED, Repetition, Text
from splitray.law.runs import read_runs
from tests.support.laws import BUDGET, CONSTANTS, K, N

GAP = CONSTANTS["mixture_gap"]


def value(before: float, passes: float, constant: float = PUBLISHED) -> float:
    """Passes in new text: the integral of what each token is worth, 1 in the first pass and then falling by e in R*."""

    def of_a_token(epoch: float) -> float:
        return float(np.exp(-max(epoch - 1, 0) / constant))

    total: float = quad(of_a_token, before, before + passes, points=[1.0], limit=200)[0]
    return total


@pytest.mark.parametrize("constant", [2.0, PUBLISHED, 200.0])
def test_passes_are_worth_what_their_tokens_add_up_to(constant: float) -> None:
    how = Repetition(constant)
    for before, passes in itertools.product((0.0, 0.4, 1.0, 6.0), (1e-6, 0.5, 3.0, 40.0)):
        found = float(how.worth(np.array(7.0), np.array(before), np.array(passes)))
        assert found == pytest.approx(7.0 / passes * value(before, passes, constant), rel=1e-7)


def test_the_published_formula_and_its_numbers() -> None:
    """U + U R* (1 - exp(-R / R*)) with R = D / U - 1; four passes are worth 3.7 and sixteen 10.6."""
    unique, drawn = 1e6, np.array([1e6, 4e6, 16e6, 1e12])
    again = drawn / unique - 1
    expected = unique + unique * PUBLISHED * (1 - np.exp(-again / PUBLISHED))
    found = Repetition().worth(drawn, np.zeros(4), drawn / unique)
    assert found == pytest.approx(expected, rel=1e-12)
    assert (found / unique).round(1).tolist() == [1.0, 3.7, 10.6, 16.4]


def table(unique: dict[int, float], constant: float, noise: float = 0.0, seed: int = 0) -> pa.Table:
    """Runs of a mixture_gap law with repeated text of these sizes by K w = D over D'; every other domain alike."""
    truth, rows = Law.known("mixture_gap", GAP), []
    random = np.random.default_rng(seed)
    sizes, bases, specials = np.geomspace(2e7, 1e9, 5), np.geomspace(1e9, 3e10, 4), (0.0, 0.03, 0.1, 0.4, 1.0)
    for run, (size, D, part, (k, text)) in enumerate(itertools.product(sizes, bases, specials, unique.items())):
        S = part * D
        before, after = D / k / text, (D / k + S) / text
        worth = D / max(before, 1e-300) * value(0, before, constant), 0.0
        if S:
            worth = worth[0], S / (after - before) * value(before, after - before, constant)
        loss = float(truth.predict(size, *worth)) * float(np.exp(noise * random.standard_normal()))
        rows.append(
            {"params": size, "pretrain_tokens": D, "specialize_tokens": S, "domain": "d", "loss": loss, "run": str(run)}
            | {"epochs": after, "pretrain_epochs": before}
        )
    return pa.Table.from_pylist(rows)


def test_a_table_that_repeats_nothing_gives_the_same_digits() -> None:
    """Law and plan, with the columns and without, to the last bit."""
    runs = table({K: 1e14}, PUBLISHED, 0.003)
    columns = [name for name in runs.column_names if "epochs" not in name]
    with_them, without = (fit(t, form="mixture_gap", bootstrap=20) for t in (runs, runs.select(columns)))
    assert read_runs(runs).repeats is None
    assert with_them == without and with_them.objective == without.objective
    ask: dict[str, Any] = {"params": N, "budget": BUDGET, "domains": K}
    free = plan(without, **ask)
    plenty = plan(with_them, **ask, limits=Limits(available=BUDGET, text=Text(K * BUDGET, BUDGET)))
    assert replace(plenty, epochs=None, text=None, repetition_cost=None) == free
    assert plenty.repetition_cost is not None and plenty.repetition_cost.value == 0
    assert plan(with_them, **ask) == free


@pytest.mark.parametrize("constant", [5.0, 40.0])
def test_a_planted_constant_is_found(constant: float) -> None:
    runs = table({K: 2e9}, constant, 0.001)
    law = fit(runs, form="mixture_gap")
    assert law.repetition.fitted and law.repetition.constant == pytest.approx(constant, rel=0.2)
    assert law.repetition.most == pytest.approx(max(runs["epochs"].to_pylist()))
    kept = fit(runs, form="mixture_gap", repetition=PUBLISHED)
    assert not kept.repetition.fitted and kept.repetition.constant == PUBLISHED
    assert law.objective is not None and kept.objective is not None and law.objective < kept.objective


def test_what_hardly_repeats_keeps_the_published_constant(tmp_path: Any) -> None:
    law = fit(table({K: 3e10}, 5.0, 0.001), form="mixture_gap")  # the longest run reads 1.06 times
    assert law.repetition == Repetition(PUBLISHED, False, law.repetition.most) and 1 < law.repetition.most < 3
    law.save(tmp_path / "law.json")
    assert Law.load(tmp_path / "law.json").repetition == law.repetition


def by_hand(law: Law, fractions: Array, text: Text) -> Array:
    """Losses along the budget line, from passes that are summed one by one."""
    (base, special), losses = text.at(""), []
    for s in fractions:
        D, S = s * BUDGET, (1 - s) * BUDGET / K
        before, after = D / base, S / special
        worth = (
            base * value(0, before, law.repetition.constant),
            special * value(before, after, law.repetition.constant),
        )
        losses.append(float(law.predict(N, *worth)))
    return np.array(losses)


@pytest.mark.parametrize("form", ["mixture_gap", "capacity_release"])
def test_the_plan_counts_passes_in_the_mixture_and_after_it(form: str) -> None:
    law = Law.known(form, CONSTANTS[form])
    free = plan(law, params=N, budget=BUDGET, domains=K)
    available = free.specialize_tokens.value / 6
    made = plan(law, params=N, budget=BUDGET, domains=K, limits=Limits(available=available, epochs=1e9))
    text = Text(available * K, available)
    fractions = np.linspace(0.002, 0.998, 400)
    losses = by_hand(law, fractions, text)
    assert made.predicted_loss.value == pytest.approx(losses.min(), abs=2e-5)
    assert made.predicted_loss.value <= losses.min() + 1e-9
    assert made.split_fraction.value == pytest.approx(fractions[losses.argmin()], abs=0.02)
    assert made.unsplit_loss.value == pytest.approx(by_hand(law, np.array([1.0]), text)[0], rel=1e-9)
    new = float(law.predict(N, made.pretrain_tokens.value, made.specialize_tokens.value))
    assert made.repetition_cost is not None
    assert made.repetition_cost.value == pytest.approx(made.predicted_loss.value - new, abs=1e-9)
    assert made.split_threshold == free.split_threshold and made.predicted_loss.value > free.predicted_loss.value
    assert Plan.parse(made.plain()) == made and made.text == text


def test_without_a_cap_a_plan_goes_as_far_as_the_law_can_tell() -> None:
    """Four passes, or those that the runs show where R* was fitted to them; a cap that is set goes before."""
    law = Law.known("mixture_gap", GAP)
    available = plan(law, params=N, budget=BUDGET, domains=K).specialize_tokens.value / 40
    for how, cap, passes in (
        (Repetition(PUBLISHED, False, 12.0), None, 4.0),
        (Repetition(PUBLISHED, True, 12.0), None, 12.0),
        (Repetition(PUBLISHED, True, 3.0), None, 4.0),
        (Repetition(PUBLISHED, True, 12.0), 2.0, 2.0),
        (Repetition(PUBLISHED, False, 1.0), 9.0, 9.0),
    ):
        limits = Limits(available=available, epochs=cap)
        made = plan(replace(law, repetition=how), params=N, budget=BUDGET, domains=K, limits=limits)
        assert made.epochs == pytest.approx(passes) and "limit_reached" in {w.code for w in made.warnings}


def test_slopes_follow_the_tokens_that_are_drawn() -> None:
    """Against central differences, at places within the first pass and far beyond it."""
    law = Law.known("mixture_gap", GAP)
    surface = Question(N, BUDGET, K, limits=Limits(text=Text(3e10, 2e9))).surface(law)
    for D, S in ((1e10, 1e8), (1e10, 8e9), (2e11, 8e9)):
        at = np.array([[[S]]])
        found = -surface.gains(N, np.array([D]), at)[0, 0, 0]
        step = 1e-4 * S
        ends = [surface.loss(N, np.array([[D]]), at + side)[0, 0] for side in (step, -step)]
        assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)
        by_D, by_S = surface._each(True, N, np.array([[D]]), at)[:, 0, 0, 0]
        step = 1e-4 * D
        ends = [surface.loss(N, np.array([[D + side]]), at)[0, 0] for side in (step, -step)]
        assert by_D == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)
        assert by_S == pytest.approx(found, rel=1e-12)


def test_optimal_shares_with_scarce_text_beat_shares_by_weight() -> None:
    law = Law.known("mixture_gap", {name: GAP | {"G": gap} for name, gap in (("a", 0.2), ("b", 0.3), ("c", 0.2))})
    names, limits = ["a", "b", "c"], Limits(available={"a": 5e8, "b": 1e12, "c": 1e12})
    even, best = (
        plan(law, params=N, budget=BUDGET, domains=names, allocation=how, limits=limits)
        for how in ("uniform", "per_domain")
    )
    assert best.predicted_loss.value < even.predicted_loss.value - 1e-4
    parts = {part.domain: part.specialize_tokens.value for part in best.per_domain}
    assert parts["a"] < 0.8 * parts["c"]  # alike but for the text


GOOD: dict[str, list[Any]] = {
    "params": [1e8] * 4,
    "pretrain_tokens": [1e9, 2e9, 1e9, 0.0],
    "specialize_tokens": [0, 0, 5e8, 1e8],
    "domain": ["law"] * 4,
    "loss": [3.0, 2.9, 2.5, 2.7],
}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"epochs": [2.0, -1, 1, 1]}, r"epochs must be at least 0: row 2 \(-1.0\)"),
        ({"epochs": [2.0, 4, 3, 1], "pretrain_epochs": [2.0, 4, 3.5, 0]}, r"at most epochs.*row 3 \(3.5\)"),
        ({"epochs": [2.0, 5, 3, 1]}, r"epochs is above 1 \(rows 3\).*pretrain_epochs"),
        ({"epochs": ["2", "often", "3", "1"]}, r"epochs must be a number: row 2 \('often'\)"),
    ],
)
def test_passes_that_cannot_be_are_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_runs(pa.table(GOOD | columns))
    with pytest.raises(UserError, match="R\\* must be"):
        fit(pa.table(GOOD), repetition=-1.0)


def test_passes_before_the_split_follow_from_unsplit_runs() -> None:
    runs = read_runs(pa.table(GOOD | {"epochs": [2.0, 4.0, 7.0, None]}))
    assert runs.repeats is not None
    assert runs.repeats.before.tolist() == [2.0, 4.0, 2.0, 0.0] and runs.repeats.after.tolist() == [2.0, 4.0, 7.0, 0.0]
    assert runs.specialize_tokens[2] == pytest.approx(5e8 / 5 * value(2, 5), rel=1e-9)
    assert runs.largest == {"params": 1e8, "pretrain_tokens": 2e9, "specialize_tokens": 5e8}


def test_runs_of_other_passes_are_no_replicates() -> None:
    twice = {name: values * 2 for name, values in GOOD.items()}
    runs = read_runs(
        pa.table(twice | {"epochs": [1.0] * 4 + [3.0] * 4, "pretrain_epochs": [1.0] * 3 + [0] + [2.0] * 3 + [0]})
    )
    assert np.unique(runs.cell).size == 8


def test_a_mean_domain_reads_as_often_as_the_domains_do_on_average() -> None:
    text = Text.of({"a": 1e6, "b": 3e6}, {"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 1.0}).mean()
    D, S = 8e6, 2e6
    passes = [(0.5 * D + S) / n for n in (1e6, 3e6)]
    base, special = text.at("anything")
    assert D / base + S / special == pytest.approx(np.mean(passes))
