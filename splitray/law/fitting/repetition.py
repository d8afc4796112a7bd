"""R*, what repeated text is worth, from runs that read theirs often enough."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar

from splitray.law.arrays import Array
from splitray.law.fitting.marquardt import minimise
from splitray.law.fitting.regression import Fitted
from splitray.law.repetition import PUBLISHED, Repetition
from splitray.law.runs import Runs

_OFTEN = 3.0  # passes from which a run tells of R*: at 15.39 they are worth 2.87, a loss 0.3 % off a typical curve
_ROWS = 4  # that read so often, and that do not: fewer say more of their seeds than of R*
_RANGE = (1.0, 300.0)  # a further pass worth nothing, or as good as new text beyond all that is trained
_SPREAD = 1.0  # e-folds of the prior about the published value, of one row's weight as the forms' own
_GRID, _STEPS = 15, 25


def enough(runs: Runs) -> bool:
    """Whether the runs can tell what repeated text is worth."""
    if runs.repeats is None:
        return False
    often = (runs.repeats.after >= _OFTEN) & (runs.weight > 0)
    return bool(often.sum() >= _ROWS and ((runs.repeats.after <= 1) & (runs.weight > 0)).sum() >= _ROWS)


def fit_repetition(fitted: Fitted, runs: Runs) -> Repetition:
    """R* at the least objective of a form, which is refitted at every value tried, from its fit to the same rows.

    A weak prior about the published value decides what the runs leave open.
    """
    assert runs.repeats is not None

    def worth(log_constant: float) -> float:
        counted = runs.counted(Repetition(math.exp(log_constant)))
        problem = replace(fitted.problem, D=counted.pretrain_tokens, S=counted.specialize_tokens)
        found = float(minimise(problem, fitted.vector[None], _STEPS, 1e-10)[1][0])
        return found + 0.5 * (unit * (log_constant - math.log(PUBLISHED)) / _SPREAD) ** 2

    unit = fitted.noise if fitted.problem.delta is not None else fitted.noise * float(np.mean(runs.loss))
    grid: Array = np.linspace(math.log(_RANGE[0]), math.log(_RANGE[1]), _GRID)
    values = [worth(float(x)) for x in grid]
    place = int(np.argmin(values))
    low, high = grid[max(place - 1, 0)], grid[min(place + 1, _GRID - 1)]
    polished = minimize_scalar(worth, bounds=(low, high), method="bounded", options={"xatol": 0.01})
    best = float(polished.x) if polished.fun < values[place] else float(grid[place])
    return Repetition(math.exp(best), True, runs.repeats.most)
