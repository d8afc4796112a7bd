"""What the measured losses say: surfaces, multipliers, paired differences. Pure functions of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import t as student

from splitray.proof.bowl import DEGREE, Bowl
from splitray.search.correction import place

_FINE = np.linspace(0.0, 1.0, 1001)


def bowl_of(line: Mapping[str, Any], over_ladder: bool = False) -> Bowl:
    """The bowl of a line of the results; `over_ladder`: over the ladder's domains, which lines are compared by."""
    losses, noise = (line.get(f"ladder_{n}", line[n]) if over_ladder else line[n] for n in ("loss", "noise"))
    return Bowl(np.array(line["split_fraction"]), np.array(losses), noise)


@dataclass(frozen=True)
class Surface:
    """Losses [fractions, rates] of one budget over the split fraction and log2 of the specialists' learning rate.

    Smooth as `Bowl` along the fraction, a parabola along the rate, least squares over their products.
    """

    fractions: np.ndarray
    rates: np.ndarray
    losses: np.ndarray

    def _design(self, fractions: Any, rates: Any) -> np.ndarray:
        low, high = self.rates.min(), self.rates.max()
        degree = min(DEGREE, len(self.fractions) - 2)
        along = np.polynomial.legendre.legvander(2 * place(fractions) - 1, degree)
        across = np.polynomial.legendre.legvander(2 * (np.asarray(rates) - low) / (high - low) - 1, 2)
        return np.asarray((along[..., :, None] * across[..., None, :]).reshape(*along.shape[:-1], -1))

    @cached_property
    def _coefficients(self) -> np.ndarray:
        s, x = np.meshgrid(self.fractions, self.rates, indexing="ij")
        return np.asarray(np.linalg.lstsq(self._design(s.ravel(), x.ravel()), self.losses.ravel(), rcond=None)[0])

    def at(self, fraction: Any, rate: Any) -> np.ndarray:
        """The smooth loss at fractions and rates, element by element."""
        return np.asarray(self._design(fraction, rate) @ self._coefficients)

    @property
    def best(self) -> tuple[float, float, float]:
        """The fraction, the rate and the loss of the bottom, within what was measured."""
        s, x = np.meshgrid(_FINE, np.linspace(self.rates.min(), self.rates.max(), 101), indexing="ij")
        losses = self.at(s, x)
        low = np.unravel_index(losses.argmin(), losses.shape)
        return float(s[low]), float(x[low]), float(losses[low])


def noisy_multiplier(
    tokens: Sequence[float], losses: Sequence[float], budget: float, goal: float, noise: float, draws: int = 400
) -> dict[str, Any]:
    """`multiplier` with its 95 % interval under the `noise`, nats, of each loss and the goal; null: beyond the runs.

    Where the smallest run lies below the goal already, its tokens stand for the multiplier.
    """
    rng, found = np.random.default_rng(0), list[float]()
    for _ in range(draws):
        shifts = noise * rng.standard_normal(len(losses) + 1)
        told = multiplier(tokens, np.asarray(losses) + shifts[:-1], budget, goal + shifts[-1])
        found.append(told.get("at_most", np.inf) if told["value"] is None else told["value"])
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    ends = {"low": low, "high": high}
    return multiplier(tokens, losses, budget, goal) | {n: float(v) if np.isfinite(v) else None for n, v in ends.items()}


def multiplier(
    tokens: Sequence[float], losses: Sequence[float] | np.ndarray, budget: float, goal: float
) -> dict[str, Any]:
    """How many times `budget` tokens unsplit training needs to reach the loss `goal`.

    Interpolated by a monotone cubic in log tokens between unsplit runs of ascending `tokens`; null and `at_least`
    where none of them reaches it (right-censored), null and `at_most` where the smallest lies below it already.
    """
    spent, reached = np.asarray(tokens, dtype=float), np.minimum.accumulate(np.asarray(losses, dtype=float))
    if goal < reached[-1]:
        return {"value": None, "at_least": float(spent[-1] / budget)}
    if goal > reached[0]:
        return {"value": None, "at_most": float(spent[0] / budget)}
    grid = np.linspace(np.log(spent[0]), np.log(spent[-1]), 4001)
    curve = PchipInterpolator(np.log(spent), reached)(grid)
    return {"value": float(np.exp(grid[int(np.argmax(curve <= goal + 1e-12))]) / budget)}


def paired(ours: np.ndarray, other: np.ndarray, draws: int = 4000, seed: int = 0) -> dict[str, Any]:
    """Mean of ours - other, losses [seeds, domains], with a 95 % interval: seeds and domains are both resampled.

    With one seed the interval is over domains alone, with one domain Student's over seeds. `by_domain` are means over
    seeds; `these_domains` is Student's interval of the mean over just these domains, where there are several of both.
    """
    gap = ours - other
    seeds, domains = gap.shape
    told = {"value": float(gap.mean()), "seeds": seeds, "domains": domains, "by_domain": gap.mean(axis=0).tolist()}
    if domains == 1:
        return told | _over_seeds(gap)
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(seeds, size=(draws, seeds, 1)), rng.integers(domains, size=(draws, 1, domains))
    spread = gap[rows, columns].mean(axis=(1, 2)) - gap.mean()
    # resampling n things understates the variance of their mean by (n - 1) / n, and takes it for known: with three
    # seeds whose noise dominates, 82 % of such intervals held the truth; Student's t for the fewest cures that
    fewest = min(n for n in (seeds, domains) if n > 1)
    wider = np.sqrt(fewest / (fewest - 1)) * student.ppf(0.975, fewest - 1) / student.ppf(0.975, np.inf)
    low, high = np.quantile(spread * wider, [0.025, 0.975]) + gap.mean()
    told |= {"low": float(low), "high": float(high)}
    return told | ({"these_domains": _over_seeds(gap)} if seeds > 1 else {})


def _over_seeds(gap: np.ndarray) -> dict[str, float]:
    """Student's 95 % interval of the mean of [seeds, domains] over seeds."""
    means = gap.mean(axis=1)
    half = student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return {"low": float(means.mean() - half), "high": float(means.mean() + half)}


def trials_until(losses: Sequence[float], bottom: float, tolerance: float) -> int | None:
    """How many trials a search needed to come within `tolerance` of `bottom`; None where it never did."""
    within = np.flatnonzero(np.asarray(losses) <= bottom + tolerance)
    return int(within[0]) + 1 if within.size else None
