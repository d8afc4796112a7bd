"""The planner against brute force, closed forms and scipy's constrained optimiser."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, brentq, minimize

from splitray.errors import UserError
from splitray.law import Law, Plan, fit, plan
from splitray.law.law import Component
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.plan_warnings import FAR, far_strategies
from splitray.law.planning.question import Limits
from splitray.law.planning.size import plan_for_flops
from splitray.law.repetition import Repetition
from splitray.storage.checksum import checksummed
from splitray.units import human
from tests.support.laws import BUDGET, CONSTANTS, TWO_VALLEYS, K, N, ladder, simulate, slopes, with_draws

# Dense in D' at one end and in D at the other: 1e-9 of the budget to all of it.
ENDS = np.logspace(-9, math.log10(0.5), 20000)
FRACTIONS = np.concatenate([[0.0], ENDS, 1 - ENDS[::-1], [1.0]])


def brute_force(law: Law, params: float, budget: float, domains: int) -> tuple[float, float]:
    """(s, loss) of the best of 40002 fractions, through `Law.predict` alone."""
    rest = np.concatenate([[1.0], 1 - ENDS, ENDS[::-1], [0.0]])
    loss = law.predict(params, FRACTIONS * budget, rest * budget / domains)
    return float(FRACTIONS[np.argmin(loss)]), float(loss.min())


@pytest.mark.parametrize("form", CONSTANTS)
@pytest.mark.parametrize("budget", [1e9, 5e10, BUDGET, 1e13])
@pytest.mark.parametrize("domains", [2, K, 300])
def test_split_is_the_global_minimum(form: str, budget: float, domains: int) -> None:
    law = Law.known(form, CONSTANTS[form])
    result = plan(law, params=N, budget=budget, domains=domains)
    fraction, loss = brute_force(law, N, budget, domains)
    assert result.predicted_loss.value <= loss + 1e-12
    assert result.predicted_loss.value == pytest.approx(loss, abs=1e-7)
    assert result.split_fraction.value == pytest.approx(fraction, abs=2e-3)
    planned = law.predict(N, result.pretrain_tokens.value, result.specialize_tokens.value)
    assert result.predicted_loss.value == pytest.approx(float(planned), abs=1e-12)
    spent = result.pretrain_tokens.value + domains * result.specialize_tokens.value
    assert spent == pytest.approx(budget, rel=1e-12)
    assert result.unsplit_loss.value == pytest.approx(float(law.predict(N, budget)), abs=1e-12)


@pytest.mark.parametrize(("form", "fraction"), [("capacity_release", 0.0), ("release", 0.472)])
def test_the_deeper_of_two_valleys_is_found(form: str, fraction: float) -> None:
    law = Law.known(form, TWO_VALLEYS[form])
    losses = law.predict(N, FRACTIONS * BUDGET, (1 - FRACTIONS) * BUDGET / K)
    falls = np.diff(losses) < 0
    assert not falls[0] and (falls[1:] & ~falls[:-1]).sum() == 1, "the example has a valley at 0 and one inside"
    result = plan(law, params=N, budget=BUDGET, domains=K)
    assert result.split_fraction.value == pytest.approx(fraction, abs=0.01)
    assert result.predicted_loss.value == pytest.approx(losses.min(), abs=1e-9)


def test_effective_tokens_closed_form() -> None:
    """kappa D^p N^q + (D_T - D) / K is largest at D = (K kappa p N^q)^(1/(1-p)), whatever the budget above it."""
    k = CONSTANTS["effective_tokens"]
    best = (K * k["kappa"] * k["p"] * N ** k["q"]) ** (1 / (1 - k["p"]))
    law = Law.known("effective_tokens", k)
    for budget in (1.01 * best, 3 * best, 1000 * best):
        result = plan(law, params=N, budget=budget, domains=K)
        assert result.pretrain_tokens.value == pytest.approx(best, rel=1e-5)
        assert result.split_threshold.value == pytest.approx(best, rel=1e-9)
        # Equal loss is an equal stock of effective tokens.
        stock = k["kappa"] * best ** k["p"] * N ** k["q"] + (budget - best) / K
        unsplit = (stock / (k["kappa"] * N ** k["q"])) ** (1 / k["p"])
        assert result.compute_multiplier.value == pytest.approx(unsplit / budget, rel=1e-6)
    below = plan(law, params=N, budget=0.99 * best, domains=K)
    assert not below.splits and below.compute_multiplier.value == 1 and below.gain.value == 0


@pytest.mark.parametrize("form", [*CONSTANTS, *(f"{form} (two valleys)" for form in TWO_VALLEYS)])
@pytest.mark.parametrize("params", [1e8, N, 1e10])
def test_split_threshold_by_its_definition(form: str, params: float) -> None:
    name, _, valleys = form.partition(" ")
    law = Law.known(name, TWO_VALLEYS[name] if valleys else CONSTANTS[name])
    threshold = plan(law, params=params, budget=BUDGET, domains=K).split_threshold.value

    def gain(budget: float) -> float:
        return float(law.predict(params, budget)) - brute_force(law, params, budget, K)[1]

    assert gain(threshold * 0.98) <= 1e-12
    assert gain(threshold * 1.02) > 1e-10


@pytest.mark.parametrize("params", [1e8, N, 1e10])
def test_split_threshold_closed_forms(params: float) -> None:
    """K dL/dD = dL/dD' at D' = 0, solved by hand (docs/planner.md)."""
    gap, capacity, product = (
        SimpleNamespace(**CONSTANTS[f]) for f in ("mixture_gap", "capacity_release", "multiplicative")
    )
    growth = (K - gap.rho) * gap.beta * gap.B * gap.tau * params ** (gap.c + gap.r) / (gap.gamma * gap.G)
    by_hand = {"mixture_gap": growth ** (1 / (1 + gap.beta))}
    k = capacity
    data = (K * k.omega - 1) * k.beta * k.B * k.omega ** (-k.beta - 1)
    by_hand["capacity_release"] = (data * k.delta * params**k.alpha / (k.lam * k.gamma * k.A)) ** (
        1 / (1 + k.beta - k.p)
    )
    by_hand["multiplicative"] = ((K - product.rho) * product.beta * product.tau / product.gamma) ** (
        1 / (1 - product.h)
    )
    k = SimpleNamespace(**CONSTANTS["ossifying_gap"])
    worth = (K - k.rho) * k.beta * k.B * params**k.c
    by_hand["ossifying_gap"] = brentq(
        lambda D: k.gamma * k.G * D ** (1 + k.beta) - worth * (k.tau * params**k.r + k.sigma * D), 1e6, 1e15
    )
    for form, expected in by_hand.items():
        law = Law.known(form, CONSTANTS[form])
        assert plan(law, params=params, budget=BUDGET, domains=K).split_threshold.value == pytest.approx(
            expected, rel=1e-9
        )


def test_a_law_that_never_splits() -> None:
    law = Law.known("chinchilla", {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37})
    result = plan(law, params=N, budget=BUDGET, domains=K)
    assert not result.splits and result.specialize_tokens.value == 0
    assert result.split_threshold.value == math.inf and result.split_threshold.probability_infinite == 1
    assert result.compute_multiplier.value == 1
    assert "no_specialization" in [warning.code for warning in result.warnings]


@pytest.mark.parametrize("form", CONSTANTS)
def test_compute_multiplier_buys_the_same_loss(form: str) -> None:
    law = Law.known(form, CONSTANTS[form])
    result = plan(law, params=N, budget=4 * BUDGET, domains=K)
    multiplier = result.compute_multiplier.value
    if math.isinf(multiplier):
        assert result.predicted_loss.value <= float(law.predict(N, 1e60))
        assert result.plain()["compute_multiplier"]["value"] is None
        assert result.compute_multiplier.probability_infinite == 1
    else:
        assert multiplier > 1
        same = float(law.predict(N, multiplier * 4 * BUDGET))
        assert same == pytest.approx(result.predicted_loss.value, abs=1e-12)


def test_multiplier_is_infinite_below_the_unsplit_floor() -> None:
    law = Law.known("release", CONSTANTS["release"])
    result = plan(law, params=N, budget=1e15, domains=K)
    assert result.predicted_loss.value < float(law.predict(N, 1e60))
    assert result.compute_multiplier.value == math.inf


@pytest.mark.parametrize("form", CONSTANTS)
def test_a_fitted_law_plans_like_the_same_law_given(form: str) -> None:
    given = Law.known(form, CONSTANTS[form])
    fitted = replace(given, objective=0.0)
    for budget in (5e10, BUDGET):
        one, other = (plan(law, params=N, budget=budget, domains=K) for law in (given, fitted))
        assert (one.split_fraction, one.split_threshold) == (other.split_fraction, other.split_threshold)


def test_a_fitted_law_is_not_followed_where_it_turns_up() -> None:
    """Release with p gamma > beta promises its floor to models that were never pretrained."""
    given = Law.known("release", CONSTANTS["release"] | {"p": 0.7})
    fitted = replace(given, objective=0.0)
    assert float(given.predict(N, 0, BUDGET / K)) < float(given.predict(N, 1e9, BUDGET / K)), "the law turns up"
    assert plan(given, params=N, budget=BUDGET, domains=K).split_fraction.value == 0
    result = plan(fitted, params=N, budget=BUDGET, domains=K)
    assert "law_turns_up" in [warning.code for warning in result.warnings]
    shared, special = result.pretrain_tokens.value, result.specialize_tokens.value
    assert shared > 0 and slopes(given, N, shared, special)[0] <= 0


def test_targets_far_outside_the_runs_are_called_so() -> None:
    form = "effective_tokens"
    law = fit(simulate(Law.known(form, CONSTANTS[form]), ladder()), form=form)
    near, far = (plan(law, params=n, budget=1e11, domains=K) for n in (1e9, 1e11))
    assert "far_target" not in [warning.code for warning in near.warnings]
    assert "params" in next(str(warning) for warning in far.warnings if warning.code == "far_target")


def test_the_unsplit_arm_is_checked_like_the_split_one() -> None:
    """Most of the budget goes to the domains: only the unsplit model draws far more of the mixture than any run."""
    law = replace(Law.known("release", CONSTANTS["release"]), largest={"params": N, "pretrain_tokens": BUDGET / 100})
    law = replace(law, largest=law.largest | {"specialize_tokens": BUDGET / 20})
    found = plan(law, params=N, budget=BUDGET, domains=K)
    assert found.pretrain_tokens.value < FAR * BUDGET / 100
    (warning,) = (w for w in found.warnings if w.code == "far_target")
    assert warning.reason == f"pretrain_tokens {human(BUDGET)} of the unsplit model is 100x the largest run's"
    assert human(BUDGET / FAR, 2) in warning.cure


def test_strategies_beside_the_plan_are_checked_too() -> None:
    law = replace(Law.known("release", CONSTANTS["release"]), largest={"specialize_tokens": BUDGET / K / 36})
    found = plan(law, params=N, budget=BUDGET, domains=K)
    assert "far_target" not in [w.code for w in found.warnings]
    warning = far_strategies(law, found, {"unsplit": 1.0, "split at zero": 0.0, "split at one half": 0.5})
    assert warning is not None and "of split at zero is 36x the largest run's" in warning.reason
    assert "one half" not in warning.reason and "unsplit" not in warning.reason
    assert far_strategies(replace(law, largest=None), found, {"split at zero": 0.0}) is None


def test_a_hair_of_gain_has_no_multiplier_to_speak_of() -> None:
    """Far out only the mixture's penalty is left between split and unsplit: no data remove it, however small it is."""
    hair = plan(Law.known("release", CONSTANTS["release"] | {"lam": 1e-4}), params=N, budget=1e34, domains=K)
    assert 0 < hair.gain.value < 1e-4 and math.isinf(hair.compute_multiplier.value)
    assert not hair.worthwhile
    assert plan(Law.known("release", CONSTANTS["release"]), params=N, budget=BUDGET, domains=K).worthwhile


def test_a_law_that_was_saved_warns_as_it_did_before(tmp_path: Path) -> None:
    """The main job plans with the law that it finds in its folder: without the runs, but with how far they reach."""
    form, path = "effective_tokens", tmp_path / "law.json"
    places = ladder()
    law = fit(simulate(Law.known(form, CONSTANTS[form]), places), form=form)
    unsplit = fit(simulate(Law.known(form, CONSTANTS[form]), ladder(ratios=(0.0,))), form=form)
    for fresh, params, said in ((law, 1e11, "far_target"), (unsplit, 1e9, "no_specialization")):
        fresh.save(path)
        again = Law.load(path)
        assert again.runs is None
        ours, theirs = (plan(one, params=params, budget=1e11, domains=K).warnings for one in (again, fresh))
        assert ours == theirs and said in [warning.code for warning in ours]
    reach = [max(column) for column in zip(*places, strict=True)]
    assert law.largest == dict(zip(("params", "pretrain_tokens", "specialize_tokens"), reach, strict=True))


def test_a_law_from_before_its_reach_was_kept_plans_without_that_warning(tmp_path: Path) -> None:
    form, path = "effective_tokens", tmp_path / "law.json"
    fit(simulate(Law.known(form, CONSTANTS[form]), ladder()), form=form).save(path)
    record = json.loads(path.read_text())
    del record["largest"], record["sha256"]
    path.write_text(json.dumps(checksummed(record)))
    codes = [warning.code for warning in plan(Law.load(path), params=1e11, budget=1e11, domains=K).warnings]
    assert "no_interval" in codes and "far_target" not in codes


# per-domain plans


def four_domains() -> Law:
    base = CONSTANTS["capacity_release"]
    return Law.known(
        "capacity_release",
        {
            "code": base,
            "law": base | {"lam": 1.2, "delta": 8.0},
            "fiction": base | {"lam": 0.05, "omega": 0.95},
            "biomed": base | {"B": 900.0, "gamma": 0.5},
        },
    )


NAMES, WEIGHTS = ["code", "law", "fiction", "biomed"], [0.4, 0.3, 0.2, 0.1]


def slsqp(law: Law, budget: float, caps: list[float] | None = None, least: float = 0.0) -> float:
    """The least weighted loss over (D, D'_1, .., D'_4) in units of the budget, from several starts."""

    def loss_and_slopes(shares: np.ndarray) -> tuple[float, np.ndarray]:
        tokens, loss, by_token = np.maximum(shares, 0) * budget, 0.0, np.zeros(5)
        for k, (weight, name) in enumerate(zip(WEIGHTS, NAMES), 1):
            loss += weight * float(law.predict(N, tokens[0], tokens[k], domain=name))
            by_token[[0, k]] += weight * budget * np.array(slopes(law, N, max(tokens[0], 1.0), tokens[k], name))
        return loss, by_token

    upper = np.array([1.0, *([1.0] * 4 if caps is None else np.array(caps) / budget)])
    best = math.inf
    for start in np.maximum([0.0, 0.1, 0.4, 0.9], least):
        found = minimize(
            loss_and_slopes,
            np.array([start, *np.minimum((1 - start) / 4, upper[1:])]),
            jac=True,
            method="SLSQP",
            bounds=list(zip([least, 0, 0, 0, 0], upper)),
            constraints=LinearConstraint(np.ones(5), 1, 1),
            options={"ftol": 1e-14, "maxiter": 500},
        )
        if abs(found.x.sum() - 1) < 1e-9:
            best = min(best, loss_and_slopes(found.x)[0])
    return best


@pytest.mark.parametrize("budget", [2e10, BUDGET, 4e12])
def test_per_domain_allocation_against_slsqp(budget: float) -> None:
    law = four_domains()
    result = plan(law, params=N, budget=budget, domains=NAMES, weights=WEIGHTS, allocation="per_domain")
    assert result.predicted_loss.value == pytest.approx(slsqp(law, budget), abs=2e-7)
    tokens = [part.specialize_tokens.value for part in result.per_domain]
    assert result.pretrain_tokens.value + sum(tokens) == pytest.approx(budget, rel=1e-9)
    weighted = sum(part.weight * part.predicted_loss.value for part in result.per_domain)
    assert weighted == pytest.approx(result.predicted_loss.value, abs=1e-12)
    uniform = plan(law, params=N, budget=budget, domains=NAMES, weights=WEIGHTS)
    assert result.predicted_loss.value <= uniform.predicted_loss.value
    # Karush-Kuhn-Tucker: equal gain per token wherever a domain has some, no larger one where it has none.
    gains = [
        -w * slopes(law, N, result.pretrain_tokens.value, t, name)[1] for w, t, name in zip(WEIGHTS, tokens, NAMES)
    ]
    inside = [gain for gain, t in zip(gains, tokens) if t > 1e-6 * budget]
    assert inside == pytest.approx([max(gains)] * len(inside), rel=1e-3)


def test_caps_and_least_pretraining_against_slsqp() -> None:
    law = replace(four_domains(), repetition=Repetition(1e12))  # the oracle knows caps alone
    limits = Limits(min_pretrain=0.3 * BUDGET, available={"law": 5e9, "biomed": 1e9}, epochs=2.0)
    result = plan(law, params=N, budget=BUDGET, domains=NAMES, weights=WEIGHTS, allocation="per_domain", limits=limits)
    oracle = slsqp(law, BUDGET, caps=[BUDGET, 1e10, BUDGET, 2e9], least=0.3)
    assert result.predicted_loss.value == pytest.approx(oracle, abs=2e-7)
    parts = {part.domain: part for part in result.per_domain}
    assert parts["law"].specialize_tokens.value <= 1e10 * (1 + 1e-9)
    assert parts["law"].epochs == pytest.approx(parts["law"].specialize_tokens.value / 5e9)
    assert parts["code"].epochs is None
    assert result.epochs == pytest.approx(max(parts["law"].epochs, parts["biomed"].epochs))
    assert result.pretrain_tokens.value >= 0.3 * BUDGET


def test_weighted_threshold_first_domain_to_split() -> None:
    """Just above the threshold exactly one domain is worth splitting off; just below, none is."""
    law = four_domains()
    threshold = plan(
        law, params=N, budget=BUDGET, domains=NAMES, weights=WEIGHTS, allocation="per_domain"
    ).split_threshold.value

    def best_gain(budget: float) -> list[float]:
        shared = budget * (1 - np.logspace(-6, -0.5, 400))
        unsplit = sum(w * float(law.predict(N, budget, domain=n)) for w, n in zip(WEIGHTS, NAMES))
        losses = {
            n: (law.predict(N, shared, 0, domain=n), law.predict(N, shared, budget - shared, domain=n)) for n in NAMES
        }
        return [unsplit - float(min(sum(w * losses[n][n == split] for w, n in zip(WEIGHTS, NAMES)))) for split in NAMES]

    assert max(best_gain(threshold * 0.98)) <= 0
    assert sum(gain > 0 for gain in best_gain(threshold * 1.02)) == 1


def test_uniform_plan_follows_the_weights() -> None:
    result = plan(four_domains(), params=N, budget=BUDGET, domains=NAMES, weights=WEIGHTS)
    special = BUDGET - result.pretrain_tokens.value
    assert [p.specialize_tokens.value / special for p in result.per_domain] == pytest.approx(WEIGHTS)


def test_uniform_cap_keeps_more_before_the_split() -> None:
    law = Law.known("capacity_release", CONSTANTS["capacity_release"])
    free = plan(law, params=N, budget=BUDGET, domains=K)
    available = free.specialize_tokens.value / 8
    result = plan(law, params=N, budget=BUDGET, domains=K, limits=Limits(available=available, epochs=4))
    assert result.specialize_tokens.value == pytest.approx(free.specialize_tokens.value / 2)
    assert result.epochs == pytest.approx(4) and free.epochs is None
    assert "limit_reached" in [warning.code for warning in result.warnings]
    floor = plan(law, params=N, budget=BUDGET, domains=K, limits=Limits(min_pretrain=0.9 * BUDGET))
    assert floor.split_fraction.value == pytest.approx(0.9)


# intervals


@pytest.mark.parametrize("form", ["release", "capacity_release"])
def test_intervals_are_quantiles_of_each_draws_own_plan(form: str) -> None:
    law = with_draws(form, CONSTANTS[form], draws=31, spread=0.01)
    result = plan(law, params=N, budget=BUDGET, domains=K, level=0.8)
    part = law.components[0]
    alone = [
        plan(replace(law, components=(Component(form, 1.0, v, part.draws[:0]),)), params=N, budget=BUDGET, domains=K)
        for v in part.draws
    ]
    for name in ("split_fraction", "pretrain_tokens", "predicted_loss", "split_threshold", "compute_multiplier"):
        own, estimate = np.sort([getattr(p, name).value for p in alone]), getattr(result, name)
        assert estimate.low <= estimate.value <= estimate.high
        corner = estimate.value in (0.0, 1.0, math.inf)
        if not corner:
            assert estimate.low == pytest.approx(min(own[3], estimate.value), rel=1e-5)
            assert estimate.high == pytest.approx(max(own[27], estimate.value), rel=1e-5)


def test_interval_ends() -> None:
    draws = np.arange(1.0, 12.0)
    inside = Estimate.of(np.array([6.0, *draws]), 0.8)
    assert (inside.low, inside.high) == (2, 10) and inside.probability_infinite is None
    assert (Estimate.of(np.array([0.0, *draws]), 0.8).low, Estimate.of(np.array([99.0, *draws]), 0.8).high) == (0, 99)
    at_least = Estimate.of(np.array([1.0, *draws]), 0.8, (1.0, math.inf))
    assert (at_least.low, at_least.high) == (1, 9)
    endless = Estimate.of(np.array([math.inf, *draws[:8], *[math.inf] * 3]), 0.8, (1.0, math.inf), unbounded=True)
    assert (endless.low, endless.high) == (3, math.inf)
    assert endless.probability_infinite == pytest.approx(3 / 11)
    assert Estimate.parse(json.loads(json.dumps(endless.plain())), drawn=True) == endless
    alone = Estimate.of(np.array([math.inf]), 0.8, unbounded=True)
    assert alone.low is None and alone.probability_infinite == 1
    assert Estimate.parse(json.loads(json.dumps(alone.plain())), drawn=False) == alone


def test_one_sided_interval_at_a_corner() -> None:
    law = with_draws("effective_tokens", CONSTANTS["effective_tokens"], draws=500, spread=0.004)
    threshold = plan(law, params=N, budget=BUDGET, domains=K).split_threshold.value
    result = plan(law, params=N, budget=0.98 * threshold, domains=K)
    assert not result.splits
    assert result.split_fraction.high == 1 and 0 < result.split_fraction.low < 1
    assert result.compute_multiplier.low == 1 < result.compute_multiplier.high
    # One-sided: 80 % of the draws lie between the corner and the other end.
    alone = replace(
        law, components=(Component("effective_tokens", 1.0, law.components[0].vectors, law.components[0].draws),)
    )
    fractions = [
        plan(
            replace(alone, components=(replace(alone.components[0], vectors=v, draws=alone.components[0].draws[:0]),)),
            params=N,
            budget=0.98 * threshold,
            domains=K,
        ).split_fraction.value
        for v in law.components[0].draws[:60]
    ]
    assert np.mean(np.array(fractions) >= result.split_fraction.low) == pytest.approx(0.8, abs=0.12)


def test_forms_averaged_in_one_law() -> None:
    first, second = "release", "effective_tokens"
    parts = [Law.known(form, CONSTANTS[form]).components[0] for form in (first, second)]
    law = Law(components=(replace(parts[0], share=0.7), replace(parts[1], share=0.3)))
    result = plan(law, params=N, budget=BUDGET, domains=K)
    assert result.predicted_loss.value == pytest.approx(brute_force(law, N, BUDGET, K)[1], abs=1e-7)
    assert result.form == first and [form.form for form in result.by_form] == [first, second]
    for form in result.by_form:
        alone = Law.known(form.form, CONSTANTS[form.form])
        own = plan(alone, params=N, budget=BUDGET, domains=K)
        assert form.split_fraction == pytest.approx(own.split_fraction.value, abs=1e-6)
        lost = float(alone.predict(N, result.pretrain_tokens.value, result.specialize_tokens.value))
        assert form.regret == pytest.approx(lost - own.predicted_loss.value, abs=1e-9)
    disagree = max(form.regret for form in result.by_form) > 0.003
    assert disagree == ("forms_disagree" in [warning.code for warning in result.warnings])


# FLOPs, time, files


def test_flops_optimum_of_chinchilla_closed_form() -> None:
    k = {"E": 1.8172, "A": 477.83, "B": 2143.42, "alpha": 0.3473, "beta": 0.3672}
    g = (k["alpha"] * k["A"] / (k["beta"] * k["B"])) ** (1 / (k["alpha"] + k["beta"]))
    best = g * (5.76e23 / 6) ** (k["beta"] / (k["alpha"] + k["beta"]))
    result = plan_for_flops(Law.known("chinchilla", k), flops=5.76e23, domains=K)
    assert result.params == pytest.approx(best, rel=1e-4)
    assert result.flops == pytest.approx(5.76e23)


@pytest.mark.parametrize("form", ["release", "shared_specific"])
def test_flops_optimum_by_brute_force(form: str) -> None:
    law = Law.known(form, CONSTANTS[form])
    result = plan_for_flops(law, flops=1e21, domains=K)
    sizes = np.exp(np.linspace(np.log(1e7), np.log(1e11), 25))
    losses = [plan(law, params=n, budget=1e21 / 6 / n, domains=K).predicted_loss.value for n in sizes]
    assert result.predicted_loss.value <= min(losses) + 1e-9
    assert result.best_params is not None and result.best_params.value == result.params


def test_time_and_cost() -> None:
    result = plan(Law.known("release", CONSTANTS["release"]), params=N, budget=BUDGET, domains=K).priced(1e6, 30.0)
    assert result.hours == pytest.approx(240e9 / 1e6 / 3600) and result.cost == pytest.approx(result.hours * 30)
    with pytest.raises(UserError, match="tokens_per_second"):
        result.priced(0)


def test_plan_round_trips_through_json(tmp_path: Path) -> None:
    law = with_draws("release", CONSTANTS["release"], draws=30, spread=0.01)
    for budget in (1e8, BUDGET, 1e16):
        result = plan(law, params=N, budget=budget, domains=K, limits=Limits(min_pretrain=10)).priced(1e6, 2.0)
        result.save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == result
    record = json.loads((tmp_path / "plan.json").read_text())
    assert {"form", "constants", "heldout_error", "split_fraction", "pretrain_tokens", "specialize_tokens"} <= set(
        record
    )
    assert {"predicted_loss", "unsplit_loss", "split_threshold", "compute_multiplier", "warnings"} <= set(record)
    assert record["compute_multiplier"]["value"] is None
    assert record["compute_multiplier"]["probability_infinite"] > 0.5
    named = plan(four_domains(), params=N, budget=BUDGET, domains=NAMES, weights=WEIGHTS)
    named.save(tmp_path / "named.json")
    assert Plan.load(tmp_path / "named.json") == named
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".json"] == []
    edited = (tmp_path / "named.json").read_text().replace(f'"params": {N}', f'"params": {2 * N}', 1)
    (tmp_path / "edited.json").write_text(edited)
    with pytest.raises(UserError, match=r"edited\.json does not match the checksum"):
        Plan.load(tmp_path / "edited.json")


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}", '{"schema": "splitray-plan-2"}', '{"schema": "splitray-plan-2", "draws": 0}']
)
def test_damaged_plan_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(damage)
    with pytest.raises(UserError, match="broken"):
        Plan.load(path)
    with pytest.raises(UserError, match="missing"):
        Plan.load(tmp_path / "missing.json")


# rubbish


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": 0}, "budget"),
        ({"budget": -1e9}, "budget"),
        ({"budget": math.nan}, "budget"),
        ({"budget": math.inf}, "budget"),
        ({"budget": "much"}, "budget"),
        ({"budget": 1e300}, "budget"),
        ({"params": 0}, "params"),
        ({"params": math.nan}, "params"),
        ({"domains": 0}, "domains"),
        ({"domains": -3}, "domains"),
        ({"domains": True}, "domains"),
        ({"domains": 2.5}, "domains"),
        ({"domains": []}, "domains"),
        ({"domains": "code"}, "domains"),
        ({"domains": ["code", "code"]}, "twice"),
        ({"domains": ["code", "klingon"]}, "klingon"),
        ({"weights": [0.5, 0.5]}, "named domains"),
        ({"domains": NAMES, "weights": [0.5, 0.5]}, "4 domains"),
        ({"domains": NAMES, "weights": [0.5, 0.5, 0.5, 0.5]}, "add up to 2"),
        ({"domains": NAMES, "weights": [0.5, 0.5, 0.5, -0.5]}, "biomed"),
        ({"domains": NAMES, "weights": [0.5, 0.5, 0.0, math.nan]}, "positive"),
        ({"allocation": "fair"}, "fair"),
        ({"allocation": "per_domain"}, "named domains"),
        ({"level": 1.0}, "level"),
        ({"limits": Limits(min_pretrain=2 * BUDGET)}, "min_pretrain"),
        ({"limits": Limits(min_pretrain=math.nan)}, "min_pretrain"),
        ({"limits": Limits(available=0)}, "available"),
        ({"limits": Limits(available={"klingon": 1e9})}, "klingon"),
        ({"limits": Limits(epochs=0)}, "epochs"),
    ],
)
def test_rubbish_is_refused_by_name(given: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(four_domains(), **({"params": N, "budget": BUDGET, "domains": K} | given))


@pytest.mark.parametrize("form", CONSTANTS)
@pytest.mark.parametrize(("params", "budget"), [(N, 1.0), (N, 1e30), (1.0, 1e12), (1e15, 1e3)])
def test_extremes_give_numbers(form: str, params: float, budget: float) -> None:
    law = Law.known(form, CONSTANTS[form])
    result = plan(law, params=params, budget=budget, domains=K)
    assert result.predicted_loss.value <= brute_force(law, params, budget, K)[1] * (1 + 1e-12)
    assert 0 <= result.split_fraction.value <= 1 and not math.isnan(result.compute_multiplier.value)


def test_one_domain_is_continued_pretraining() -> None:
    law = Law.known("release", CONSTANTS["release"])
    result = plan(law, params=N, budget=BUDGET, domains=1)
    assert result.predicted_loss.value == pytest.approx(brute_force(law, N, BUDGET, 1)[1], abs=1e-7)
    assert result.specialize_tokens.value == pytest.approx(BUDGET - result.pretrain_tokens.value)
    assert "one_domain" in [warning.code for warning in result.warnings]
