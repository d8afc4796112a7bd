"""Bootstrap draws of a fitted form that respect what rows share.

Rows of a tree are not independent: the noise of a trunk is in all its branches, that of a branch in all its rows.
With replicated trunks the draws are parametric: variances of trunk, branch and row are estimated from the
residuals and their replicates, new tables are simulated from the fitted law, and the form is refitted to each.
Without replicates whole clusters are reweighted at random.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg, optimize

from splitray.law.arrays import Array
from splitray.law.fitting.marquardt import minimise
from splitray.law.fitting.regression import Fitted, predict
from splitray.law.runs import Runs
from splitray.runtime.progress import Task

_log = logging.getLogger(__name__)

_REML_ROWS = 400  # rows that variances are estimated on, as dense matrices
_CLIP = 4.0  # residuals beyond this many robust deviations are outliers, not variance
_LEFT = 0.5  # least 1 - P/C that is made up for: the gamma weights have variance 1 / 0.5^2 = 4 at most
_FREE = 3  # degrees of freedom that a variance is granted at least
# Steps of a refit, which starts at the fit: after 9 the spread of a loss at four times the largest size is 0.9 of that
# after 100 (0.0495 of 0.0562 nats), that of a difference on a budget line 0.99. 1000 refits of 444 rows take 2.5 s.
_STEPS = 9
_FLOOR = 1e-4  # smallest variance component, as a share of the total


@dataclass(frozen=True)
class TreeNoise:
    """Standard deviations of log loss that rows of a trunk share, that rows of a branch share, and of a row alone."""

    trunk: float
    branch: float
    row: float

    @property
    def total(self) -> float:
        return float(np.sqrt(self.trunk**2 + self.branch**2 + self.row**2))

    def simulate(self, runs: Runs, constants: int, count: int, random: np.random.Generator) -> Array:
        """Noise of log loss [count, rows]; branches of different domains on one trunk share the trunk's.

        Every draw has its own deviations, from what as many trunks, branches and rows leave open about them: few
        trunks give Student's, not Gaussian, intervals.
        """
        trunks, trunk = np.unique(runs.trunk, return_inverse=True)
        branches, branch = np.unique(runs.branch, return_inverse=True)
        noise = np.zeros((count, len(runs)))
        for deviation, codes, size, free in (
            (self.trunk, trunk, len(trunks), len(trunks) - 1),
            (self.branch, branch, len(branches), len(branches) - len(trunks)),
            (self.row, np.arange(len(runs)), len(runs), len(runs) - constants),
        ):
            free = max(free, _FREE)
            scale = deviation * np.sqrt(free / random.chisquare(free, size=(count, 1)))
            noise += (scale * random.standard_normal((count, size)))[:, codes]
        return noise


def tree_noise(fitted: Fitted, runs: Runs, seed: int) -> TreeNoise:
    """Variance components by restricted maximum likelihood (Patterson & Thompson 1971).

    Residual contrasts that the fitted constants cannot move, replicates among them, are Gaussian with covariance
    C'(trunk^2 ZZ' + branch^2 YY' + row^2 I)C; the three variances maximise their likelihood.
    """
    rows = np.arange(len(runs))
    if rows.size > _REML_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _REML_ROWS, replace=False))
    limit = _CLIP * fitted.noise
    residual = np.clip(fitted.residuals(), -limit, limit)[rows]
    slopes = fitted.slopes()[rows]
    left, singular, _ = linalg.svd(slopes / np.maximum(np.linalg.norm(slopes, axis=0), 1e-300), full_matrices=True)
    rank = int((singular > 1e-7 * singular[0]).sum())
    contrasts = left[:, rank:]
    if contrasts.shape[1] < 3:
        return TreeNoise(0.0, 0.0, fitted.noise)
    parts = [contrasts.T @ _same(codes[rows]) @ contrasts for codes in (runs.trunk, runs.branch)]
    parts.append(np.eye(contrasts.shape[1]))
    goal = contrasts.T @ residual
    total = float(goal @ goal) / goal.size

    def deviance(logs: Array) -> tuple[float, Array]:
        """Minus twice the restricted log likelihood, and its slope [3] by the logarithms of the variances."""
        variances = np.exp(logs)
        factor = linalg.cho_factor(sum(v * part for v, part in zip(variances, parts)), lower=True)
        inverse = linalg.cho_solve(factor, np.eye(goal.size))
        pull = inverse @ goal
        slope = [np.sum(inverse * part) - pull @ part @ pull / total for part in parts]
        return float(2 * np.log(np.diag(factor[0])).sum() + goal @ pull / total), variances * np.array(slope)

    bounds = [(np.log(_FLOOR), np.log(10.0))] * 3
    starts = np.log([(0.3, 0.3, 0.3), (0.05, 0.05, 0.9)])
    found = min(
        (optimize.minimize(deviance, s, jac=True, method="L-BFGS-B", bounds=bounds) for s in starts),
        key=lambda r: r.fun,
    )
    trunk, branch, row = np.sqrt(total * np.exp(found.x))
    return TreeNoise(float(trunk), float(branch), float(row))


def bootstrap(fitted: Fitted, runs: Runs, count: int, seed: int, noise: TreeNoise | None) -> Array:
    """Constants [count, domains, constants] of refits: to simulated tables if `noise` is given, else to reweighted
    clusters. Refits start at the fit, so a draw costs a few Levenberg-Marquardt steps."""
    random = np.random.default_rng([seed, 1])
    if noise is None:
        _, code = np.unique(runs.trunk, return_inverse=True)
        clusters = int(code.max()) + 1
        # Bayesian bootstrap (Rubin 1981): smooth weights never lose a cluster altogether. Exponential ones have
        # variance 1; residuals of C clusters that P constants were fitted to are small by 1 - P/C, made up for here.
        shape = max(_LEFT, 1.0 - fitted.vector.size / clusters) ** 2
        weight = random.gamma(shape, 1.0 / shape, size=(count, clusters))[:, code]
        problem = replace(fitted.problem, weight=fitted.problem.weight * weight)
    else:
        loss = predict(fitted.problem, fitted.vector[None])[0]
        target = loss * np.exp(noise.simulate(runs, fitted.vector.size, count, random))
        problem = replace(fitted.problem, target=target)
    starts = np.tile(fitted.vector, (count, 1))
    task = Task(_log, f"bootstrap of {fitted.problem.form.name}", 1.0)
    vectors, _ = minimise(problem, starts, _STEPS, tolerance=3e-4, damping=1e-4, done=task.update)
    return problem.constants(vectors)


def _same(codes: Any) -> Array:
    equal: Array = (codes[:, None] == codes[None, :]).astype(np.float64)
    return equal
