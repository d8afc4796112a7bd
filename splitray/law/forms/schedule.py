"""The learning-rate schedule of runs, and what D' tokens are worth under it: their learning-rate area.

A specialist whose D' is short is trained almost wholly inside the decay, at a fraction of the peak. Its tokens move it
less than as many tokens on the plateau. The learning-rate area of a stretch is the integral of its rate over its
tokens, in tokens at the peak rate (the forward area of Wang et al. 2025, arXiv 2505.07796; S1 of Tissue et al. 2024,
arXiv 2408.11029). It follows from the configuration, so that no constant is fitted for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from splitray.law.arrays import Array, Ints
from splitray.law.forms.dual import Dual

SCHEDULE = ("decay_fraction", "min_lr_ratio", "specialist_lr_multiplier")  # columns of a table of runs
_LEAST = 1e-12  # a decay fraction of zero, where it divides


@dataclass(frozen=True)
class RateSchedule:
    """Warmup-stable-decay over D + D'; the default is a constant rate, under which the area of D' is D'.

    decay_fraction: share of D + D', at the end, over which the rate decays linearly. min_lr_ratio: the rate at the end
    over the peak. specialist_lr_multiplier: of the rate after the split. Numbers, or arrays [rows].
    """

    decay_fraction: float | Array = 0.0
    min_lr_ratio: float | Array = 1.0
    specialist_lr_multiplier: float | Array = 1.0

    def area(self, D: Any, S: Any) -> Any:
        """The learning-rate area of D' (here `S`) after D tokens, in tokens at the peak rate; shape of D and S.

        With F = decay_fraction (D + D') tokens of decay, of which q = min(D', F) fall on D', it is
        multiplier * (D' - q + q (min_lr_ratio + (1 - min_lr_ratio) q / (2 F))).
        """
        return self._area(D, S)[0]

    def sloped_area(self, D: Any, S: Any) -> Dual:
        """`area` with its slopes by D and D', named "D" and "S". At D' = 0 the latter is multiplier * min_lr_ratio."""
        area, part = self._area(D, S)
        lost = 1.0 - np.asarray(self.min_lr_ratio)
        by_D = -0.5 * lost * self.decay_fraction * part**2
        scale = self.specialist_lr_multiplier
        return Dual(area, {"D": scale * by_D, "S": scale * (1.0 - lost + lost * part + by_D)})

    def _area(self, D: Any, S: Any) -> tuple[Any, Any]:
        """The area, and q / F: how far back into the decay D' reaches, from 0 to 1."""
        decay = np.maximum(self.decay_fraction, _LEAST) * (D + S)
        inside = np.minimum(S, decay)
        part = inside / decay
        rate = self.min_lr_ratio + 0.5 * (1.0 - np.asarray(self.min_lr_ratio)) * part
        return self.specialist_lr_multiplier * (S - inside + inside * rate), part

    @property
    def constant(self) -> bool:
        """Whether the area of D' is D' everywhere."""
        flat = np.all((np.asarray(self.decay_fraction) == 0) | (np.asarray(self.min_lr_ratio) == 1))
        return bool(flat and np.all(np.asarray(self.specialist_lr_multiplier) == 1))

    def take(self, rows: Any) -> RateSchedule:
        """That of these rows; numbers are those of every row."""
        if all(np.ndim(v) == 0 for v in self.values):
            return self
        return RateSchedule(*(v if np.ndim(v) == 0 else np.asarray(v)[rows] for v in self.values))

    @property
    def values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    def plain(self) -> list[float]:
        """As JSON types; of numbers only."""
        return [float(value) for value in self.values]

    @classmethod
    def parse(cls, record: Sequence[float]) -> RateSchedule:
        """The inverse of `plain`.

        Raises:
            ValueError: numbers that no schedule has.
        """
        given = cls(*(float(value) for value in record))
        if reason := next(given.faults(), None):
            raise ValueError(f"schedule {list(record)}: {reason[0]} {reason[1]}")
        return given

    def faults(self) -> Any:
        """(column, rule, bad [rows]) of every rule that is broken."""
        decay, ratio, multiplier = (np.atleast_1d(np.asarray(v, dtype=float)) for v in self.values)
        for name, rule, good in (
            ("decay_fraction", "must be at least 0 and below 1", (decay >= 0) & (decay < 1)),
            ("min_lr_ratio", "must lie between 0 and 1", (ratio >= 0) & (ratio <= 1)),
            ("specialist_lr_multiplier", "must be above 0", (multiplier > 0) & np.isfinite(multiplier)),
        ):
            if not good.all():
                yield name, rule, ~good

    def distinct(self) -> tuple[tuple[RateSchedule, ...], Ints]:
        """The schedules of rows, the commonest first, and the place of each row's among them [rows]."""
        rows = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=float)) for v in self.values)), axis=1)
        found, code, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(-count, kind="stable")
        place = np.argsort(order)[code.ravel()]
        return tuple(RateSchedule(*map(float, found[i])) for i in order), place

    def __str__(self) -> str:
        decay, ratio, multiplier = self.plain()
        text = "a constant learning rate"
        if decay > 0 and ratio < 1:
            text = f"a decay over the last {decay:.3g} to {ratio:.3g} of the peak"
        return text if multiplier == 1 else f"{text}, specialists at {multiplier:.3g} times the rate"


CONSTANT_RATE = RateSchedule()
