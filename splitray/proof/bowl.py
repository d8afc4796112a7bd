"""Loss against split fraction, measured: a smooth curve, its bottom, and what stopping elsewhere costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.search.correction import place

LEAST = 4  # points that a curve needs: a parabola through three follows every one of them

# In arcsin(sqrt(s)) both ends of the line are resolved. On 20 planted bowls (benchmarks/law_planted.py, five budgets) a
# quintic through eight exact points has its bottom where at most 0.0005 nats are lost, and tells the regret of any s up
# to 0.8 to 0.005. With noise of 0.01 nats it loses 0.0024 on average; a sextic, closer without noise, 0.0049.
DEGREE = 5
_FINE = np.linspace(0.0, 1.0, 1001)


@dataclass(frozen=True)
class Regret:
    """What stopping at a fraction loses against the bottom, nats per token, with 95 % bounds under the noise.

    noisy_mean: the mean over draws of the noise. The minimum of a noisy curve lies too low, so it is above zero even at
    the true optimum.
    """

    value: float
    low: float
    high: float
    noisy_mean: float


@dataclass(frozen=True)
class Bowl:
    """Losses measured at split fractions [points] of one budget, and a smooth curve through them.

    noise: standard deviation of a measured loss, nats per token, without what all points share.
    """

    fractions: Array
    losses: Array
    noise: float

    def __post_init__(self) -> None:
        assert len(self.fractions) >= LEAST, self.fractions

    @cached_property
    def _basis(self) -> tuple[Array, Array]:
        """Design of the points, and the matrix from losses to coefficients."""
        degree = min(DEGREE, len(self.fractions) - 2)
        design = np.polynomial.legendre.legvander(2 * place(self.fractions) - 1, degree)
        return design, np.linalg.pinv(design)

    def curve(self, fractions: ArrayLike, losses: Array | None = None) -> Array:
        """The smooth loss [..., points] at fractions [points], through `losses` [..., measured]; default the own."""
        design, solve = self._basis
        given = self.losses if losses is None else losses
        wanted = np.polynomial.legendre.legvander(2 * place(np.asarray(fractions)) - 1, design.shape[1] - 1)
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

    def _noisy(self, draws: int, seed: int, truth: Array | None = None) -> Array:
        """Losses [draws, measured] that might have been measured, of `truth`; default the measured ones."""
        random = np.random.default_rng(seed).standard_normal((draws, len(self.losses)))
        return (self.losses if truth is None else truth) + self.noise * random

    def regret(self, fraction: float, draws: int = 4000, seed: int = 0) -> Regret:
        """What stopping at `fraction` loses against the curve's bottom, nats per token."""
        return _bounded(self.lost(fraction, draws, seed))

    def lost(self, fraction: float, draws: int, seed: int) -> Array:
        """Regret [1 + draws] of the curve itself, then under draws of the noise."""
        every = self.curve(_FINE, np.concatenate([self.losses[None], self._noisy(draws, seed)]))
        return np.asarray(every[:, round(fraction * (len(_FINE) - 1))] - every.min(axis=1))

    def optima(self, draws: int = 4000, seed: int = 0) -> Array:
        """The bottom's fraction under draws of the noise, [draws]."""
        return self.bottoms(self._noisy(draws, seed))

    def bottoms(self, losses: Array) -> Array:
        """The fraction of each smooth curve's bottom, [draws], of losses [draws, measured] at the own fractions."""
        return np.asarray(_FINE[self.curve(_FINE, losses).argmin(axis=1)])

    def optimum(self) -> Estimate:
        """The bottom's fraction and its 95 % interval under the noise."""
        return Estimate.resampled(self.best[0], self.optima())

    @property
    def gain(self) -> float:
        """The loss of unsplit training, the last point, less the curve's bottom; nats per token."""
        return float(self.losses[-1]) - self.best[1]

    def gains(self, truth: Array | None = None, draws: int = 4000, seed: int = 0) -> Array:
        """`gain` under draws of the noise about `truth`, [draws]."""
        noisy = self._noisy(draws, seed, truth)
        return np.asarray(noisy[:, -1] - self.curve(_FINE, noisy).min(axis=1))

    def gain_by_chance(self) -> float:
        """The gain that one measurement in forty shows where no split gains: the bottom of a noisy curve is too low."""
        level = np.maximum(self.curve(self.fractions), self.losses[-1])
        return float(np.quantile(self.gains(level), 0.975))


def _bounded(lost: Array) -> Regret:
    """Of values [1 + draws] whose first is the measured one."""
    low, high = np.quantile(lost[1:], [0.025, 0.975])
    return Regret(float(lost[0]), float(low), float(high), float(lost[1:].mean()))


def mean_regret(stops: Sequence[tuple[Bowl, float]], draws: int = 4000) -> Regret:
    """The mean of `Bowl.regret` over bowls, each stopped at its fraction, with bounds on that mean."""
    return _bounded(np.mean([bowl.lost(s, draws, seed) for seed, (bowl, s) in enumerate(stops)], axis=0))
