"""Losses of a size before it is trained, sealed, and what the forecast was worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.results.study import GENERAL, LOSS_DOMAIN
from splitray.results.study_analysis import ForecastError, ForecastScore, PredictedPoint, StudyForecast
from splitray.study.analysis.resampling import trajectories
from splitray.study.analysis.surface import Surface, fit_surface
from splitray.study.analysis.tables import StudyTable

LEVEL = 0.8  # mass of the intervals
_SEED = 11


class Predictor(Protocol):
    """What predicts losses [1 + draws, points] of finished models."""

    @property
    def arms(self) -> tuple[str, ...]: ...

    def predict(self, params: Array | float, tokens: Array | float, arm: str) -> Array: ...


def surface_of(table: StudyTable, measure: str = LOSS_DOMAIN) -> Surface:
    """The surface of a table's own bases.

    Raises:
        UserError: it has fewer than two sizes of own bases, or no general arm.
    """
    surface = fit_surface(trajectories(table, measure))
    if surface is None:
        own = [m.name for m in table.models if m.root == "own"]
        raise UserError(
            f"the law of a study needs two sizes of own bases with the arm {GENERAL!r}; this table has "
            f"{len(own)} ({', '.join(own) or 'none'}) and the arms {', '.join(table.arms) or 'none'}: train more sizes"
        )
    return surface


def anchored(
    source: Predictor, params: float, tokens: Sequence[float] | Array, arm: str, before: float | None
) -> Array:
    """Predicted losses [1 + draws, points]; from a measured loss of the model as it was, where there is one.

    Every draw is moved, as a factor, to have that loss at 0 tokens: what it says of the change is kept.
    """
    rows = source.predict(np.full(len(tokens), params), np.asarray(tokens, float), arm)
    if before is None:
        return rows
    return np.asarray(rows * before / source.predict(params, 0.0, GENERAL))


def forecast(
    table: StudyTable,
    params: float,
    tokens: Iterable[int],
    arms: Iterable[str] | None = None,
    before: float | None = None,
    measure: str = LOSS_DOMAIN,
) -> StudyForecast:
    """Losses of a model of `params` after `tokens` on each arm, with 80 % intervals of a mean over seeds.

    Args:
        arms: default: all of the table.
        before: its loss before it is continued, where that is known: cheap, and most of the level's error.

    Raises:
        UserError: the table has too few sizes, or an arm is not in it.
    """
    surface = surface_of(table, measure)
    wanted, chosen = sorted(tokens), tuple(arms or surface.arms)
    if unknown := [arm for arm in chosen if arm not in surface.arms]:
        raise UserError(f"no forecast for {', '.join(unknown)}: the table has the arms {', '.join(surface.arms)}")
    random = np.random.default_rng(_SEED)
    draws = len(surface.constants) - 1
    # a loss that is started from is a measurement of its own
    common = surface.noise.row if before is not None else surface.noise.size
    shared = common * random.standard_normal((draws, 1))
    points: list[PredictedPoint] = []
    for arm in chosen:
        rows = anchored(surface, params, wanted, arm, before)
        alone = surface.noise.row * random.standard_normal((draws, len(wanted)))
        low, high = np.quantile(rows[1:] * np.exp(shared + alone), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        points += [PredictedPoint(arm, t, *map(float, found)) for t, *found in zip(wanted, rows[0], low, high)]
    ratios = {
        arm: Estimate.of(surface.multiplier(params, wanted[-1], arm), LEVEL, unbounded=True)
        for arm in chosen
        if arm != GENERAL
    }
    return StudyForecast(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        measure=measure,
        params=params,
        level=LEVEL,
        form=surface.form.name,
        rows=surface.rows,
        sizes=surface.sizes,
        before=before,
        points=tuple(points),
        ratios=ratios,
    )


def score(made: StudyForecast, measured: StudyTable) -> ForecastScore:
    """A forecast beside what its size was measured to have.

    Raises:
        UserError: none of its points were measured.
    """
    models = [m.name for m in measured.models if m.params == made.params]
    found = {
        (line.arm, int(tokens)): float(value)
        for line in trajectories(measured.only(models), made.measure, draws=1)
        for tokens, value in zip(line.tokens, line.values[0])
    }
    errors = tuple(
        ForecastError(p, loss, p.value / loss - 1, p.low <= loss <= p.high)
        for p in made.points
        if (loss := found.get((p.arm, p.tokens))) is not None
    )
    if not errors:
        raise UserError(
            f"nothing of the forecast was measured: no model of {made.params:,.0f} params at its tokens and arms"
        )
    predicted = {(e.predicted.arm, e.predicted.tokens): e for e in errors}
    pairs = [(e, predicted.get((GENERAL, e.predicted.tokens))) for e in errors if e.predicted.arm != GENERAL]
    gaps = [(e.predicted.value - g.predicted.value) - (e.measured - g.measured) for e, g in pairs if g is not None]
    last = max(e.predicted.tokens for e in errors)
    at_last = [e for e in errors if e.predicted.tokens == last]
    best = min(at_last, key=lambda e: e.predicted.value) is min(at_last, key=lambda e: e.measured)
    return ForecastScore(
        points=errors,
        relative=float(np.mean([abs(e.error) for e in errors])),
        inside=float(np.mean([e.inside for e in errors])),
        differences=float(np.mean(np.abs(gaps))) if gaps else None,
        best_arm_right=best if len(at_last) > 1 else None,
    )
