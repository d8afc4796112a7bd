"""Plans along an axis: the optimum against the budget, D_split against the size, the loss against the fraction."""

from dataclasses import dataclass, replace

import numpy as np

from splitray.law.arrays import Array
from splitray.law.law import Law
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.line import COARSE
from splitray.law.planning.question import Question
from splitray.law.planning.threshold import compute_multiplier, split_threshold

# Draws behind a band: 200 put its edges within a tenth of its width, and a figure has some thirty points.
DRAWS = 200


@dataclass(frozen=True)
class Sweep:
    """Optima at ascending `budgets`, one Estimate for each."""

    budgets: Array
    split_fraction: tuple[Estimate, ...]
    pretrain_tokens: tuple[Estimate, ...]
    predicted_loss: tuple[Estimate, ...]
    compute_multiplier: tuple[Estimate, ...]


def sweep_budgets(law: Law, question: Question, budgets: Array, level: float = 0.8) -> Sweep:
    """The optimal split of `question` at every one of `budgets` [points]."""
    surface = question.surface(law, DRAWS)
    columns: list[list[Estimate]] = [[], [], [], []]
    for budget in budgets:
        line = question.line(surface, budget=float(budget))
        x, loss = line.best(COARSE)
        shared = line.divide(x[:, None])[0][:, 0]
        multiplier = compute_multiplier(surface, question.params, float(budget), loss)
        for column, rows, corners in zip(
            columns,
            (shared / budget, shared, loss, multiplier),
            ((float(line.least), 1.0), (float(line.least * budget), budget), (-np.inf, np.inf), (1.0, np.inf)),
        ):
            column.append(Estimate.of(rows, level, corners, unbounded=rows is multiplier))
    return Sweep(np.asarray(budgets, dtype=float), *(tuple(column) for column in columns))


def sweep_params(law: Law, question: Question, params: Array, level: float = 0.8) -> tuple[Estimate, ...]:
    """D_split at every one of `params` [points]."""
    surface = question.surface(law, DRAWS)
    apart = question.allocation == "per_domain"
    return tuple(
        Estimate.of(split_threshold(surface, float(n), apart), level, (-np.inf, np.inf), unbounded=True) for n in params
    )


def loss_curve(law: Law, question: Question, fractions: Array, level: float = 0.8) -> tuple[Array, Array | None]:
    """Loss [points] at `fractions` [points] of the budget, and its band [2, points] (None without draws).

    The band is that of `Estimate.of`: where the draws are skewed off the fitted loss, it is widened to hold it.
    """
    surface = question.surface(law, DRAWS)
    line = question.line(surface)
    free = replace(line, least=0.0)
    with np.errstate(divide="ignore"):
        x = np.log(fractions) - np.log1p(-fractions)
    loss = free.loss(x[None, :])
    if surface.rows == 1:
        return loss[0], None
    low, high = np.quantile(loss[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return loss[0], np.stack([np.minimum(low, loss[0]), np.maximum(high, loss[0])])
