"""Laws with known constants for the planner's tests: the optimum at 1.3B parameters and 240B tokens is inside."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from splitray.law import Law
from splitray.law.forms import find
from splitray.law.law import Component

N, BUDGET, K = 1.3e9, 240e9, 16

CONSTANTS: dict[str, dict[str, float]] = {
    "release": {"E": 1.6, "A": 285.0, "alpha": 0.34, "B": 225.0, "beta": 0.25, "c": 0.046}
    | {"lam": 0.14, "delta": 3.9, "p": 0.615, "q": 0.28, "gamma": 0.4},
    "mixture_gap": {"E": 1.6, "A": 400.0, "alpha": 0.34, "B": 700.0, "beta": 0.33, "c": 0.0, "rho": 0.5}
    | {"G": 0.25, "tau": 2e7, "r": 0.1, "gamma": 0.25},
    "ossifying_gap": {"E": 1.6, "A": 400.0, "alpha": 0.34, "B": 700.0, "beta": 0.33, "c": 0.0, "rho": 0.5}
    | {"G": 0.25, "tau": 2e7, "r": 0.1, "gamma": 0.6, "sigma": 0.02},
    "effective_tokens": {"E": 1.6, "A": 800.0, "alpha": 0.39, "B": 5400.0, "beta": 0.4}
    | {"kappa": 5.3, "p": 0.68, "q": 0.2},
    "shared_specific": {"E": 1.6, "A": 350.0, "alpha": 0.35, "B": 96.0, "beta": 0.26, "rho": 2.0}
    | {"C": 8.0, "gamma": 0.18, "kappa": 1460.0, "p": 0.54, "q": 0.01},
    "capacity_release": {"E": 1.6, "A": 417.0, "alpha": 0.37, "B": 462.0, "beta": 0.33, "omega": 0.66}
    | {"lam": 0.64, "delta": 19.0, "p": 0.73, "gamma": 0.36},
    "multiplicative": {"E": 1.6, "A": 368.0, "alpha": 0.34, "B": 112.0, "beta": 0.286, "rho": 0.66}
    | {"tau": 3.2e8, "gamma": 0.16, "h": 0.03},
}
# Capacity is shared with the mixture only by a model that has seen it: the loss along the budget line has one valley
# inside and one at s = 0. The first is deeper at s = 0, the second inside.
TWO_VALLEYS: dict[str, dict[str, float]] = {
    "capacity_release": {"E": 1.6, "A": 158.5, "alpha": 0.2907, "B": 108.6, "beta": 0.2656, "omega": 0.9155}
    | {"lam": 0.5306, "delta": 148.4, "p": 0.6911, "gamma": 0.5904},
    "release": {"E": 1.6, "A": 848.3, "alpha": 0.4337, "B": 74.21, "beta": 0.2642, "c": 0.04151}
    | {"lam": 0.1192, "delta": 0.5779, "p": 0.7397, "q": 0.2285, "gamma": 0.3572},
}


def with_draws(form: str, constants: Mapping[str, float], draws: int, spread: float, seed: int = 0) -> Law:
    """A law with draws around its constants, `spread` a standard deviation relative to the searched value."""
    known = Law.known(form, constants)
    vectors = known.components[0].vectors
    shaken = vectors * (1 + spread * np.random.default_rng(seed).standard_normal((draws, *vectors.shape)))
    return Law(components=(Component(form, 1.0, vectors, shaken),), domains=known.domains)


def slopes(law: Law, params: float, shared: float, special: float, domain: str = "") -> tuple[float, float]:
    """(dL/dD, dL/dD') of one domain of a law of one form."""
    (part,) = law.components
    vector = part.vectors[[law.domains.index(domain)]]
    by_shared, by_special = find(part.form).gradient(vector, *(np.array([x]) for x in (params, shared, special)))
    return float(by_shared[0, 0]), float(by_special[0, 0])


def simulate(law: Law, places: list[tuple[float, float, float]], noise: float = 0.003, seed: int = 0) -> pa.Table:
    """A table of runs at (params, pretrain_tokens, specialize_tokens) with log-normal noise on the law's loss."""
    params, shared, special = np.array(places, dtype=float).T
    shaken = np.exp(noise * np.random.default_rng(seed).standard_normal(len(places)))
    return pa.table(
        {
            "params": params,
            "pretrain_tokens": shared,
            "specialize_tokens": special,
            "domain": ["all"] * len(places),
            "loss": law.predict(params, shared, special) * shaken,
        }
    )


def ladder(ratios: tuple[float, ...] = (0.0, 0.02, 0.1, 0.4)) -> list[tuple[float, float, float]]:
    """Five sizes, four D, and D' as parts of D: what a small team can train."""
    sizes, shared = (2e7, 4e7, 8e7, 1.6e8, 5e8), (1e9, 5e9, 2e10, 5e10)
    return [(n, d, min(r * d, 1e10)) for n in sizes for d in shared for r in ratios]
