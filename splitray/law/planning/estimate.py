"""A number with its interval, as plans carry and store it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitray.law.arrays import Array

_CENTRAL = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """value, and the interval [low, high] from the bootstrap draws (None without draws).

    probability_infinite: only for numbers that may be infinite: the part of the draws in which they are. In JSON an
    infinite value or bound is null.
    """

    value: float
    low: float | None = None
    high: float | None = None
    probability_infinite: float | None = None

    @classmethod
    def of(
        cls, rows: Array, level: float, corners: tuple[float, float] = (-math.inf, math.inf), unbounded: bool = False
    ) -> "Estimate":
        """From the fitted value and the draws, `rows` [1 + draws]: the central interval of mass `level`.

        Where the value is at one of its `corners`, no draw can be beyond it: the interval is one-sided, from the
        corner over `level` of the draws. It is widened to hold the value where the draws are skewed off it.
        """
        value, draws = float(rows[0]), np.sort(rows[1:])
        infinite = float(np.isinf(draws if draws.size else rows).mean()) if unbounded else None
        if not draws.size:
            return cls(value, probability_infinite=infinite)
        below, above = (1 - level) / 2, (1 + level) / 2
        # A corner that is computed, as budget * least / budget, may be off in its last digits.
        if value <= corners[0] or math.isclose(value, corners[0], rel_tol=1e-12):
            below, above = 0.0, level
        elif value >= corners[1] or math.isclose(value, corners[1], rel_tol=1e-12):
            below, above = 1 - level, 1.0
        # Whole draws, rounded outwards: between a number and infinity there is nothing to interpolate.
        last = draws.size - 1
        low, high = draws[math.floor(below * last + 1e-9)], draws[math.ceil(above * last - 1e-9)]
        return cls(value, min(value, float(low)), max(value, float(high)), infinite)

    @classmethod
    def resampled(cls, value: float, draws: Array) -> "Estimate":
        """A value with the central 95 % of what resampling gave for it, [draws]."""
        low, high = np.quantile(draws, _CENTRAL)
        return cls(value, float(low), float(high))

    def holds(self, number: float) -> bool | None:
        """Whether the interval contains a number; None without one."""
        return None if self.low is None or self.high is None else self.low <= number <= self.high

    def plain(self) -> dict[str, float | None]:
        """As JSON types."""
        record = {name: _finite(getattr(self, name)) for name in ("value", "low", "high")}
        return (
            record
            if self.probability_infinite is None
            else record | {"probability_infinite": self.probability_infinite}
        )

    @classmethod
    def parse(cls, record: dict[str, Any], drawn: bool) -> "Estimate":
        """The inverse of `plain`; `drawn` says whether there were draws, so that a bound of null is infinite."""
        infinite = record.get("probability_infinite")
        bound = math.inf if drawn and infinite is not None else None
        value = record["value"] if infinite is None or record["value"] is not None else math.inf
        low, high = (bound if record[name] is None else float(record[name]) for name in ("low", "high"))
        return cls(float(value), low, high, infinite)


def _finite(number: float | None) -> float | None:
    return None if number is None or math.isinf(number) else number
