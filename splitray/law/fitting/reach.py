"""What folds that hide the largest runs show of a law's draws: how much wider its errors are than the draws say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from splitray.law.arrays import Array, Flags
from splitray.law.fitting.choose import refits, trades
from splitray.law.fitting.regression import Fitted
from splitray.law.fitting.uncertainty import TreeNoise
from splitray.law.reach import Reach, frontier
from splitray.law.runs import Runs

_UNSHOWN = 1.5  # the factor of a table with nothing to hide; folds of eight tables show 1.2 to 2.1
_MOST = 4.0
_TOP = 0.8  # rows at or above this quantile are hidden
_STARTS = 3  # refined per fold, besides the fit to all rows


def reach(fits: Mapping[str, Fitted], shares: Mapping[str, float], runs: Runs, noise: TreeNoise | None) -> Reach:
    """The stretch of draws outside the table, from folds that hide the largest one and two sizes, the most tokens, D'
    and compute.

    A fold refits every form of the law, and predicts the hidden rows with the variance that its draws would have: by
    the curvature at the refit (delta method), with the tree's noise where it is known. The factor is the root of the
    mean squared error over the mean predicted variance, noise included in both; folds count alike. Once for losses
    (level), and once for differences between rows of a budget line (shape).
    """
    edge = frontier(runs.params, runs.pretrain_tokens, runs.specialize_tokens)
    most = max(fits[name].vector.size for name in shares)
    masks = [mask for mask in folds(runs) if np.sum(runs.weight[~mask] > 0) > most]
    if not masks:
        return Reach(_UNSHOWN, _UNSHOWN, edge)
    single = max(fits[name].noise for name in shares) ** 2
    vectors = {name: refits(fits[name], np.stack(masks), 0, _STARTS) for name in shares}
    total, gap = np.zeros(2), np.zeros(2)
    random = np.random.default_rng([0, 5])
    for place, mask in enumerate(masks):
        rows = np.flatnonzero(mask & (runs.weight > 0))
        left, right = trades(runs, mask, random, 400)
        parts = [(shares[name], *_foretold(fits[name], vectors[name][place], mask, runs, noise)) for name in shares]
        mean = sum(share * error for share, error, _ in parts)
        assert not isinstance(mean, int)
        loss, difference = np.zeros(len(rows)), np.zeros(len(left))
        for share, error, root in parts:
            apart = error - mean
            loss += share * ((root[rows] ** 2).sum(axis=1) + apart[rows] ** 2)
            difference += share * (((root[left] - root[right]) ** 2).sum(axis=1) + (apart[left] - apart[right]) ** 2)
        total += np.mean(mean[rows] ** 2), np.mean(loss) + single
        if len(left):
            gap += np.mean((mean[left] - mean[right]) ** 2), np.mean(difference) + 2 * single
    level, shape = (float(np.clip(np.sqrt(t[0] / t[1]), 1.0, _MOST)) if t[1] else 1.0 for t in (total, gap))
    return Reach(shape, max(level, shape), edge)


def folds(runs: Runs) -> list[Flags]:
    """Rows to hide [rows] in each fold."""
    sizes, tokens = np.unique(runs.params), runs.pretrain_tokens + runs.specialize_tokens
    result = [runs.params >= sizes[-count] for count in (1, 2) if len(sizes) >= count + 2]
    for values in (runs.pretrain_tokens, runs.specialize_tokens, tokens, runs.params * tokens):
        some = values[values > 0]
        if np.unique(some).size < 3:
            continue
        limit = np.quantile(some, _TOP)
        mask = values >= limit if np.mean(values >= limit) <= 0.5 else values > limit
        if mask.any() and np.unique(values[~mask]).size >= 2:
            result.append(mask)
    return result


def _foretold(fitted: Fitted, vector: Array, hidden: Flags, runs: Runs, noise: TreeNoise | None) -> tuple[Array, Array]:
    """Errors of log loss [rows], and a root R [rows, P] of their predicted covariance R R', of a refit to the rest."""
    problem = replace(fitted.problem, weight=fitted.problem.weight * ~hidden)
    refit = Fitted(problem, vector, fitted.noise)
    _, _, _, curvature = problem.normal(vector[None])
    scale = np.sqrt(np.maximum(np.diag(curvature[0]), 1e-300))
    slopes = refit.slopes() / scale
    inverse = np.linalg.pinv(curvature[0] / np.outer(scale, scale), rcond=1e-10, hermitian=True)
    seen = slopes[~hidden] * problem.weight[~hidden, None]
    if noise is None:
        score = fitted.noise**2 * seen.T @ slopes[~hidden]
    else:
        score = noise.row**2 * seen.T @ seen
        for deviation, names in ((noise.trunk, runs.trunk), (noise.branch, runs.branch)):
            _, code = np.unique(names[~hidden], return_inverse=True)
            sums = np.zeros((int(code.max()) + 1, seen.shape[1]))
            np.add.at(sums, code, seen)
            score += deviation**2 * sums.T @ sums
    values, axes = np.linalg.eigh(score)
    root = slopes @ inverse @ (axes * np.sqrt(np.maximum(values, 0.0)))
    with np.errstate(all="ignore"):
        error = np.clip(np.nan_to_num(refit.residuals(), nan=1.0), -1.0, 1.0)
    return error, np.clip(np.nan_to_num(root), -1.0, 1.0)
