"""The best model size for a budget of FLOPs, when splitting is an option."""

from dataclasses import replace
from typing import Any

import numpy as np

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.gravity import ordered
from splitray.law.law import Law, LawWarning
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.line import COARSE
from splitray.law.planning.plan import Plan
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Limits, Question, positive
from splitray.law.solve import minimise

# FLOPs a parameter and token of training (Kaplan et al. 2020); attention comes on top and is left out.
FLOPS_PER_TOKEN = 6.0
# Sizes searched, by their tokens per parameter: 20 is compute-optimal for one model (Hoffmann et al. 2022), and 1e6
# is a hundred times beyond what anyone trains.
_RATIOS = (1e-2, 1e6)


def plan_for_flops(law: Law, *, flops: float, level: float = 0.8, **question: Any) -> Plan:
    """The plan at the size N whose optimal split reaches the lowest loss with `flops` = 6 N D_T.

    `question` has the arguments of `plan` but `params` and `budget`. The result's `best_params` is N with its
    interval; every other interval is for the fitted N. A warning says so where N is at the end of the range searched,
    0.01 to 1e6 tokens per parameter.
    """
    tokens = positive("flops", flops) / FLOPS_PER_TOKEN
    question["limits"] = question.get("limits") or Limits()
    low, high = (0.5 * np.log(tokens / ratio) for ratio in reversed(_RATIOS))
    least = question["limits"].min_pretrain
    if least > 0:
        # A larger model could not afford its shared pretraining.
        high = min(high, np.log(tokens / least))
    if high <= low:
        raise UserError(f"limits.min_pretrain={least:g} leaves nothing to choose within {flops:g} FLOPs")
    draft = Question(params=float(np.exp(low)), budget=float(tokens / np.exp(low)), **question)
    surface = draft.surface(law)

    def loss(log_params: Array) -> Array:
        columns = []
        for column in np.broadcast_to(log_params, (surface.rows, log_params.shape[1])).T:
            params = np.exp(column[:, None])
            columns.append(draft.line(surface, params, tokens / params).best(COARSE)[1])
        return np.stack(columns, axis=1)

    grid = np.linspace(low, high, 49)
    best, _ = minimise(loss, grid, loss(grid[None, :]), steps=30)
    sizes = np.exp(best)
    result = answer(law, replace(draft, params=float(sizes[0]), budget=float(tokens / sizes[0])), level)
    warnings = result.warnings
    if not grid[0] < best[0] < grid[-1]:
        warnings = ordered((*warnings, _at_the_end(float(sizes[0]))))
    return replace(
        result, best_params=Estimate.of(sizes, level, (float(np.exp(low)), float(np.exp(high)))), warnings=warnings
    )


def _at_the_end(params: float) -> LawWarning:
    return LawWarning(
        "size_at_the_end",
        f"the best size, {params:.3g}, is at the end of the range searched",
        "under this law the loss still falls there",
        "add runs with at least five sizes, each at several pretrain_tokens",
    )
