"""The best model size and split for a budget of accelerator-hours, at measured speeds.

At equal tokens the split and the unsplit model cost the same hours only if nothing but tokens takes time. What differs:
a smaller model trains on more tokens in an hour, groups of another size have another speed after the split, and each of
the K specialists starts once more. And the split alone needs a ladder. See Languini Kitchen (Stanic et al. 2023,
arXiv 2309.11197) for comparisons at equal hours.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from splitray.errors import UserError
from splitray.law import saved
from splitray.law.arrays import Array, Flags
from splitray.law.gravity import ordered
from splitray.law.law import Law, LawWarning
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.line import COARSE, ROUNDING
from splitray.law.planning.plan_warnings import far_arms
from splitray.law.planning.question import Question, positive
from splitray.storage.checksum import Schema
from splitray.units import human

SCHEMA = Schema("hours-plan", 1, unnamed=None)
_HOUR = 3600.0  # seconds
_DRAWS = 200  # as many as place the ends of an 80 % interval within a tenth of its width, see `planner`


@dataclass(frozen=True)
class Speed:
    """What models of one size take to train.

    Attributes:
        params: N, of a shape that exists.
        shared: tokens a second of one accelerator, before the split.
        special: the same after it, where groups may be of another size; None for the same.
        start_hours: accelerator-hours that one model takes beside its tokens: its processes start and write.
        measured: whether models of this size were timed; else the speed is reckoned from other sizes'.
    """

    params: float
    shared: float
    special: float | None = None
    start_hours: float = 0.0
    measured: bool = True

    @property
    def after(self) -> float:
        """Tokens a second of one accelerator, after the split."""
        return self.shared if self.special is None else self.special

    def hours(self, pretrain_tokens: float, specialize_tokens: float, models: int) -> float:
        """Accelerator-hours of some tokens before and after the split, in all, and of the starts of some models."""
        seconds = pretrain_tokens / self.shared + specialize_tokens / self.after
        return seconds / _HOUR + models * self.start_hours


@dataclass(frozen=True)
class SizePlan:
    """What one size reaches in the hours.

    Attributes:
        unsplit_tokens, unsplit_loss: of one model that has all the hours.
        budget: D + sum D' of the best division, in tokens; at its split_fraction, 1 where not to split is best.
        specialize_tokens: the mean D'.
        loss: of that division, in nats per token.
        likely: share of the draws in which no other size reaches a lower loss; None without draws.
    """

    speed: Speed
    unsplit_tokens: float
    unsplit_loss: Estimate
    budget: float
    split_fraction: Estimate
    pretrain_tokens: Estimate
    specialize_tokens: Estimate
    loss: Estimate
    likely: float | None = None

    @property
    def params(self) -> float:
        return self.speed.params

    @property
    def splits(self) -> bool:
        return self.split_fraction.value < 1


@dataclass(frozen=True)
class HoursPlan:
    """The best that accelerator-hours buy; made by `plan_for_hours`.

    Attributes:
        hours: the budget.
        ladder_hours: of these, what finding the split takes. The unsplit model needs no ladder and keeps them.
        sizes: in ascending order; `best` and `best_unsplit` are places among them.
        gain: nats per token that the best division saves over the best unsplit model, each at its own size.
        level: mass of the intervals, draws what they rest on.
    """

    hours: float
    ladder_hours: float
    domains: int
    sizes: tuple[SizePlan, ...]
    best: int
    best_unsplit: int
    gain: Estimate
    level: float
    draws: int
    warnings: tuple[LawWarning, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, whole or not at all, with its checksum."""
        saved.write(path, SCHEMA, asdict(self))

    @property
    def chosen(self) -> SizePlan:
        """The size with the lowest loss."""
        return self.sizes[self.best]

    @property
    def unsplit(self) -> SizePlan:
        """The size whose unsplit model has the lowest loss."""
        return self.sizes[self.best_unsplit]


def plan_for_hours(
    law: Law,
    question: Question,
    *,
    hours: float,
    speeds: Sequence[Speed],
    ladder_hours: float = 0.0,
    level: float = 0.8,
) -> HoursPlan:
    """The size and the division that reach the lowest loss in some accelerator-hours.

    Args:
        question: domains, weights, limits and schedule; its params and budget are passed over.
        hours: of accelerators, the base and all specialists together.
        speeds: one for each size that may be trained.
        ladder_hours: what the search for the split took, where it is to come out of the same hours; 0 where not.
        level: mass of the intervals.

    Raises:
        UserError: a number is out of range, or the hours are too few for any size.
    """
    positive("hours", hours)
    if not (math.isfinite(ladder_hours) and ladder_hours >= 0):
        raise UserError(f"ladder_hours={ladder_hours!r}: must be a finite number from 0")
    found = [
        (speed, each)
        for speed in _checked(speeds)
        if (each := _size(law, question, speed, hours, hours - ladder_hours)) is not None
    ]
    if not found:
        raise UserError(
            f"hours={hours:g}: too few for any of {len(speeds)} sizes, whose starts take "
            f"{min(speed.start_hours for speed in speeds):.3g} hours a model; give more hours, or a smaller "
            "min_pretrain"
        )
    rows = np.stack([each.loss for _, each in found])  # [sizes, 1 + draws]
    whole = np.stack([each.unsplit_loss for _, each in found])
    known: Flags = np.isfinite(np.concatenate([rows, whole])).all(axis=0)
    if not known[0]:
        raise UserError(f"the law has no finite loss at hours={hours:g}")
    rows, whole = rows[:, known], whole[:, known]
    best, best_unsplit = int(rows[:, 0].argmin()), int(whole[:, 0].argmin())
    winners = rows[:, 1:].argmin(axis=0)
    sizes = tuple(
        each.as_plan(speed, known, level, float((winners == place).mean()) if winners.size else None)
        for place, (speed, each) in enumerate(found)
    )
    result = HoursPlan(
        hours=float(hours),
        ladder_hours=float(ladder_hours),
        domains=question.surface(law, 0).count,
        sizes=sizes,
        best=best,
        best_unsplit=best_unsplit,
        gain=Estimate.of(whole[best_unsplit] - rows[best], level, (0.0, np.inf)),
        level=level,
        draws=int(known.sum()) - 1,
    )
    return replace(result, warnings=ordered(_warnings(law, result)))


def _checked(speeds: Sequence[Speed]) -> list[Speed]:
    """In ascending order of N."""
    if not speeds:
        raise UserError("speeds is empty: give the measured tokens per second of one size at least")
    for speed in speeds:
        positive("params of a speed", speed.params)
        positive(f"tokens per second at {speed.params:g} params", speed.shared)
        positive(f"tokens per second after the split at {speed.params:g} params", speed.after)
        if not (math.isfinite(speed.start_hours) and speed.start_hours >= 0):
            raise UserError(f"start_hours={speed.start_hours!r}: must be a finite number from 0")
    sizes = [speed.params for speed in speeds]
    if twice := {n for n in sizes if sizes.count(n) > 1}:
        raise UserError(f"two speeds for one size, {human(min(twice))} params: give one for each")
    return sorted(speeds, key=lambda speed: speed.params)


@dataclass(frozen=True)
class _Found:
    """What a size reaches, by row of the law [1 + draws]; tokens are in all."""

    unsplit_tokens: float
    unsplit_loss: Array
    loss: Array
    shared: Array
    special: Array
    domains: int

    def as_plan(self, speed: Speed, known: Flags, level: float, likely: float | None) -> SizePlan:
        shared, special = self.shared[known], self.special[known]
        fraction = shared / (shared + special)
        return SizePlan(
            speed=speed,
            unsplit_tokens=self.unsplit_tokens,
            unsplit_loss=Estimate.of(self.unsplit_loss[known], level),
            budget=float(shared[0] + special[0]),
            split_fraction=Estimate.of(fraction, level, (0.0, 1.0)),
            pretrain_tokens=Estimate.of(shared, level, (0.0, self.unsplit_tokens)),
            specialize_tokens=Estimate.of(special / self.domains, level, (0.0, np.inf)),
            loss=Estimate.of(self.loss[known], level),
            likely=likely,
        )


def _size(law: Law, question: Question, speed: Speed, hours: float, split_hours: float) -> _Found | None:
    """The best of three: a base and K copies, K models from scratch, one unsplit model; None where none is affordable.

    Args:
        hours: of the unsplit model.
        split_hours: of a division.
    """
    whole = _tokens(hours, speed, 1)
    if whole <= 0 or whole < question.limits.min_pretrain:
        return None
    asked = replace(question, params=speed.params, budget=whole)
    surface = asked.surface(law, _DRAWS)
    unsplit = surface.unsplit(speed.params, np.array([[whole]]))[:, 0]
    loss, shared, special = unsplit, np.full(surface.rows, whole), np.zeros(surface.rows)
    for models, only_from_scratch in ((surface.count + 1, False), (surface.count, True)):
        budget = _tokens(split_hours, speed, models)
        if budget <= max(0.0, question.limits.min_pretrain):
            continue
        line = asked.line(surface, budget=budget, exchange=speed.after / speed.shared)
        x, reached = (np.full(surface.rows, -np.inf), line.from_scratch()) if only_from_scratch else line.best(COARSE)
        before, after = (tokens[:, 0] for tokens in line.divide(x[:, None]))
        better = loss - reached > ROUNDING * loss
        loss = np.where(better, reached, loss)
        shared = np.where(better, before, shared)
        special = np.where(better, after, special)
    return _Found(whole, unsplit, loss, shared, special, surface.count)


def _tokens(hours: float, speed: Speed, models: int) -> float:
    """Tokens, at the speed of before the split, that hours leave when some models have started."""
    return (hours - models * speed.start_hours) * _HOUR * speed.shared


def _warnings(law: Law, plan: HoursPlan) -> list[LawWarning]:
    best = plan.chosen
    split = {
        "params": best.params,
        "pretrain_tokens": best.pretrain_tokens.value,
        "specialize_tokens": best.specialize_tokens.value,
    }
    unsplit = {"params": plan.unsplit.params, "pretrain_tokens": plan.unsplit.unsplit_tokens}
    far = far_arms(law, split, unsplit if best.splits else {})
    found = [far] if far is not None else []
    if plan.sizes[plan.best] is not plan.sizes[-1] and plan.sizes[plan.best] is not plan.sizes[0]:
        return found
    if len(plan.sizes) > 1:
        end = "largest" if plan.sizes[plan.best] is plan.sizes[-1] else "smallest"
        found.append(
            LawWarning(
                "size_at_the_end",
                f"the best size, {human(best.params)}, is the {end} of those with a speed",
                "under this law the loss still falls there",
                f"time a {'larger' if end == 'largest' else 'smaller'} shape, and give its speed",
            )
        )
    return found
