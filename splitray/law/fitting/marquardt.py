"""Batched Levenberg-Marquardt for Huber and squared objectives: many starts, folds or resamples in one array.

Every batch element is its own least-squares problem on the same rows, with its own row weights (folds, cluster
bootstrap) or its own targets (parametric bootstrap). All of them advance together as numpy arrays
[batch, constants, rows], which is where the speed comes from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from splitray.law.arrays import Array, Flags, Ints
from splitray.law.forms import Form
from splitray.law.forms.schedule import RateSchedule

_BLOCK = 1 << 21  # doubles in one Jacobian block: 16 MB
_SCOUT = 12  # steps of every start; by then the worth of its basin shows
_KEPT = 4  # starts of a group that are followed to the end
_DAMPING = 1e-2
_MAX_DAMPING = 1e12
_LEAST_GROWTH = -0.9  # of a coefficient in one step: to a tenth of it


@dataclass(frozen=True)
class Problem:
    """Rows and objective of a fit; `vectors` below are searched vectors [batch, P] in centred coordinates.

    form: the law; N, D, S: points [rows], trained under `schedule`.
    group: domain of each row [rows], rows sorted by it.
    target: loss [rows] or [batch, rows]; weight: [rows] or [batch, rows].
    delta: Huber threshold on log loss; None for squared raw loss.
    index: [domains, constants], where each domain's constants sit in the searched vector.
    shift: [constants, constants] and offset [constants]: centred to uncentred constants.
    low, high, mean, precision: bounds and Gaussian prior of the searched vector [P].
    """

    form: Form
    N: Array
    D: Array
    S: Array
    schedule: RateSchedule
    group: Ints
    target: Array
    weight: Array
    delta: float | None
    index: Ints
    shift: Array
    offset: Array
    low: Array
    high: Array
    mean: Array
    precision: Array

    @property
    def coefficients(self) -> Flags:
        """Which of the searched constants are coefficients, by their logarithm [P]."""
        result = np.zeros(self.low.size, dtype=bool)
        result[self.index] = [not constant.exponent for constant in self.form.constants]
        return result

    def constants(self, vectors: Array) -> Array:
        """Uncentred constants [batch, domains, constants] of searched vectors."""
        return vectors[:, self.index] @ self.shift.T + self.offset

    def points(self, rows: slice) -> tuple[Array, Array, Array, RateSchedule]:
        """What a form is evaluated at, of these rows."""
        return self.N[rows], self.D[rows], self.S[rows], self.schedule.take(rows)

    def blocks(self, batch: int) -> list[tuple[int, slice]]:
        """(domain, rows) pieces that bound the memory of one Jacobian."""
        size = max(1, _BLOCK // max(1, batch * len(self.form.constants)))
        edges = np.searchsorted(self.group, np.arange(len(self.index) + 1))
        return [
            (domain, slice(low, min(low + size, stop)))
            for domain, (start, stop) in enumerate(itertools.pairwise(edges))
            for low in range(start, stop, size)
        ]

    @property
    def separable(self) -> bool:
        """Whether no two domains share a constant."""
        return bool(self.index.size == self.low.size)

    def domain(self, domain: int) -> Problem:
        """The problem of one domain alone."""
        start, stop = np.searchsorted(self.group, [domain, domain + 1])
        rows, index = slice(start, stop), self.index[domain]
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in ("N", "D", "S")},
            **{name: getattr(self, name)[..., rows] for name in ("target", "weight")},
            **{name: getattr(self, name)[index] for name in ("low", "high", "mean", "precision")},
            schedule=self.schedule.take(rows),
            group=np.zeros(stop - start, dtype=np.int64),
            index=np.arange(index.size)[None],
        )

    def take(self, batch: Ints) -> Problem:
        """The problem with only these batch elements' targets and weights."""
        target = self.target[batch] if self.target.ndim == 2 else self.target
        weight = self.weight[batch] if self.weight.ndim == 2 else self.weight
        return replace(self, target=target, weight=weight)

    def residuals(self, loss: Array, rows: slice) -> Array:
        target = self.target[..., rows]
        return loss - target if self.delta is None else np.log(loss) - np.log(target)

    def objective(self, vectors: Array, prior: bool = False) -> Array:
        """Sum over rows of weight times Huber (or of the squared raw residual) [batch]."""
        total = np.zeros(len(vectors))
        constants = self.constants(vectors)
        for domain, rows in self.blocks(len(vectors)):
            loss = self.form.value(constants[:, domain], *self.points(rows))
            residual = self.residuals(loss, rows)
            total += np.sum(self.weight[..., rows] * _rho(residual, self.delta), axis=-1)
        if self.delta is None:
            total *= 2.0
        return total + (self.penalty(vectors) if prior else 0.0)

    def penalty(self, vectors: Array) -> Array:
        penalty: Array = 0.5 * np.sum(self.precision * (vectors - self.mean) ** 2, axis=-1)
        return penalty

    def normal(self, vectors: Array) -> tuple[Array, Array, Array, Array]:
        """Objective (prior included) [batch], slope [batch, P], and two curvatures [batch, P, P].

        The first curvature is Newton's for Huber (rows beyond delta have none), fast near the optimum; the second
        is that of reweighted least squares, which bounds the objective from above and is safe far from it.
        """
        batch, size = vectors.shape
        total, slope = np.zeros(batch), np.zeros((batch, size))
        newton, bound = np.zeros((batch, size, size)), np.zeros((batch, size, size))
        constants = self.constants(vectors)
        for domain, rows in self.blocks(batch):
            loss, slopes = self.form.jacobian(constants[:, domain], *self.points(rows))
            residual = self.residuals(loss, rows)
            weight = np.broadcast_to(self.weight[..., rows], residual.shape)
            total += np.sum(weight * _rho(residual, self.delta), axis=-1)
            inside = reweighted = weight
            if self.delta is not None:
                slopes /= loss[:, None, :]
                size_ = np.abs(residual)
                reweighted = weight * np.minimum(1.0, self.delta / np.maximum(size_, 1e-300))
                inside = weight * (size_ <= self.delta)
            index = self.index[domain]
            where = np.ix_(range(batch), index, index)
            transposed = np.swapaxes(slopes, 1, 2)
            # centred afterwards, [P, P] instead of [P, rows]: a sixth of the work of a refit
            pull = (slopes @ (reweighted * residual)[..., None])[..., 0]
            slope[:, index] += pull @ self.shift
            bound[where] += self.shift.T @ ((slopes * reweighted[:, None, :]) @ transposed) @ self.shift
            if inside is not reweighted:
                newton[where] += self.shift.T @ ((slopes * inside[:, None, :]) @ transposed) @ self.shift
        if self.delta is None:
            newton = bound.copy()
        total += self.penalty(vectors)
        slope += self.precision * (vectors - self.mean)
        diagonal = np.arange(size)
        newton[:, diagonal, diagonal] += self.precision
        bound[:, diagonal, diagonal] += self.precision
        return total, slope, newton, bound


def _rho(residual: Array, delta: float | None) -> Array:
    if delta is None:
        return 0.5 * residual * residual
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def refine(problem: Problem, starts: Array, groups: int = 1) -> Array:
    """The best optimum of each group of starts [groups, P].

    `starts` [groups * count, P] lie group by group, as do batched weights. All advance a few steps, the best of each
    group advance to convergence.
    """
    if len(problem.index) > 1 and problem.separable:
        result = np.empty((groups, problem.low.size))
        for domain, index in enumerate(problem.index):
            result[:, index] = refine(problem.domain(domain), starts[:, index], groups)
        return result
    count = len(starts) // groups
    vectors, worth = minimise(problem, starts, iterations=_SCOUT, tolerance=1e-6)
    kept = np.argsort(worth.reshape(groups, count), axis=1, kind="stable")[:, :_KEPT]
    rows = (kept + count * np.arange(groups)[:, None]).ravel()
    vectors, worth = minimise(problem.take(rows), vectors[rows], iterations=40, tolerance=1e-8)
    best = worth.reshape(groups, -1).argmin(axis=1) + kept.shape[1] * np.arange(groups)
    return np.asarray(vectors[best])


def minimise(
    problem: Problem,
    starts: Array,
    iterations: int = 100,
    tolerance: float = 1e-9,
    damping: float = _DAMPING,
    done: Callable[[float], None] = lambda share: None,
) -> tuple[Array, Array]:
    """Local optima [batch, P] from `starts` and their objectives (prior included) [batch].

    `damping` is that of the first step: less of it from starts that are near their optimum.

    A step solves (newton + damping (bound + diagonal)) step = -slope with constants that press on a bound held
    there, and is taken only if the objective falls. An element stops when a step gains less than `tolerance` of
    its objective, or when no damping helps. `done` is called after every step with the share of elements that stopped.
    """
    if len(problem.index) > 1 and problem.separable:
        vectors, total = np.empty_like(starts), np.zeros(len(starts))
        for domain, index in enumerate(problem.index):
            share = partial(_part, done, domain, len(problem.index))
            vectors[:, index], worth = minimise(
                problem.domain(domain), starts[:, index], iterations, tolerance, damping, share
            )
            total += worth
        return vectors, total
    vectors = np.clip(starts, problem.low, problem.high)
    with np.errstate(all="ignore"):
        state = list(problem.normal(vectors))
        state[0] = np.where(np.isfinite(state[0]), state[0], np.inf)
        damped = np.full(len(vectors), damping)
        calm = np.zeros(len(vectors), dtype=int)
        active = np.flatnonzero(np.isfinite(state[0]))
        for _ in range(iterations):
            if not active.size:
                break
            here = vectors[active]
            slope, newton, bound = (part[active] for part in state[1:])
            step = _step(problem, here, slope, newton, bound, damped[active])
            trial = np.clip(here + step, problem.low, problem.high)
            fresh = problem.take(active).normal(trial)
            gain = state[0][active] - fresh[0]
            better = gain > 0
            taken = active[better]
            vectors[taken] = trial[better]
            for part, new in zip(state, fresh):
                part[taken] = new[better]
            damped[active] *= np.where(better, 0.2, 5.0)
            damped[active] = np.maximum(damped[active], 1e-12)
            small = better & (gain <= tolerance * np.abs(fresh[0]))
            calm[active] = np.where(small, calm[active] + 1, np.where(better, 0, calm[active]))
            active = active[(calm[active] < 2) & (damped[active] < _MAX_DAMPING)]
            done(1.0 - active.size / len(vectors))
    return vectors, state[0]


def _part(done: Callable[[float], None], number: int, parts: int, share: float) -> None:
    """Say what a share of one of several parts is of the whole."""
    done((number + share) / parts)


def _step(problem: Problem, vectors: Array, slope: Array, newton: Array, bound: Array, damping: Array) -> Array:
    held = ((vectors <= problem.low) & (slope > 0)) | ((vectors >= problem.high) & (slope < 0))
    diagonal = np.arange(vectors.shape[1])
    curvature = newton + damping[:, None, None] * bound
    scale = bound[:, diagonal, diagonal]
    curvature[:, diagonal, diagonal] += damping[:, None] * scale + 1e-12 * scale + 1e-300
    curvature[held[:, :, None] | held[:, None, :]] = 0.0
    curvature[:, diagonal, diagonal] = np.where(held, 1.0, curvature[:, diagonal, diagonal])
    step = np.linalg.solve(curvature, np.where(held, 0.0, -slope)[..., None])[..., 0]
    step = np.where(np.isfinite(step), step, 0.0)
    # A step is linear in the coefficients themselves, which are searched by their logarithm. One that would take E
    # from 0.2 to 0.6 must not take it to 0.2 e^2. On the proof's ladder half of the steps were refused for that, and
    # draws were still 0.9 of a squared noise from their optimum after ten steps, now 0.3.
    grow = np.log1p(np.maximum(step, _LEAST_GROWTH))
    return np.where(problem.coefficients, grow, step)
