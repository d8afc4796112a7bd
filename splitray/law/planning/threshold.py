"""From where splitting pays, D_split(N), and how much data it saves, m(D_T)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from splitray.law.arrays import Array
from splitray.law.planning.line import COARSE, ROUNDING, TWICE, Line
from splitray.law.planning.surface import Surface
from splitray.law.solve import bisect

# Budgets that are searched, in tokens per parameter: at 0.01 a model has seen almost nothing, and 1e8 is beyond any
# corpus. Outside, a form says nothing about training: several would split at a budget of one token.
RANGE = (1e-2, 1e8)
# Ten budgets a decade for the slopes; four for the global search, which costs 33 losses each.
_SLOPES, _GLOBAL = np.linspace(0, 1, 101), np.linspace(0, 1, 41)
# A split away from D' = 0 must win by this part of the loss; rounding is 1e-16 of it.
_WINS = 1e-10
# The most tokens that `compute_multiplier` grants the unsplit model: what 1e120 do not reach lies below its floor.
_MOST = np.log(1e120)


def split_threshold(surface: Surface, params: float | Array, allocate: bool = False) -> Array:
    """D_split(N) [rows] in tokens: inf { D_T : min over D' > 0 of L(N, D_T - K D', D') < L(N, D_T, 0) }.

    Solved twice. Locally: the smallest root of the slope along the budget line at D' = 0, dL/dD' = K dL/dD for
    equal weights, and with `allocate` w_k dL_k/dD' = sum_j w_j dL_j/dD for the first domain k. Globally: a split
    away from D' = 0 (along the division by weights) that wins at a smaller budget. The smaller of both is returned.
    Where the rate decays, the first tokens of D' are trained at its end and move little: the slope at D' = 0 is
    min_lr_ratio of that at a constant rate, so the loss mostly rises before it falls, and the global search decides,
    on a finer grid. The result is inf where no budget of up to 1e8 tokens a parameter is split, and 0.01 tokens a
    parameter where all are. Text is taken to be new, however little of it there is.

    params: a number or [rows, 1].
    """
    surface, grid = surface.of_new_text(), COARSE if surface.schedule.constant else TWICE
    low, high = (np.log(np.broadcast_to(np.asarray(params, dtype=float), (surface.rows, 1)) * r) for r in RANGE)

    def pays_at_once(log_budget: Array) -> NDArray[np.bool_]:
        base, special = surface.slopes_unsplit(params, np.exp(log_budget))
        moved = special.min(0) if allocate else np.einsum("trp,t->rp", special, surface.shares)
        return np.asarray(moved < base.sum(0))

    def pays_somewhere(log_budget: Array) -> NDArray[np.bool_]:
        columns = []
        for column in log_budget.T:
            loss = Line(surface, params, np.exp(column[:, None])).scan(grid)
            columns.append(loss.min(1) < loss[:, -1] * (1 - _WINS))
        return np.stack(columns, axis=1)

    local = _first(pays_at_once, low + _SLOPES * (high - low))
    # Looking just under the local root too makes the global search exact where both fall into one of its cells.
    under = np.minimum(low + _GLOBAL * (high - low), local[:, None] - 1e-3)
    return np.exp(np.minimum(local, _first(pays_somewhere, under, steps=16)))


def compute_multiplier(surface: Surface, params: float | Array, budget: float | Array, loss: Array) -> Array:
    """m(D_T) [rows]: the unsplit model of `params` needs m D_T tokens to reach the split's `loss` [rows].

    1 where the split is no better, inf where `loss` lies below the unsplit model's floor. The unsplit model's text is
    taken to be new.
    """
    surface = surface.of_new_text()
    start = np.log(np.broadcast_to(np.asarray(budget, dtype=float), (surface.rows, 1))[:, 0])
    reached = bisect(
        lambda log_tokens: surface.unsplit(params, np.exp(log_tokens)[:, None])[:, 0] <= loss,
        start,
        np.full(surface.rows, _MOST),
        steps=52,  # 240 e-folds to 1e-13
    )
    multiplier = np.exp(np.maximum(reached - start, 0.0))
    no_gain = surface.unsplit(params, np.exp(start)[:, None])[:, 0] * (1 - ROUNDING) <= loss
    never = surface.unsplit(params, np.full((1, 1), np.exp(_MOST)))[:, 0] > loss
    return np.where(no_gain, 1.0, np.where(never, np.inf, multiplier))


def _first(condition: Callable[[Array], NDArray[np.bool_]], grid: Array, steps: int = 34) -> Array:
    """Where on the ascending `grid` [rows, points] the condition first holds, refined by bisection; else inf."""
    holds = condition(grid)
    after = np.argmax(holds, axis=1)
    rows = np.arange(len(grid))
    low, high = grid[rows, np.maximum(after - 1, 0)], grid[rows, after]
    root = bisect(lambda x: condition(x[:, None])[:, 0], low, high, steps)
    return np.where(holds.any(axis=1), root, np.inf)
