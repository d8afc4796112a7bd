"""What the measured losses say: smooth bowls, regrets, multipliers, paired differences. Pure functions of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import t as student

from splitray.search.correction import place

# In arcsin(sqrt(s)) both ends of the line are resolved. On 20 planted bowls (law_planted.py, five budgets) a quintic
# through the programme's eight exact points has its bottom where at most 0.0005 nats are lost, and tells the regret of
# any s up to 0.8 to 0.005. With noise of 0.01 nats it loses 0.0024 on average; a sextic, closer without noise, 0.0049.
_DEGREE = 5
_FINE = np.linspace(0.0, 1.0, 1001)


@dataclass(frozen=True)
class Bowl:
    """Losses measured at split fractions [points] of one budget, and a smooth curve through them.

    noise: standard deviation of a measured loss, nats per token, without what all points share.
    """

    fractions: np.ndarray
    losses: np.ndarray
    noise: float

    @classmethod
    def of(cls, line: Mapping[str, Any], over_ladder: bool = False) -> "Bowl":
        """The bowl of a line of the results; `over_ladder`: over the ladder's domains, which lines are compared by."""
        losses, noise = (line.get(f"ladder_{n}", line[n]) if over_ladder else line[n] for n in ("loss", "noise"))
        return cls(np.array(line["split_fraction"]), np.array(losses), noise)

    @cached_property
    def _basis(self) -> tuple[np.ndarray, np.ndarray]:
        """Design of the points, and the matrix from losses to coefficients."""
        degree = min(_DEGREE, len(self.fractions) - 2)
        design = np.polynomial.legendre.legvander(2 * place(self.fractions) - 1, degree)
        return design, np.linalg.pinv(design)

    def curve(self, fractions: Any, losses: np.ndarray | None = None) -> np.ndarray:
        """The smooth loss [..., points] at fractions [points], through `losses` [..., measured]; default the own."""
        design, solve = self._basis
        given = self.losses if losses is None else losses
        wanted = np.polynomial.legendre.legvander(2 * place(fractions) - 1, design.shape[1] - 1)
        return np.asarray(given @ solve.T @ wanted.T)

    @property
    def best(self) -> tuple[float, float]:
        """The fraction and the loss of the smooth curve's bottom."""
        losses = self.curve(_FINE)
        return float(_FINE[losses.argmin()]), float(losses.min())

    @property
    def misfit(self) -> float:
        """Root mean square of the points about the curve, per free point: to be compared with the noise."""
        design, _ = self._basis
        free = len(self.losses) - design.shape[1]
        return float(np.sqrt(np.sum((self.curve(self.fractions) - self.losses) ** 2) / max(free, 1)))

    def _noisy(self, draws: int, seed: int, truth: np.ndarray | None = None) -> np.ndarray:
        """Losses [draws, measured] that might have been measured, of `truth`; default the measured ones."""
        random = np.random.default_rng(seed).standard_normal((draws, len(self.losses)))
        return (self.losses if truth is None else truth) + self.noise * random

    def regret(self, fraction: float, draws: int = 4000, seed: int = 0) -> dict[str, float]:
        """What stopping at `fraction` loses against the curve's bottom, nats per token; 95 % bounds under the noise.

        `noisy_mean` is the mean over draws of the noise: the minimum of a noisy curve lies too low, so it is above
        zero even at the true optimum.
        """
        return _bounded(self._lost(fraction, draws, seed))

    def _lost(self, fraction: float, draws: int, seed: int) -> np.ndarray:
        """Regret [1 + draws] of the curve itself, then under draws of the noise."""
        every = self.curve(_FINE, np.concatenate([self.losses[None], self._noisy(draws, seed)]))
        return np.asarray(every[:, round(fraction * (len(_FINE) - 1))] - every.min(axis=1))

    def optima(self, draws: int = 4000, seed: int = 0) -> np.ndarray:
        """The bottom's fraction under draws of the noise, [draws]."""
        return np.asarray(_FINE[self.curve(_FINE, self._noisy(draws, seed)).argmin(axis=1)])

    def optimum(self) -> dict[str, float]:
        """The bottom's fraction and its 95 % interval under the noise."""
        return interval(self.best[0], self.optima())

    @property
    def gain(self) -> float:
        """The loss of unsplit training, the last point, less the curve's bottom; nats per token."""
        return float(self.losses[-1]) - self.best[1]

    def gains(self, truth: np.ndarray | None = None, draws: int = 4000, seed: int = 0) -> np.ndarray:
        """`gain` under draws of the noise about `truth`, [draws]."""
        noisy = self._noisy(draws, seed, truth)
        return np.asarray(noisy[:, -1] - self.curve(_FINE, noisy).min(axis=1))

    def gain_by_chance(self) -> float:
        """The gain that one measurement in forty shows where no split gains: the bottom of a noisy curve is too low."""
        level = np.maximum(self.curve(self.fractions), self.losses[-1])
        return float(np.quantile(self.gains(level), 0.975))


def interval(value: float, draws: np.ndarray) -> dict[str, float]:
    """A value with the 95 % interval of its draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}


def _bounded(lost: np.ndarray) -> dict[str, float]:
    """Of values [1 + draws] whose first is the measured one."""
    return interval(float(lost[0]), lost[1:]) | {"noisy_mean": float(lost[1:].mean())}


def mean_regret(stops: Sequence[tuple[Bowl, float]], draws: int = 4000) -> dict[str, float]:
    """The mean of `Bowl.regret` over bowls, each stopped at its fraction, with bounds on that mean."""
    return _bounded(np.mean([bowl._lost(s, draws, seed) for seed, (bowl, s) in enumerate(stops)], axis=0))


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
        degree = min(_DEGREE, len(self.fractions) - 2)
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


def replicate_noise(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Standard deviations of log loss over replicated cells: `seed` of what a size's runs share, `rest` beyond it.

    A two-way table of each size, cells (D, D', domain) by seeds, complete cells only; the effects of cells and seeds
    are taken out (two-way analysis of variance), sizes are pooled. Without replicates `cells` is 0.
    """
    tables: dict[int, dict[tuple[Any, ...], dict[int, float]]] = {}
    for row in rows:
        cell = (row["pretrain_tokens"], row["specialize_tokens"], row["domain"])
        tables.setdefault(row["params"], {}).setdefault(cell, {})[row["seed"]] = float(np.log(row["loss"]))
    rest, free, shared, count = 0.0, 0, [], 0
    for cells in tables.values():
        seeds = sorted(set().union(*cells.values()))
        full = np.array([[cell[s] for s in seeds] for cell in cells.values() if len(cell) == len(seeds)])
        if len(seeds) < 2 or len(full) < 2:
            continue
        centred = full - full.mean(axis=1, keepdims=True)
        effect = centred.mean(axis=0)
        rest += float(((centred - effect) ** 2).sum())
        free += (full.shape[0] - 1) * (full.shape[1] - 1)
        shared.append(float(effect @ effect / (len(seeds) - 1)))
        count += full.shape[0]
    if not free:
        return {"seed": 0.0, "rest": 0.0, "cells": 0}
    beyond = rest / free
    mean = max(float(np.mean(shared)) - beyond / (count / len(shared)), 0.0)
    return {"seed": float(np.sqrt(mean)), "rest": float(np.sqrt(beyond)), "cells": count}


def over_domains(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the geometric mean loss over all domains, for `replicate_noise`: cells that have them all.

    A run's noise is in part common to its domains, so that the mean's is more than one domain's over their root.
    """
    domains, cells = {row["domain"] for row in rows}, dict[tuple[Any, ...], dict[str, float]]()
    names = ("params", "pretrain_tokens", "specialize_tokens", "seed")
    for row in rows:
        cells.setdefault(tuple(row[n] for n in names), {})[row["domain"]] = float(np.log(row["loss"]))
    return [
        dict(zip(names, cell, strict=True)) | {"domain": "all", "loss": float(np.exp(np.mean(list(losses.values()))))}
        for cell, losses in cells.items()
        if set(losses) == domains
    ]


def share(hits: int, of: int) -> dict[str, float]:
    """A proportion with its 95 % interval (Wilson 1927)."""
    z = 1.959963984540054
    p, width = hits / of, z * z / of
    middle = (p + width / 2) / (1 + width)
    half = z * np.sqrt(p * (1 - p) / of + width / (4 * of)) / (1 + width)
    return {"value": p, "low": float(middle - half), "high": float(middle + half), "of": of}


def trials_until(losses: Sequence[float], bottom: float, tolerance: float) -> int | None:
    """How many trials a search needed to come within `tolerance` of `bottom`; None where it never did."""
    within = np.flatnonzero(np.asarray(losses) <= bottom + tolerance)
    return int(within[0]) + 1 if within.size else None
