"""Learning rates: a sweep at the ladder's small sizes, and the best rate that it foretells for the target.

Unsplit and split training are swept alike: at the same sizes, the same budgets and the same multiples of the configured
rate. Each strategy gets its own best rate at the target, so that neither is compared at the other's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitray.results.rates import BEYOND, Rates
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf

SWEPT_SIZES = 2  # the smallest: a sweep there costs least, and two show how the best rate moves with the size
STRATEGIES = (1.0, 0.5)  # split fractions that are swept: unsplit, and the middle of the line
# Deviations of the prior, in doublings of the rate: of a best rate about the configured one; of its change when size or
# tokens double, beyond training.learning_rate_exponent; and of one curve's lowest point, about a quarter of a step.
_LEVEL, _SLOPE, _APART, _CURVE = 1.0, 0.15, 0.5, 0.25
_FLATTEST = 0.005  # nats that a rate costs twice too high or low, at least: most sweeps of the proof have more


@dataclass(frozen=True)
class Swept:
    """A model of the sweep: its rate over the configured one, the strategy and budget that it belongs to."""

    shape: ModelShape
    multiple: float
    fraction: float
    budget: int
    leaf: Leaf
    domains: tuple[str, ...]


def sweep(
    shapes: Sequence[ModelShape],
    budgets: Sequence[int],
    multiples: Sequence[float],
    domains: Sequence[str],
    parts: int,
    batch_tokens: int,
) -> list[Swept]:
    """Every model of the sweep: the smallest shapes, the least and the largest budget, both strategies.

    Args:
        budgets: in whole batches. domains: those that are scored, of `parts` in all.
    """
    found = []
    for shape in shapes[:SWEPT_SIZES]:
        for budget in sorted({min(budgets), max(budgets)}):
            after = max(1, round((1 - STRATEGIES[1]) * budget / parts / batch_tokens)) * batch_tokens
            for multiple in sorted({*multiples, 1.0}):
                found.append(Swept(shape, multiple, STRATEGIES[0], budget, Leaf(budget), tuple(domains)))
                if (shared := budget - parts * after) > 0:
                    found += [
                        Swept(shape, multiple, STRATEGIES[1], budget, Leaf(shared, after, name), (name,))
                        for name in domains
                    ]
    return found


def fit_rates(rows: Iterable[dict[str, Any]]) -> Rates:
    """The best rates of a sweep's rows: `params`, `budget`, `fraction`, `multiple` and `loss`, one for each domain.

    A curve is the mean loss over domains of one size, budget and strategy. A parabola in the logarithm of the rate
    gives its lowest point, at most a doubling beyond the rates that were tried. All curves share one curvature, because
    that of a single one is mostly noise. A regression with weak priors about the configured rate joins the curves
    (Bayesian linear regression): few curves leave it near there.
    """
    losses: dict[tuple[float, float, float], dict[float, list[float]]] = {}
    for row in rows:
        curve = losses.setdefault((row["params"], row["budget"], row["fraction"]), {})
        curve.setdefault(row["multiple"], []).append(row["loss"])
    places, parabolas = list(losses), []
    for curve in losses.values():
        multiples = sorted(curve)
        parabolas.append(_parabola(np.log2(multiples), np.array([np.mean(curve[m]) for m in multiples])))
    middle, slope, curvature = np.array(parabolas).T
    tried = {multiple for curve in losses.values() for multiple in curve}
    edges = np.log2(min(tried)) - BEYOND, np.log2(max(tried)) + BEYOND
    lowest = np.clip(middle - slope / (2 * max(float(curvature.mean()), _FLATTEST)), *edges)
    size, tokens = (np.log2([place[i] for place in places]) for i in (0, 1))
    split = np.array([place[2] != 1 for place in places], dtype=float)
    design = np.stack([np.ones(len(places)), split, size - size.mean(), tokens - tokens.mean()], axis=1)
    prior = np.diag(1 / np.square([_LEVEL, _APART, _SLOPE, _SLOPE]))
    precision = prior + design.T @ design / _CURVE**2
    mean = np.linalg.solve(precision, design.T @ lowest / _CURVE**2)
    return Rates(
        unsplit=float(mean[0]),
        split=float(mean[0] + mean[1]),
        by_size=float(mean[2]),
        by_tokens=float(mean[3]),
        params=float(2 ** size.mean()),
        tokens=float(2 ** tokens.mean()),
        least=min(tried),
        most=max(tried),
        deviation=float(np.sqrt(np.linalg.inv(precision)[0, 0])),
    )


def _parabola(x: np.ndarray, losses: np.ndarray) -> tuple[float, float, float]:
    """Through the lowest point and its neighbours: the middle one, the slope there and half the curvature."""
    best = int(np.clip(np.argmin(losses), 1, len(x) - 2))
    near = slice(best - 1, best + 2)
    curvature, slope, _ = np.polyfit(x[near] - x[best], losses[near], 2)
    return float(x[best]), float(slope), float(curvature)
