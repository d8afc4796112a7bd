"""What the advice loses on what it has not seen, beside what always filtering and never filtering lose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitray.errors import UserError
from splitray.results.study import FILTERED, GENERAL, LOSS_DOMAIN
from splitray.results.study_analysis import ArmRegret
from splitray.study.analysis.arm_forms import effective
from splitray.study.analysis.foresight import anchored, surface_of
from splitray.study.analysis.resampling import Trajectory, trajectories
from splitray.study.analysis.surface import Surface
from splitray.study.analysis.tables import StudyTable

ADVICE, ALWAYS, NEVER = RULES = ("advice", "always filter", "never filter")
_SHARES = (0.25, 0.5, 1.0)  # of the most compute that a model was measured with


def regret(
    known: StudyTable, unseen: StudyTable, held_out: str, budgets: Sequence[float] | None = None
) -> tuple[ArmRegret, ...]:
    """Regret of every model of `unseen` at every budget, in nats per token of the domain's text.

    The advice knows `known` and each unseen model's loss before it is continued, where that was measured: whoever has
    the model can measure it. Measured losses between snapshots are read off linearly in log tokens.

    Args:
        held_out: what was, such as "h128" or "medicine".
        budgets: FLOPs; default: a quarter, a half and all of the most that each model was measured with.

    Raises:
        UserError: `known` has too few sizes, or nothing of `unseen` was measured on two arms.
    """
    surface = surface_of(known)
    found = trajectories(unseen, LOSS_DOMAIN, draws=1)
    rows: list[ArmRegret] = []
    for model in dict.fromkeys(t.model for t in found):
        lines = {t.arm: t for t in found if t.model == model and t.arm in surface.arms}
        if len(lines) < 2:
            continue
        most = min(float(t.tokens[-1]) for t in lines.values())
        for flops in budgets or [6.0 * model.params * most * share for share in _SHARES]:
            tokens = flops / (6.0 * model.params)
            measured = {arm: loss for arm, t in lines.items() if (loss := _at(t, tokens)) is not None}
            if len(measured) > 1:
                rows.append(_row(surface, lines, measured, tokens, held_out))
    if not rows:
        raise UserError(f"no regret for {held_out}: no model of it was measured on two arms of the study at a budget")
    return tuple(rows)


def _row(
    surface: Surface, lines: dict[str, Trajectory], measured: dict[str, float], tokens: float, held_out: str
) -> ArmRegret:
    model = next(iter(lines.values())).model
    before = next((float(t.values[0, 0]) for t in lines.values() if t.tokens[0] == 0), None)
    predicted = {}
    for arm in measured:
        worth = float(effective(tokens, tokens / max(1.0, _epochs(lines[arm], tokens))))
        rows = anchored(surface, model.params, [worth], arm, before)
        predicted[arm] = float((rows[1:] if len(rows) > 1 else rows).mean())
    advised = min(predicted, key=lambda arm: predicted[arm])
    best = min(measured, key=lambda arm: measured[arm])
    taken = {ADVICE: advised, ALWAYS: FILTERED, NEVER: GENERAL}
    return ArmRegret(
        held_out=held_out,
        model=model.name,
        flops=6.0 * model.params * tokens,
        advised=advised,
        best=best,
        regret={rule: measured[arm] - measured[best] if arm in measured else None for rule, arm in taken.items()},
    )


def _at(line: Trajectory, tokens: float) -> float | None:
    """The measured loss at so many tokens; None outside the snapshots."""
    trained = line.trained
    at, loss = line.tokens[trained], line.values[0, trained]
    if not at[0] * 0.999 <= tokens <= at[-1] * 1.001:
        return None
    return float(np.interp(np.log(tokens), np.log(at), loss))


def _epochs(line: Trajectory, tokens: float) -> float:
    return float(np.interp(tokens, line.tokens, line.epochs))
