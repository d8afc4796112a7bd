"""From the tables of a study to everything that its page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from splitray.law.planning.estimate import Estimate
from splitray.results.study import FILTERED, GENERAL, LOSS_DOMAIN, LOSS_GENERAL, exam_measure
from splitray.results.study_analysis import (
    Advice,
    ArmMultiplier,
    EfficiencyRatio,
    RatioSlope,
    StudyAnalysis,
    SurfaceFit,
)
from splitray.study.analysis.advice import Means, advise
from splitray.study.analysis.gap import LEVELS, ratios
from splitray.study.analysis.measured import MeasuredCurves
from splitray.study.analysis.outside import exam_rows, forgetting
from splitray.study.analysis.resampling import DRAWS, LEVEL, Trajectory, trajectories
from splitray.study.analysis.slope import ratio_slope
from splitray.study.analysis.surface import Surface, fit_surface
from splitray.study.analysis.tables import StudyTable


def analyse(table: StudyTable, means: Means | None = None, draws: int = DRAWS, seed: int = 0) -> StudyAnalysis:
    """Curves, efficiency ratios and their slopes, the law's view, forgetting, exams, and advice for `means`.

    The same tables give the same analysis.

    Raises:
        UserError: rows that no study leaves.
    """
    table.check()
    of_losses = {m: trajectories(table, m, draws, seed) for m in table.measures if not m.startswith("exam/")}
    of_exams = {m: trajectories(table, m, draws, seed) for e in table.exams for m in [exam_measure(e, "nats_per_byte")]}
    everything = of_losses | of_exams
    judged = {LOSS_DOMAIN, *of_exams}  # bits per byte are losses in another unit
    found = [r for m, lines in everything.items() if m in judged for r in ratios(lines)]
    surface = fit_surface(of_losses.get(LOSS_DOMAIN, []), seed=seed) if LOSS_DOMAIN in of_losses else None
    return StudyAnalysis(
        curves=tuple(line.curve() for lines in everything.values() for line in lines),
        ratios=tuple(found),
        slopes=tuple(slopes(found)),
        surface=None if surface is None else describe(surface, of_losses[LOSS_DOMAIN]),
        forgetting=tuple(forgetting(of_losses.get(LOSS_GENERAL, []))),
        exams=tuple(exam_rows(table, draws, seed)),
        advice=None if means is None else _advice(surface, of_losses.get(LOSS_DOMAIN, []), means),
        warnings=tuple(warnings(table, found, surface)),
    )


def _advice(surface: Surface | None, found: Sequence[Trajectory], means: Means) -> Advice | None:
    """By the law's surface of own bases; without one by what was measured of given models."""
    if surface is not None:
        return advise(surface, means)
    measured = MeasuredCurves.of(found)
    if measured is None:
        return None
    known = {size for size, _ in measured.curves}
    shelf = [model for model in means.shelf if int(model.params) in known]
    if not shelf:
        return None
    # the losses before training are in the curves
    return advise(measured, replace(means, shelf=[replace(model, before=None) for model in shelf]))


def slopes(found: Sequence[EfficiencyRatio]) -> list[RatioSlope]:
    """The slope of every measure, arm and level over the own bases: given models differ in more than their size."""
    groups: dict[tuple[str, str, str], list[EfficiencyRatio]] = {}
    for row in found:
        if row.root == "own":
            groups.setdefault((row.measure, row.arm, row.named), []).append(row)
    return [ratio_slope(rows) for rows in groups.values()]


def describe(surface: Surface, found: Sequence[Trajectory]) -> SurfaceFit:
    """A surface in words and numbers: multipliers of every size at its most tokens, and their slope against N."""
    own = [t for t in found if t.model.root == "own" and t.arm != GENERAL]
    multipliers = tuple(
        ArmMultiplier(
            model=line.model.name,
            params=line.model.params,
            tokens=float(line.tokens[-1]),
            arm=line.arm,
            multiplier=Estimate.of(
                surface.multiplier(line.model.params, float(line.tokens[-1]), line.arm), LEVEL, unbounded=True
            ),
            extrapolated=False,
        )
        for line in own
    )
    constants: dict[str, float] = {}
    for place, arm in enumerate(surface.arms):
        for name, value in surface.form.unpack(surface.constants[0, place]).items():
            shared = name not in surface.form.general
            if not shared and arm == GENERAL:
                continue
            constants[name if shared else f"{name} of {arm}"] = value
    return SurfaceFit(
        measure=surface.measure,
        form=surface.form.name,
        formula=surface.form.formula,
        constants=constants,
        rows=surface.rows,
        sizes=surface.sizes,
        noise=float(np.hypot(surface.noise.size, surface.noise.row)),
        stretch=surface.reach.level,
        heldout=surface.heldout,
        multipliers=multipliers,
        slopes={arm: slope for arm in surface.arms if (slope := _slope(surface, own, arm)) is not None},
    )


def _slope(surface: Surface, own: Sequence[Trajectory], arm: str) -> Estimate | None:
    """d log multiplier / d log N between the least and the largest size, at the middle of the tokens."""
    params = sorted({line.model.params for line in own if line.arm == arm})
    if len(params) < 2:
        return None
    ends = [surface.multiplier(size, surface.middle[1], arm) for size in (params[0], params[-1])]
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = (np.log(ends[1]) - np.log(ends[0])) / np.log(params[-1] / params[0])
    if not np.isfinite(rows[0]):
        return None
    drawn = rows[1:][np.isfinite(rows[1:])]
    return Estimate.of(np.concatenate([rows[:1], drawn]), LEVEL)


def warnings(table: StudyTable, found: Sequence[EfficiencyRatio], surface: Surface | None) -> list[str]:
    """What the tables cannot show, in sentences."""
    notes = []
    seeds = {m.name: {r.seed for r in table.runs if r.model == m.name} for m in table.models}
    single = [name for name, found_seeds in seeds.items() if len(found_seeds) == 1]
    if len(single) == len(seeds):
        notes.append("Every model has one seed. Intervals have no noise of training in them.")
    elif single:
        notes.append(f"{_names(single)} has one seed. Its intervals borrow the spread of the other models' seeds.")
    bounds = [r for r in found if r.measure == LOSS_DOMAIN and r.arm == FILTERED and r.named == LEVELS[0]]
    censored = [r.model for r in bounds if not r.ratio.exact]
    if censored:
        notes.append(
            f"For {_names(censored)} the ratio of compute is a bound. "
            "An arm has the level at its first snapshot, or never."
        )
    if surface is None:
        notes.append("There are fewer than two own bases, so no law was fitted.")
    if LOSS_GENERAL not in table.measures:
        notes.append("The loss on general text was not measured, so forgetting is not known.")
    return notes


def _names(models: Sequence[str]) -> str:
    return models[0] if len(models) == 1 else f"{', '.join(models[:-1])} and {models[-1]}"
