"""The slope of SGER against N: a power law through numbers and bounds.

log SGER = a + b log N + noise is fitted by maximum likelihood, in which a measured ratio has its density and a bound
the probability of what lies beyond it (interval regression; Tobin 1958 for one-sided bounds). Few sizes make Gaussian
intervals too narrow: the profile likelihood is cut where it gives Student's interval if no ratio is a bound, at
n log(1 + t^2 / (n - 2)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats
from scipy.special import log_ndtr

from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.results.study_analysis import MEASURED, UNKNOWN, EfficiencyRatio, Interval, LeftOut, RatioSlope
from splitray.study.analysis.resampling import LEVEL

_LEAST = 3  # sizes that say something; two points leave no noise to judge by
_NARROWEST = 1e-3  # of the noise in log SGER; a likelihood of exact points has no top
_WIDER = "measure snapshots at fewer tokens, and train for longer"
_STEEPEST = 20.0  # slopes beyond it are none that a study could show


@dataclass(frozen=True)
class PowerLaw:
    """log ratio = a + b x with noise of deviation `spread`; low and high bound b, where they were asked for."""

    a: float
    b: float
    spread: float
    low: float = -math.inf
    high: float = math.inf

    def interval(self, x: float, xs: Array) -> tuple[float, float]:
        """The 95 % interval of one more log ratio at x, from so many sizes at `xs` (Student's)."""
        count = xs.size
        apart = float(((xs - xs.mean()) ** 2).sum())
        error = self.spread * math.sqrt(count / max(1, count - 2) * (1 + 1 / count + (x - xs.mean()) ** 2 / apart))
        half = float(stats.t.ppf((1 + LEVEL) / 2, max(1, count - 2))) * error
        return self.a + self.b * x - half, self.a + self.b * x + half


def log_bounds(ratio: Interval) -> tuple[float, float]:
    return (
        -math.inf if ratio.low is None else math.log(ratio.low),
        math.inf if ratio.high is None else math.log(ratio.high),
    )


def fit_power_law(x: Array, low: Array, high: Array, bounded: bool = True) -> PowerLaw | None:
    """A line through log ratios in [low, high] at x [sizes]; None where they do not bound its slope on both sides.

    bounded: also the slope's 95 % interval, which takes ten times as long.
    """
    exact = low == high
    if x.size < _LEAST or np.ptp(x) == 0 or not (exact.any() or (np.isfinite(low).any() and np.isfinite(high).any())):
        return None
    middle = np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2, np.where(np.isfinite(low), low, high))
    first_b, first_a = np.polyfit(x, middle, 1)
    first = np.array([first_a, first_b, math.log(max(0.1, float(np.std(middle - first_a - first_b * x))))])

    def worth(at: Array) -> float:
        return -_log_likelihood(at[0] + at[1] * x, math.exp(at[2]), low, high)

    bounds = [(None, None), (-_STEEPEST, _STEEPEST), (math.log(_NARROWEST), 3.0)]
    starts = [first, first + np.array([0.0, 0.0, -2.0])]
    best = min((_minimise(worth, s, bounds) for s in starts), key=lambda r: r.fun)
    a, b, log_spread = best.x
    if not bounded:
        return PowerLaw(float(a), float(b), float(math.exp(log_spread)))
    top = best.fun
    free = x.size - 2
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, max(1, free)))
    allowed = 0.5 * x.size * math.log(1 + quantile**2 / max(1, free))

    def above(slope: float, start: Array) -> tuple[float, Array]:
        found = _minimise(lambda at: worth(np.array([at[0], slope, at[1]])), start, [bounds[0], bounds[2]])
        return found.fun - top - allowed, found.x

    low_b, high_b = (_cross(above, float(b), side, np.array([a, log_spread])) for side in (-1, 1))
    return PowerLaw(float(a), float(b), float(math.exp(log_spread)), low_b, high_b)


def _log_likelihood(mean: Array, spread: float, low: Array, high: Array) -> float:
    exact = low == high
    result = 0.0
    if exact.any():
        z = (low[exact] - mean[exact]) / spread
        result += float((-0.5 * z**2).sum() - exact.sum() * (math.log(spread) + 0.5 * math.log(2 * math.pi)))
    if not exact.all():
        upper, lower = ((end[~exact] - mean[~exact]) / spread for end in (high, low))
        # both ends above the mean lose digits: mirrored there
        flip = lower > 0
        upper, lower = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
        top, bottom = log_ndtr(upper), log_ndtr(lower)
        with np.errstate(divide="ignore"):
            result += float((top + np.log1p(-np.exp(np.minimum(bottom - top, -1e-16)))).sum())
    return max(result, -1e9)


def _minimise(of: object, start: Array, bounds: list[tuple[float | None, float | None]]) -> optimize.OptimizeResult:
    clipped = [min(max(s, -1e9 if lo is None else lo), 1e9 if hi is None else hi) for s, (lo, hi) in zip(start, bounds)]
    return optimize.minimize(of, np.array(clipped), method="L-BFGS-B", bounds=bounds)


def _cross(above: object, b: float, side: int, start: Array) -> float:
    """Where the profile leaves what is allowed, on one side of the best slope; infinite where it never does."""
    step, inside, place = 0.05, b, start
    while True:
        slope = b + side * step
        if abs(slope) > _STEEPEST:
            return side * math.inf
        worth, at = above(slope, place)  # type: ignore[operator]
        if worth > 0:
            break
        inside, place, step = slope, at, 1.5 * step
    outside = slope
    for _ in range(14):
        middle = (inside + outside) / 2
        worth, at = above(middle, place)  # type: ignore[operator]
        if worth > 0:
            outside = middle
        else:
            inside, place = middle, at
    return (inside + outside) / 2


def ratio_slope(rows: Sequence[EfficiencyRatio]) -> RatioSlope:
    """The slope over sizes of one arm's ratios at one level; rows of given models are left out where there are own."""
    first = rows[0]
    known = [r for r in rows if r.kind != UNKNOWN]
    censored = sum(r.kind != MEASURED for r in known)
    reference = math.exp(np.mean([math.log(r.params) for r in known])) if known else float(first.params)
    fitted = _fit(known, reference)
    reason = ""
    if len(known) < _LEAST:
        reason = f"{len(known)} of {len(rows)} sizes say something, and {_LEAST} are needed: train more sizes"
    elif fitted is None:
        reason = "all ratios are bounds on one side: train the arm that never reached the level for longer"
    elif (side := _open_side(fitted)) is not None:
        reason = f"too many ratios are bounds, so that it is {side} and no more is known: {_WIDER}"
        fitted = None
    return RatioSlope(
        arm=first.arm,
        measure=first.measure,
        named=first.named,
        sizes=len(known),
        censored=censored,
        reference=reference,
        slope=None if fitted is None else Estimate(fitted.b, fitted.low, fitted.high),
        at_reference=None if fitted is None else math.exp(fitted.a),
        spread=None if fitted is None else fitted.spread,
        left_out=tuple(_left_out(r, known, reference) for r in known) if fitted is not None else (),
        reason=reason,
    )


def _open_side(fitted: PowerLaw) -> str | None:
    """What is known of a slope that the ratios bound on one side at most; None where they bound it on both.

    The likelihood then has no top inside, and its best slope is only where the search for it ended: one number beside
    four bounds of 16 gave -3.95 and a ratio of 100,000 at the smallest size.
    """
    low, high = math.isfinite(fitted.low), math.isfinite(fitted.high)
    if low and high:
        return None
    end = round(fitted.low if low else fitted.high, 2) + 0.0  # never -0.00
    return f"{'above' if low else 'below'} {end:.2f}".replace("-", "−") if low or high else "any number"


def _fit(rows: Sequence[EfficiencyRatio], reference: float, bounded: bool = True) -> PowerLaw | None:
    if len(rows) < _LEAST:
        return None
    x = np.log([r.params / reference for r in rows])
    low, high = np.array([log_bounds(r.ratio) for r in rows]).T
    return fit_power_law(x, low, high, bounded)


def _left_out(row: EfficiencyRatio, rows: Sequence[EfficiencyRatio], reference: float) -> LeftOut:
    others = [r for r in rows if r.model != row.model]
    fitted = _fit(others, reference, bounded=False)
    if fitted is None:
        return LeftOut(row.model, None, None, row.ratio, None)
    x, xs = math.log(row.params / reference), np.log([r.params / reference for r in others])
    low, high = fitted.interval(x, xs)
    found_low, found_high = log_bounds(row.ratio)
    predicted = Estimate(math.exp(fitted.a + fitted.b * x), math.exp(max(low, -700.0)), math.exp(min(high, 700.0)))
    return LeftOut(row.model, fitted.b, predicted, row.ratio, bool(found_low <= high and low <= found_high))
