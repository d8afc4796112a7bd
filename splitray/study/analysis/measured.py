"""Given models as the advice sees them: what was measured, between snapshots, and nothing beyond.

Models from outside differ in more than their size, so no law goes over them. But the question of whoever has one of
them is the same: which text, at my compute?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from splitray.law.arrays import Array
from splitray.results.study import GENERAL
from splitray.study.analysis.arm_forms import effective
from splitray.study.analysis.resampling import Trajectory
from splitray.study.analysis.surface import Noise


@dataclass(frozen=True, eq=False)
class MeasuredCurves:
    """Losses [1 + draws, snapshots] of given models by N and arm, over effective tokens.

    The same interface as `Surface`, as far as the advice asks it.
    """

    curves: Mapping[tuple[int, str], tuple[Array, Array]]
    arms: tuple[str, ...]
    noise: Noise
    heldout: Mapping[str, float] | None = None  # nothing is fitted, so nothing was hidden from a fit

    @classmethod
    def of(cls, found: Sequence[Trajectory]) -> MeasuredCurves | None:
        """From trajectories of the domain's loss; None without a given model that was measured on two arms.

        Only arms that all such models have are kept.
        """
        given = [t for t in found if t.model.root == "given"]
        by_model: dict[int, dict[str, Trajectory]] = {}
        for line in given:
            by_model.setdefault(line.model.params, {})[line.arm] = line
        kept = {params: lines for params, lines in by_model.items() if GENERAL in lines and len(lines) > 1}
        if not kept:
            return None
        arms = tuple(arm for arm in next(iter(kept.values())) if all(arm in lines for lines in kept.values()))
        rows = min(len(lines[arm].values) for lines in kept.values() for arm in arms)
        curves = {
            (params, arm): (_worth(lines[arm]), lines[arm].values[:rows])
            for params, lines in kept.items()
            for arm in arms
        }
        return cls(curves, arms, Noise(0.0, 0.0))

    def predict(self, params: Array | float, tokens: Array | float, arm: str) -> Array:
        """Loss [1 + draws, points], linear in log(1 + tokens) between snapshots; at the ends it stays as it is."""
        sizes, at = (np.atleast_1d(np.asarray(v, float)) for v in np.broadcast_arrays(params, tokens))
        columns = []
        for size, count in zip(sizes, at, strict=True):
            known, values = self.curves[int(size), arm]
            columns.append([np.interp(np.log1p(count), np.log1p(known), row) for row in values])
        return np.array(columns).T

    def most(self, params: float) -> float:
        """The most tokens that every arm of a model was measured with."""
        return min(float(known[-1]) for (size, _), (known, _) in self.curves.items() if size == int(params))

    def beyond(self, params: float, tokens: float) -> bool:
        return tokens > 1.001 * self.most(params)

    @property
    def largest(self) -> tuple[float, float]:
        """The largest N, and the most tokens."""
        return (
            float(max(size for size, _ in self.curves)),
            max(float(known[-1]) for known, _ in self.curves.values()),
        )


def _worth(line: Trajectory) -> Array:
    unique = line.tokens / np.maximum(1.0, line.epochs)
    return effective(line.tokens, unique)
