"""The compute-effectiveness gap: what compute each arm needs to reach a level, and the ratio of both (SGER).

A curve is made monotone by isotonic regression (Barlow et al. 1972) and read off between snapshots, linear in the
logarithm of compute. What the curve does not show is a bound: an arm that is below the level at its first snapshot
needs at most that compute, and one that never gets there needs more than its last. No number is made up for either.

Levels are fixed before a ratio is seen, by one rule for all sizes: what the general arm reaches at the snapshot that
validation text chose (its best), halfway there from the model as it was, and the other arm's best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from splitray.law.arrays import Array
from splitray.results.study import GENERAL
from splitray.results.study_analysis import (
    AT_LEAST,
    AT_MOST,
    BETWEEN,
    MEASURED,
    UNKNOWN,
    EfficiencyRatio,
    Interval,
)
from splitray.study.analysis.resampling import LEVEL, Trajectory

GENERALS_BEST, HALFWAY, OWN_BEST = LEVELS = ("general's best", "half of general's gain", "the arm's best")
_TOLERANCE = 1e-12  # of a level that is a curve's own point


def lower_is_better(measure: str) -> bool:
    return not measure.endswith(("/accuracy", "/margin"))


@dataclass(frozen=True)
class _Falling:
    """Rows of falling curves [rows, snapshots] over log compute [snapshots], and where they start [rows]."""

    log_flops: Array
    values: Array
    start: Array | None
    chosen: Array

    @classmethod
    def of(cls, line: Trajectory) -> _Falling:
        sign = 1.0 if lower_is_better(line.measure) else -1.0
        trained = line.trained
        rows = sign * line.values[:, trained]
        fallen = np.stack([isotonic_regression(row, increasing=False).x for row in rows])
        chosen = np.minimum.accumulate(fallen, axis=1)[:, line.chosen - (trained.start or 0)]
        before = line.before
        return cls(np.log(line.flops[trained]), fallen, None if before is None else sign * before, chosen)

    def compute(self, row: int, level: float) -> tuple[float, float]:
        """[low, high] of log compute to a level; -inf and inf are no bounds."""
        curve = self.values[row]
        there = np.flatnonzero(curve <= level + _TOLERANCE * max(1.0, abs(level)))
        if not there.size:
            return float(self.log_flops[-1]), math.inf
        first = int(there[0])
        if first == 0:
            reached = math.isclose(curve[0], level, rel_tol=1e-9, abs_tol=1e-12)
            return (float(self.log_flops[0]) if reached else -math.inf), float(self.log_flops[0])
        above, below = curve[first - 1], curve[first]
        share = min(1.0, (above - level) / (above - below))
        at = float(self.log_flops[first - 1] + share * (self.log_flops[first] - self.log_flops[first - 1]))
        return at, at


@dataclass(frozen=True)
class _Row:
    """One table's answer: the level, and [low, high] of log compute of both arms and of their ratio."""

    level: float
    general: tuple[float, float]
    other: tuple[float, float]
    ratio: tuple[float, float]


def ratios(found: Sequence[Trajectory]) -> Iterator[EfficiencyRatio]:
    """SGER of every model and arm but the general one, at every level; of one measure's trajectories."""
    general = {t.model.name: t for t in found if t.arm == GENERAL}
    for line in found:
        base = general.get(line.model.name)
        if line.arm == GENERAL or base is None:
            continue
        pair = _Falling.of(base), _Falling.of(line)
        for named in LEVELS:
            yield _ratio(base, line, pair, named)


def _ratio(base: Trajectory, line: Trajectory, pair: tuple[_Falling, _Falling], named: str) -> EfficiencyRatio:
    count = min(len(base.values), len(line.values))
    rows = [_row(*pair, named, row) for row in range(count)]
    first, sign = rows[0], 1.0 if lower_is_better(line.measure) else -1.0
    low, high = _bounds(rows[1:]) if count > 1 else (None, None)
    drawn = rows[1:] or rows
    ratio = _interval(first.ratio)
    return EfficiencyRatio(
        model=line.model.name,
        root=line.model.root,
        params=line.model.params,
        arm=line.arm,
        measure=line.measure,
        named=named,
        level=sign * first.level,
        general=_interval(first.general),
        other=_interval(first.other),
        ratio=ratio,
        kind=kind_of(ratio),
        low=low,
        high=high,
        unmeasured=float(np.mean([row.ratio[0] != row.ratio[1] for row in drawn])),
        held_out=line.model.held_out,
    )


def _row(general: _Falling, other: _Falling, named: str, row: int) -> _Row:
    level = float((other if named == OWN_BEST else general).chosen[row])
    if named == HALFWAY and general.start is not None:
        level = (level + float(general.start[row])) / 2
    nothing_gained = general.start is not None and level >= general.start[row] - _TOLERANCE
    unknown = (-math.inf, math.inf)
    if nothing_gained or (named == HALFWAY and general.start is None):
        return _Row(level, unknown, unknown, unknown)
    ours, theirs = general.compute(row, level), other.compute(row, level)
    return _Row(level, ours, theirs, (ours[0] - theirs[1], ours[1] - theirs[0]))


def _interval(logs: tuple[float, float]) -> Interval:
    low, high = (math.exp(end) if math.isfinite(end) else None for end in logs)
    return Interval(low, low if logs[0] == logs[1] else high)


def kind_of(ratio: Interval) -> str:
    """How well a ratio is known."""
    if ratio.exact:
        return MEASURED
    if ratio.low is not None:
        return BETWEEN if ratio.high is not None else AT_LEAST
    return UNKNOWN if ratio.high is None else AT_MOST


def _bounds(rows: Sequence[_Row]) -> tuple[float | None, float | None]:
    """The 95 % interval over draws: a draw that is a bound counts with the end that is open."""
    below, above = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    lows, highs = (np.sort([row.ratio[end] for row in rows]) for end in (0, 1))
    low, high = lows[math.floor(below * (len(rows) - 1))], highs[math.ceil(above * (len(rows) - 1))]
    return (math.exp(low) if math.isfinite(low) else None), (math.exp(high) if math.isfinite(high) else None)
