"""How far a law's draws may be trusted outside its table: they are stretched there by what hidden folds have shown.

Draws say what the noise of the runs leaves open about a form. They do not say what the form itself lacks, which shows
beyond the table only: on other people's tables, fitted small and scored large, 80 % intervals held 45 to 62 % of runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splitray.law.arrays import Array

_WHOLE = math.log(2.0)  # e-folds beyond the table from which draws are stretched in full: folds hide about as much
_SEED = 17


@dataclass(frozen=True)
class Reach:
    """Factors on the deviation of log loss outside the table.

    shape: of differences along a budget line; level: of the loss itself, at least `shape`. What the level has more is
    one shift that all points of a draw share: errors at a new size have one sign.
    frontier: N, D, D' [points, 3] of the runs that no other run is beyond in all three; empty for no table.
    """

    shape: float = 1.0
    level: float = 1.0
    frontier: Array = field(default_factory=lambda: np.empty((0, 3)))

    @property
    def shift(self) -> float:
        """Deviation of the common shift, over that of the draws."""
        return math.sqrt(max(self.level**2 - self.shape**2, 0.0))

    @property
    def idle(self) -> bool:
        """Whether draws are taken as they are everywhere."""
        return not self.frontier.size or (self.shape == 1.0 and self.level == 1.0)

    def distance(self, N: Array, D: Array, S: Array) -> Array:
        """E-folds [points] by which the nearest run would have to grow, in N, D and D' together; 0 within the table."""
        point = np.stack(np.broadcast_arrays(N, D, S), axis=-1).astype(float)[..., None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = np.where(point <= self.frontier, 0.0, np.log(point / self.frontier))
        return np.asarray(grown.sum(axis=-1).min(axis=-1))

    def weight(self, N: Array, D: Array, S: Array) -> Array:
        """How much of the stretch applies [points], from 0 within the table to 1 at twice a run."""
        return np.minimum(self.distance(N, D, S) / _WHOLE, 1.0)

    def common(self, draws: int) -> Array:
        """The common shift of every draw [draws], of deviation 1."""
        values: Array = np.random.default_rng(_SEED).standard_normal(draws)
        return values

    def apply(self, drawn: Array, fitted: Array, weight: Array, spread: Array, common: Array) -> Array:
        """Losses of draws, stretched about those of their own fit; all broadcast.

        Args:
            weight: see `weight`. spread: deviation of the draws' log loss. common: see `common`, of these draws.
        """
        power = 1.0 + (self.shape - 1.0) * weight
        return np.asarray(fitted * (drawn / fitted) ** power * np.exp(self.shift * weight * spread * common))

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {"shape": self.shape, "level": self.level, "frontier": self.frontier.tolist()}

    @classmethod
    def parse(cls, record: Mapping[str, Any] | None) -> Reach:
        """The inverse of `plain`; a law of an earlier release has none, and its draws are taken as they are.

        Raises:
            ValueError: numbers that no fit gives.
        """
        if record is None:
            return cls()
        found = cls(float(record["shape"]), float(record["level"]), np.array(record["frontier"], float).reshape(-1, 3))
        if not (1.0 <= found.shape <= found.level < math.inf and np.isfinite(found.frontier).all()):
            raise ValueError(f"reach = {found.shape!r}, {found.level!r}: 1 or more, and finite")
        return found


def frontier(N: Array, D: Array, S: Array) -> Array:
    """The points [points, 3] of a table that no other is beyond in N, D and D' at once."""
    points = np.unique(np.stack([N, D, S], axis=1), axis=0)
    inside = [bool(((points >= p).all(axis=1) & (points > p).any(axis=1)).any()) for p in points]
    return np.asarray(points[~np.array(inside)])
