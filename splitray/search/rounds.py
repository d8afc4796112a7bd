"""Which split fractions to try next: a pure function of the law and of what was tried. No Ray."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from splitray.law import Law
from splitray.law.planning.question import Question
from splitray.search.correction import corrected

GAP = 0.02  # between fractions that are both worth a trial
_GRID = np.linspace(0.0, 1.0, 401)


@dataclass(frozen=True)
class Proposal:
    """What a round starts with: fractions to try, the law's optimum with its 80 % interval, and the expected gain.

    The gain is what knowing the truth would save over stopping at the optimum, in nats per token: the mean over the
    corrected draws of L(optimum) - min over s of L(s).
    """

    fractions: tuple[float, ...]
    optimum: float
    low: float
    high: float
    expected_gain: float


def curve(law: Law, question: Question, fractions: np.ndarray) -> np.ndarray:
    """The loss that is planned with, weights and all, along the question's budget line [1 + draws, fractions]: row 0
    by the law as fitted, then by its draws. Limits of the question bind the plan, not the curve."""
    surface = question.surface(law)
    shared, special = fractions * question.budget, (1 - fractions) * question.budget
    return surface.loss(question.params, shared[None], special[None, :, None] * surface.shares)


def propose(law: Law, question: Question, trials: Mapping[float, float], count: int, gap: float = GAP) -> Proposal:
    """Fractions where the law, corrected by what was measured on the line, may have its optimum: its middle first, then
    towards its ends.

    A law that is off moves little when three rows join its four hundred; the trials' own curve does, see `correction`.

    Args:
        question: the model, the budget and the domains with their weights.
        trials: measured loss by split fraction, weighted as the question weighs; nothing nearer than `gap` to one of
            them is proposed, so fewer than `count` fractions may come back. Nearer than that to 1, unsplit itself is
            proposed.
    """
    curves = curve(law, question, _GRID)
    # a law that knows no residuals is taken at its word
    error = (law.noise or 0.0) * float(curves[0].min())
    middle, losses = corrected(curves, _GRID, trials, error) if error else (curves[0], curves[1:])
    best = float(_GRID[int(np.argmin(middle))])
    if len(losses):
        optima = _GRID[np.argmin(losses, axis=1)]
        here = losses[:, int(np.argmin(np.abs(_GRID - best)))]
        gain = float(np.mean(here - losses.min(axis=1)))
    else:
        optima, gain = np.array([best]), 0.0
    chosen: list[float] = []
    levels = [0.5, 0.1, 0.9, 0.25, 0.75, 0.02, 0.98]
    for fraction in [best, *np.quantile(optima, levels)]:
        if fraction > 1 - gap:
            fraction = 1.0  # so near to unsplit it is tried as what it would be given up for, once and exactly
        if all(abs(fraction - other) >= gap for other in [*trials, *chosen]):
            chosen.append(float(fraction))
    low, high = np.quantile(optima, [0.1, 0.9])
    return Proposal(tuple(chosen[:count]), best, float(low), float(high), gain)
