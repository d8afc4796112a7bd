"""Choosing the form: fits compete on rows they have not seen, by loss and by loss differences along budget lines.

A form that predicts the loss well may still place the split badly: the plan depends on how the loss changes when
tokens move from D to D' at equal cost. So both errors count, each hidden set probes one direction of extrapolation,
and errors below the noise are not told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitray.law.dual import Array, Flags, Ints
from splitray.law.law import HeldOut
from splitray.law.marquardt import refine
from splitray.law.monotone import rising
from splitray.law.regression import Fitted, predict, propose
from splitray.law.runs import Runs

_TOP = 0.8  # rows at or above this quantile of N, D or D' are hidden
_STARTS = 12  # refined per hidden set, besides the fit to all rows
_TRADES = (1.5, 100.0)  # K of the budget lines that pairs of rows may lie on
_PAIRS = 2000  # pairs per hidden set at most
_RESAMPLES = 400  # of the hidden rows, to see how surely a form is the best
_LEAST_SHARE = 0.1  # a form that is best in fewer resamples is not averaged in


@dataclass(frozen=True)
class Choice:
    """shares: the part of each form in the law, the best one largest. table: errors of all forms, or None."""

    shares: dict[str, float]
    table: HeldOut | None


def choose(fits: Mapping[str, Fitted], runs: Runs, seed: int) -> Choice | None:
    """Let fitted forms compete on held-out rows; None where the table is too small to hide any.

    Every hidden set gives two errors per form: the root mean square of log loss on hidden rows, and that of log
    loss differences over pairs of rows of one size and domain that lie on a budget line D + K D' (one K per pair).
    The score is the mean of their logarithms, errors below the noise set to it. Hidden clusters are resampled; a
    form's share is the part of resamples in which its score is the best.
    """
    masks = {name: mask for name, mask in hidden(runs).items() if (runs.weight > 0)[~mask].any()}
    masks = {name: mask for name, mask in masks.items() if (~mask).sum() > max(len(f.vector) for f in fits.values())}
    if not masks:
        return None
    noise = min(fit.noise for fit in fits.values())
    refused = {name: reason for name, fit in fits.items() if (reason := rising(fit, runs))}
    able = {name: fit for name, fit in fits.items() if name not in refused}
    if not able:
        return None
    residuals = {name: held_out(fit, np.stack(list(masks.values())), seed) for name, fit in fits.items()}
    rows: list[dict[str, Any]] = []
    random = np.random.default_rng([seed, 2])
    scores = dict.fromkeys(able, np.zeros(_RESAMPLES + 1))
    count = 0
    for fold, (protocol, mask) in enumerate(masks.items()):
        left, right = trades(runs, mask, random)
        weight, code = _resample(runs, random)
        for name in fits:
            residual = np.nan_to_num(residuals[name][fold], nan=np.inf, posinf=np.inf)
            squares = np.minimum(residual[mask] ** 2, 1.0)
            pairs = np.minimum(np.nan_to_num(residual[left] - residual[right], nan=np.inf) ** 2, 1.0)
            rows.append(
                {
                    "form": name,
                    "protocol": protocol,
                    "rows": int(mask.sum()),
                    "loss": float(np.sqrt(squares.mean())),
                    "difference": float(np.sqrt(pairs.mean())) if len(pairs) else None,
                    "noise": noise,
                    "reason": refused.get(name),
                }
            )
            if name in able:
                parts = [_score(squares, weight[:, code[mask]], noise)]
                if len(pairs):
                    parts.append(_score(pairs, weight[:, code[left]] * weight[:, code[right]], noise * np.sqrt(2)))
                scores[name] = scores[name] + sum(parts)
        count += 1 + bool(len(left))
    table = {name: score / count for name, score in scores.items()}
    shares = _shares(table)
    return Choice(shares, HeldOut(tuple(rows), {name: float(score[0]) for name, score in table.items()}, noise))


def hidden(runs: Runs) -> dict[str, Flags]:
    """Rows to hide [rows] by protocol: "size" the largest N, "tokens" the most D, "specialize" the largest D'."""
    special = runs.specialize_tokens
    axes = {
        "size": (runs.params, np.ones(len(runs), dtype=bool)),
        "tokens": (runs.pretrain_tokens, np.ones(len(runs), dtype=bool)),
        "specialize": (special, special > 0),
    }
    result = {}
    for name, (values, among) in axes.items():
        if np.unique(values[among]).size < 3:
            continue
        limit = np.quantile(values[among], _TOP)
        mask = values >= limit
        if mask.sum() > 0.5 * among.sum():
            mask = values > limit
        if mask.any() and np.unique(values[among & ~mask]).size >= 2:
            result[name] = mask
    return result


def held_out(fitted: Fitted, masks: Flags, seed: int) -> Array:
    """log predicted - log observed [masks, rows] of refits that have not seen the rows of each mask [masks, rows]."""
    problem = fitted.problem
    guesses = propose(problem, seed)
    starts, weights = [], []
    for mask in masks:
        seen = replace(problem, weight=problem.weight * ~mask)
        worth = seen.objective(guesses, prior=True)
        best = np.argsort(np.where(np.isfinite(worth), worth, np.inf), kind="stable")[:_STARTS]
        starts.append(np.concatenate([fitted.vector[None], guesses[best]]))
        weights.append(np.tile(seen.weight, (_STARTS + 1, 1)))
    vectors = refine(replace(problem, weight=np.concatenate(weights)), np.concatenate(starts), groups=len(masks))
    with np.errstate(all="ignore"):
        return np.asarray(np.log(predict(problem, vectors)) - np.log(problem.target))


def trades(runs: Runs, mask: Flags, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Pairs of rows of one N and domain, one at least hidden, where D falls as D' rises along some D + K D'."""
    left: list[Ints] = []
    right: list[Ints] = []
    _, code = np.unique(np.stack([runs.params, runs.group]), axis=1, return_inverse=True)
    order = np.argsort(code.ravel(), kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(code.ravel()[order])) + 1):
        if rows.size > 64:
            rows = np.sort(random.choice(rows, 64, replace=False))
        D, S = runs.pretrain_tokens[rows], runs.specialize_tokens[rows]
        more, less = D[None, :] - D[:, None], S[:, None] - S[None, :]
        with np.errstate(all="ignore"):
            ratio = more / less
        seen = mask[rows][:, None] | mask[rows][None, :]
        i, j = np.nonzero((more > 0) & (less > 0) & (ratio >= _TRADES[0]) & (ratio <= _TRADES[1]) & seen)
        left.append(rows[i])
        right.append(rows[j])
    both = np.stack([np.concatenate(left), np.concatenate(right)])
    if both.shape[1] > _PAIRS:
        both = both[:, np.sort(random.choice(both.shape[1], _PAIRS, replace=False))]
    return both[0], both[1]


def _resample(runs: Runs, random: np.random.Generator) -> tuple[Array, Ints]:
    """Weights [1 + resamples, trunks], all one first, then exponential; and the trunk of each row [rows]."""
    trunks, code = np.unique(runs.trunk, return_inverse=True)
    weight = random.exponential(size=(_RESAMPLES, len(trunks)))
    return np.concatenate([np.ones((1, len(trunks))), weight]), code


def _score(squares: Array, weight: Array, noise: float) -> Array:
    mean = (weight @ squares) / np.maximum(weight.sum(axis=1), 1e-300)
    return np.asarray(np.log(np.maximum(np.sqrt(mean), noise)))


def _shares(scores: Mapping[str, Array]) -> dict[str, float]:
    names = list(scores)
    table = np.stack([scores[name] for name in names])
    best = names[int(table[:, 0].argmin())]
    wins = np.bincount(table[:, 1:].argmin(axis=0), minlength=len(names)) / (table.shape[1] - 1)
    kept = {name: float(win) for name, win in zip(names, wins) if win >= _LEAST_SHARE or name == best}
    kept[best] = max(kept.values()) + 1e-9
    total = sum(kept.values())
    return {name: win / total for name, win in sorted(kept.items(), key=lambda item: -item[1])}
