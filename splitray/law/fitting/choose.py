"""Choosing the form: fits compete on rows they have not seen, by loss and by loss differences along budget lines.

A form that predicts the loss well may still place the split badly: the plan depends on how the loss changes when
tokens move from D to D' at equal cost. So both errors count, each hidden set probes one direction of extrapolation,
and errors below the noise are not told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitray.law.arrays import Array, Flags, Ints
from splitray.law.fitting.marquardt import refine
from splitray.law.fitting.monotone import rising
from splitray.law.fitting.regression import Fitted, candidates, predict
from splitray.law.law import HeldOut
from splitray.law.runs import Runs

_TOP = 0.8  # rows at or above this quantile of N, D or D' are hidden
_STARTS = 12  # refined per hidden set, besides the fit to all rows
_TRADES = (1.5, 100.0)  # K of the budget lines that pairs of rows may lie on
_PAIRS = 2000  # pairs per hidden set at most
_LEAST_FREE = 0.05  # a row that decides a constant by itself says nothing about its own error
_RESAMPLES = 400  # of the hidden rows, to see how surely a form is the best
# Deviation of a score that no resampling of rows shows: what a form's errors one step of size beyond its fit say of the
# next step. Of n sizes it is this over sqrt(n - 1), 0.14 for three. Without it a form had a share of 1.00 from three
# sizes whose errors at the next size were twice another's.
_LEFT_OPEN = 0.2
# What a form of one stage must be better by than Chinchilla's, in the logarithm of its errors (14 %). On three splits
# of public tables forms that won by less were 1.3 to 1.4 times as far off beyond them.
_BETTER = 0.15
_LEAST_SHARE = 0.1  # a form that is best in fewer resamples is not averaged in


@dataclass(frozen=True)
class Choice:
    """shares: the part of each form in the law, the best one largest. table: errors of all forms, or None."""

    shares: dict[str, float]
    table: HeldOut | None


def choose(
    fits: Mapping[str, Fitted], runs: Runs, seed: int, compared: Callable[[int], None] = lambda count: None
) -> Choice | None:
    """Let fitted forms compete on rows they have not seen; None if every one of them rises with tokens.

    Where runs have D' > 0, a form that does not know D' is only the yardstick of the others: under it no split can pay,
    whatever the runs say. It is chosen where no other form is left.

    Every protocol gives two errors per form: the root mean square of log loss on hidden rows, and that of log loss
    differences over pairs of rows of one size and domain that lie on a budget line D + K D' (one K per pair). The
    score is the mean of their logarithms, so that both weigh alike. Errors below the noise are set to it. "each" (every
    row in turn) counts as much
    as the extrapolations together: on planted tables either half alone picked a wrong form more often. Trunks are
    resampled, their scores are moved by what few sizes leave open, and a form's share is the part of resamples in which
    its score is the best.

    `compared` is called with the number of forms whose errors are known, after each.
    """
    noise = min(fit.noise for fit in fits.values())
    refused = {name: reason for name, fit in fits.items() if (reason := rising(fit, runs))}
    if len(refused) == len(fits):
        return None
    if (runs.specialize_tokens > 0).any() and any(fits[name].form.splits for name in fits if name not in refused):
        refused |= {name: "under it no split can pay" for name, fit in fits.items() if not fit.form.splits}
    most = max(fit.vector.size for fit in fits.values())
    masks = {"each": np.ones(len(runs), dtype=bool)}
    masks |= {name: mask for name, mask in hidden(runs).items() if np.sum(runs.weight[~mask] > 0) > most}
    errors = dict[str, Array]()
    for name, fit in fits.items():
        errors[name] = _errors(fit, list(masks.values())[1:], seed)
        compared(len(errors))
    random = np.random.default_rng([seed, 2])
    weight, code = _resample(runs, random)
    rows: list[dict[str, Any]] = []
    scores: dict[str, dict[str, Array]] = {name: {} for name in fits if name not in refused}
    for fold, (protocol, mask) in enumerate(masks.items()):
        hid = np.flatnonzero(mask & (runs.weight > 0))
        left, right = trades(runs, mask, random)
        for name in fits:
            error = errors[name][fold]
            loss, difference = (np.minimum(part**2, 1.0) for part in (error[hid], error[left] - error[right]))
            row = {"form": name, "protocol": protocol, "rows": len(hid), "loss": float(np.sqrt(loss.mean()))}
            row["difference"] = float(np.sqrt(difference.mean())) if len(left) else None
            rows.append(row | {"noise": noise, "reason": refused.get(name)})
            if name not in refused:
                parts = [_score(loss, weight[:, code[hid]], noise)]
                if len(left):
                    parts.append(_score(difference, weight[:, code[left]] * weight[:, code[right]], noise * np.sqrt(2)))
                scores[name][protocol] = np.mean(parts, axis=0)
    table = {name: _total(by_protocol) for name, by_protocol in scores.items()}
    unknown = _LEFT_OPEN / np.sqrt(max(np.unique(runs.params).size - 1, 1))
    entered = _better_than_chinchilla(table, fits)
    for name, score in entered.items():
        entered[name] = np.concatenate([score[:1], score[1:] + unknown * random.standard_normal(score.size - 1)])
    return Choice(
        _shares(entered), HeldOut(tuple(rows), {name: float(score[0]) for name, score in table.items()}, noise)
    )


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
    problem, vectors = fitted.problem, refits(fitted, masks, seed, _STARTS)
    with np.errstate(all="ignore"):
        return np.asarray(np.log(predict(problem, vectors)) - np.log(problem.target))


def refits(fitted: Fitted, masks: Flags, seed: int, count: int) -> Array:
    """Searched vectors [masks, P] of refits that have not seen the rows of each mask [masks, rows].

    count: starts that are refined for each, besides the fit to all rows.
    """
    problem = fitted.problem
    starts, weights = [], []
    for mask in masks:
        seen = replace(problem, weight=problem.weight * ~mask)
        starts.append(np.concatenate([fitted.vector[None], candidates(seen, seed, count)]))
        weights.append(np.tile(seen.weight, (len(starts[-1]), 1)))
    return refine(replace(problem, weight=np.concatenate(weights)), np.concatenate(starts), groups=len(masks))


def each_out(fitted: Fitted) -> Array:
    """log predicted - log observed [rows] of each row by a refit without it, to first order: r / (1 - leverage)."""
    problem = fitted.problem
    _, _, _, curvature = problem.normal(fitted.vector[None])
    scale = np.sqrt(np.maximum(np.diag(curvature[0]), 1e-300))
    slopes = fitted.slopes() / scale
    if problem.delta is None:  # the objective's residuals are of the loss itself, not of its logarithm
        slopes = slopes * predict(problem, fitted.vector[None])[0][:, None]
    inverse = np.linalg.pinv(curvature[0] / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    leverage = problem.weight * np.einsum("rp,pq,rq->r", slopes, inverse, slopes)
    return np.asarray(fitted.residuals() / np.maximum(1.0 - leverage, _LEAST_FREE))


def _errors(fitted: Fitted, masks: list[Flags], seed: int) -> Array:
    """Errors [1 + masks, rows]: of each row hidden alone, then of the rows of each mask hidden together."""
    alone = each_out(fitted)[None]
    found = np.concatenate([alone, held_out(fitted, np.stack(masks), seed)]) if masks else alone
    errors: Array = np.clip(np.nan_to_num(found, nan=1.0), -1.0, 1.0)
    return errors


def trades(runs: Runs, mask: Flags, random: np.random.Generator, most: int = _PAIRS) -> tuple[Ints, Ints]:
    """Pairs of rows of one N, domain and schedule, one at least hidden, where D falls as D' rises along D + K D'."""
    left: list[Ints] = []
    right: list[Ints] = []
    _, code = np.unique(np.stack([runs.params, runs.group, runs.under]), axis=1, return_inverse=True)
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
    if both.shape[1] > most:
        both = both[:, np.sort(random.choice(both.shape[1], most, replace=False))]
    return both[0], both[1]


def _resample(runs: Runs, random: np.random.Generator) -> tuple[Array, Ints]:
    """Weights [1 + resamples, trunks], all one first, then exponential; and the trunk of each row [rows]."""
    trunks, code = np.unique(runs.trunk, return_inverse=True)
    weight = random.exponential(size=(_RESAMPLES, len(trunks)))
    return np.concatenate([np.ones((1, len(trunks))), weight]), code


def _total(by_protocol: Mapping[str, Array]) -> Array:
    far = [score for protocol, score in by_protocol.items() if protocol != "each"]
    return np.asarray(np.mean([by_protocol["each"], np.mean(far, axis=0)], axis=0) if far else by_protocol["each"])


def _better_than_chinchilla(table: Mapping[str, Array], fits: Mapping[str, Fitted]) -> dict[str, Array]:
    """The scores but for forms of one stage that are hardly better than Chinchilla's."""
    known = table.get("chinchilla")
    return {
        name: score
        for name, score in table.items()
        if known is None or name == "chinchilla" or fits[name].form.splits or score[0] < known[0] - _BETTER
    }


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
