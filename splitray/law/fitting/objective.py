"""What a fit minimises."""

from __future__ import annotations

import math
from dataclasses import dataclass

from splitray.errors import UserError, check_choice
from splitray.units import parse_count


@dataclass(frozen=True)
class Objective:
    """What is minimised. delta: Huber threshold on log loss; None to set it from the noise; squared: raw loss."""

    squared: bool = False
    delta: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read "huber_log", "huber_log:DELTA" or "squared".

        Raises:
            UserError: it is none of these, or DELTA is no number above 0.
        """
        kind, colon, number = text.partition(":")
        check_choice("objective", kind, ["huber_log", "squared"])
        if not colon:
            return cls(squared=kind == "squared")
        try:
            delta = float(parse_count(number)) if kind == "huber_log" else -1.0
        except UserError:
            delta = -1.0
        if not (math.isfinite(delta) and delta > 0):
            raise UserError(f'objective {text!r}: give "huber_log", "huber_log:1e-3" (a threshold), or "squared"')
        return cls(delta=delta)
