"""Minima and roots of many functions of one variable at once: row i of every array belongs to function i.

`scipy.optimize.elementwise` drops the rows that have converged, so a function must be able to evaluate any subset of
rows. A law's rows (the fitted law and its bootstrap draws) may be of different forms and are evaluated together, so
these two loops keep every row and run a fixed number of steps.
"""

from collections.abc import Callable

import numpy as np

from splitray.law.arrays import Array, Flags

Function = Callable[[Array], Array]

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def bisect(falls_below: Callable[[Array], Flags], low: Array, high: Array, steps: int = 60) -> Array:
    """The point [rows] in [low, high] where a monotone condition [rows] turns from False (low) to True (high)."""
    low, high = np.array(low, dtype=float), np.array(high, dtype=float)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        true = falls_below(middle)
        high, low = np.where(true, middle, high), np.where(true, low, middle)
    return high


def minimise(f: Function, grid: Array, values: Array, ends: float = 40.0, steps: int = 45) -> tuple[Array, Array]:
    """Global minimum of `f` from its `values` [rows, points] on an ascending `grid` [points], polished by sections.

    `f` maps [1 or rows, points] to [rows, points]; a value of inf keeps a point out. The grid may begin and end with
    -inf and inf (the corners of a logistic coordinate); the polish searches to `ends` there, and a corner that is as
    good stays the answer. Returns the minimisers and the minima, each [rows].
    """
    best = np.argmin(values, axis=1)
    finite = np.clip(grid, -ends, ends)
    low, high = finite[np.maximum(best - 1, 0)], finite[np.minimum(best + 1, grid.size - 1)]
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = f(left[:, None])[:, 0], f(right[:, None])[:, 0]
    for _ in range(steps):
        shrink_right = at_left <= at_right
        low, high = np.where(shrink_right, low, left), np.where(shrink_right, right, high)
        span = _GOLDEN * (high - low)
        probe = np.where(shrink_right, high - span, low + span)
        at_probe = f(probe[:, None])[:, 0]
        left, right = np.where(shrink_right, probe, right), np.where(shrink_right, left, probe)
        at_left, at_right = (
            np.where(shrink_right, at_probe, at_right),
            np.where(shrink_right, at_left, at_probe),
        )
    rows = np.arange(values.shape[0])
    point, value = np.where(at_left <= at_right, left, right), np.minimum(at_left, at_right)
    keep = values[rows, best] <= value
    return np.where(keep, grid[best], point), np.where(keep, values[rows, best], value)
