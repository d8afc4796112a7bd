"""Which forms carry the paper's claims 2 and 4, with K = 16 domains, and for which constants?

Claims (arXiv 2603.19149, figures 4 and 1b): D_split grows with N; the optimal fraction falls with the budget while the
optimal number of pretraining tokens grows; the compute multiplier grows with the budget.

Every registered form is given 2000 sets of constants drawn from the ranges its fits start from (`Constant.typical`:
exponents evenly, coefficients log-evenly at N = 1e9 and D = 1e10). A set is judged where splitting 1B parameters
begins between 100M and 10T tokens: D_split at five sizes from 100M to 10B; the optimum at 1.5, 4, 10, 30 and 100
times D_split. The benchmark counts how often each claim holds where the condition derived for it (CONDITIONS) is met,
and elsewhere, and draws one law of each form.

    python -m benchmarks.law_claims
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.law_planted import TRUTHS, truth
from benchmarks.machine import describe
from splitray.law import Law
from splitray.law.forms import REGISTRY
from splitray.law.law import Component
from splitray.law.planning.line import COARSE, Line
from splitray.law.planning.question import Question
from splitray.law.planning.surface import Surface
from splitray.law.planning.sweep import sweep_budgets, sweep_params
from splitray.law.planning.threshold import compute_multiplier, split_threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results" / "law_claims"
DOMAINS, DRAWS = 16, 2000
SIZES, CENTRE = np.array([1e8, 3e8, 1e9, 3e9, 1e10]), {"params": 1e9, "tokens": 1e10}
BEGINS = (1e8, 1e13)
FACTORS = np.array([1.5, 4.0, 10.0, 30.0, 100.0])

# What the claims ask of each form, from dL/dD' = K dL/dD at D' = 0 and from the optimum at large budgets
# (docs/planner.md derives them): the claim, the condition in words, and as a test of arrays over sets of constants.
CONDITIONS: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "release": {
        "threshold_grows": ("q >= 0 and alpha + c + q > 0", lambda k: (k.q >= 0) & (k.alpha + k.c + k.q > 0)),
        "optimum": ("D_sat > 100 D_split", lambda k: saturation(k) > 100 * k.threshold),
    },
    "mixture_gap": {
        "threshold_grows": ("c + r > 0 and rho < K", lambda k: (k.c + k.r > 0) & (k.rho < DOMAINS)),
        "optimum": ("gamma < beta and rho < 1", lambda k: (k.gamma < k.beta) & (k.rho < 1)),
    },
    "ossifying_gap": {
        "threshold_grows": (
            "c >= 0 and r >= 0 and rho < K",
            lambda k: (k.c >= 0) & (k.r >= 0) & (k.rho < DOMAINS),
        ),
        "optimum": ("K sigma < 1 and rho < 1", lambda k: (DOMAINS * k.sigma < 1) & (k.rho < 1)),
    },
    "effective_tokens": {
        "threshold_grows": ("q > 0 and p < 1", lambda k: (k.q > 0) & (k.p < 1)),
        "optimum": ("never", lambda k: np.zeros(k.q.shape)),
    },
    "shared_specific": {
        "threshold_grows": ("q > 0 and p < 1", lambda k: (k.q > 0) & (k.p < 1)),
        "optimum": ("gamma < beta and rho < 1", lambda k: (k.gamma < k.beta) & (k.rho < 1)),
    },
    "capacity_release": {
        "threshold_grows": ("p < 1 + beta and K omega > 1", lambda k: (k.p < 1 + k.beta) & (DOMAINS * k.omega > 1)),
    },
    "multiplicative": {
        "threshold_grows": ("never", lambda k: np.zeros(k.h.shape)),
        "optimum": (
            "h log(100 D_split / (K tau)) < 1/4",
            lambda k: k.h * np.log(100 * k.threshold / (DOMAINS * k.tau)) < 0.25,
        ),
    },
}


def saturation(k: Any) -> Any:
    """Where release stops adding pretraining: the minimum of lam A N^-alpha D^(p gamma) + B N^c D^(p gamma - beta)."""
    n, left = CENTRE["params"], k.beta - k.p * k.gamma
    ratio = k.B * n ** (k.alpha + k.c) * np.maximum(left, 0) / (k.lam * k.A * k.p * k.gamma)
    return ratio ** (1 / k.beta)


def sample(name: str, rng: np.random.Generator) -> np.ndarray:
    """Searched vectors [draws, constants], coefficients expressed in units of 1."""
    form = REGISTRY[name]
    values: dict[str, np.ndarray] = {}
    for constant in sorted(form.constants, key=lambda c: not c.exponent):
        low, high = constant.typical
        if constant.exponent:
            values[constant.name] = rng.uniform(low, high, DRAWS)
            continue
        log = rng.uniform(np.log(low), np.log(high), DRAWS)
        for axis, power, sign in constant.powers():
            log = log + sign * (values[power] if isinstance(power, str) else power) * np.log(CENTRE[axis])
        values[constant.name] = log
    return np.stack([values[constant.name] for constant in form.constants], axis=1)


def judge(name: str, vectors: np.ndarray) -> dict[str, Any]:
    """Shares of the sets of constants for which each claim holds."""
    law = Law(components=(Component(name, 1.0, vectors[:1], vectors[:, None]),))
    surface = Surface(law, DOMAINS)
    thresholds = np.stack([split_threshold(surface, float(n))[1:] for n in SIZES], axis=1)
    start = thresholds[:, 2]
    judged = (start > BEGINS[0]) & (start < BEGINS[1])
    if not judged.any():
        return {"judged": 0, "of": DRAWS}
    vectors, thresholds, start = vectors[judged], thresholds[judged], start[judged]
    law = Law(components=(Component(name, 1.0, vectors[:1], vectors[:, None]),))
    surface = Surface(law, DOMAINS)
    fractions, tokens, multipliers = [], [], []
    for factor in FACTORS:
        budget = np.concatenate([start[:1], start])[:, None] * factor
        x, loss = (a for a in Line(surface, 1e9, budget).best(COARSE))
        shared = Line(surface, 1e9, budget).divide(x[:, None])[0]
        fractions.append((shared / budget)[1:, 0])
        tokens.append(shared[1:, 0])
        multipliers.append(compute_multiplier(surface, 1e9, budget, loss)[1:])
    fraction, token, multiplier = (np.stack(a, axis=1) for a in (fractions, tokens, multipliers))
    finite = np.minimum(multiplier, 1e100)
    holds = {
        "threshold_grows": (np.diff(thresholds) > 1e-6 * thresholds[:, :-1]).all(axis=1),
        "fraction_falls": (np.diff(fraction) < -1e-3 * fraction[:, :-1]).all(axis=1),
        "tokens_grow": (np.diff(token) > 1e-3 * token[:, :-1]).all(axis=1),
        "multiplier_grows": ((np.diff(finite) > 1e-3) | (finite[:, 1:] == 1e100)).all(axis=1),
        "multiplier_infinite": np.isinf(multiplier[:, -1]),
    }
    holds["optimum"] = holds["fraction_falls"] & holds["tokens_grow"]
    holds["all"] = holds["threshold_grows"] & holds["optimum"] & holds["multiplier_grows"]
    constants = SimpleNamespace(threshold=start)
    for index, constant in enumerate(REGISTRY[name].constants):
        column = vectors[:, index]
        setattr(constants, constant.name, column if constant.exponent else np.exp(column))
    result: dict[str, Any] = {"judged": int(judged.sum()), "of": DRAWS}
    result |= {claim: float(values.mean()) for claim, values in holds.items()}
    median = float(np.median(multiplier[:, -1]))
    result["multiplier_at_100x_median"] = median if np.isfinite(median) else None
    result["conditions"] = {}
    for claim, (words, condition) in CONDITIONS[name].items():
        met = np.asarray(condition(constants), dtype=bool)
        result["conditions"][claim] = {
            "condition": words,
            "met_by": float(met.mean()),
            "holds_where_met": float(holds[claim][met].mean()) if met.any() else None,
            "holds_elsewhere": float(holds[claim][~met].mean()) if (~met).any() else None,
        }
    return result


def draw() -> "Figure":
    """One law of each form (the truths of law_planted.py): D_split, the optimum and the multiplier."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.6), layout="constrained")
    (threshold, fraction), (tokens, multiplier) = figure.subplots(2, 2)
    sizes, budgets = np.logspace(7.5, 10.5, 13), np.logspace(9.5, 13.5, 17)
    for name, marker, dash in zip(TRUTHS, "os^DvP*", ("-", "--", ":", "-.", "-", "--", ":")):
        law = truth(name)
        look = {"marker": marker, "linestyle": dash, "color": "0.15", "markersize": 5, "linewidth": 1.2}
        look["markerfacecolor"] = "white" if marker in "osD" else "0.15"
        thresholds = sweep_params(law, Question(1.3e9, 240e9, DOMAINS), sizes)
        threshold.loglog(sizes, [e.value for e in thresholds], label=name, **look)
        sweep = sweep_budgets(law, Question(1.3e9, 240e9, DOMAINS), budgets)
        fraction.semilogx(budgets, [e.value for e in sweep.split_fraction], **look)
        tokens.loglog(budgets, [max(e.value, 1e8) for e in sweep.pretrain_tokens], **look)
        multiplier.loglog(budgets, [e.value for e in sweep.compute_multiplier], **look)
    threshold.set(xlabel="model size $N$ (parameters)", ylabel=r"$D_\mathrm{split}$ (tokens)")
    fraction.set(xlabel="budget $D_T$ (tokens)", ylabel="optimal split fraction $s$")
    tokens.set(xlabel="budget $D_T$ (tokens)", ylabel="optimal pretraining $D$ (tokens; $10^8$: none)")
    multiplier.set(
        xlabel="budget $D_T$ (tokens)", ylabel="compute multiplier $m$ (line ends: infinite)", ylim=(0.9, 200)
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"1.3B parameters, {DOMAINS} domains, one planted law of each form")
    return figure


def main() -> None:
    table: dict[str, Any] = {}
    for name, form in REGISTRY.items():
        if not form.splits:
            continue
        table[name] = judge(name, sample(name, np.random.default_rng(0)))
        print(f"{name:18}", {k: v for k, v in table[name].items() if k != "conditions"})
        for claim, found in table[name].get("conditions", {}).items():
            print(f"{'':18}   {claim}: {found}")
    record = {"domains": DOMAINS, "draws": DRAWS, "forms": table, "machine": describe("numpy", "scipy")}
    RESULTS.mkdir(parents=True, exist_ok=True)
    draw().savefig(RESULTS / "claims.png", dpi=130, metadata={"Software": None})
    (RESULTS / "claims.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
