"""Curves of a measure, and what resampling of seeds and questions makes of them.

All arms of a model share their seeds, so that a draw takes the same seeds for all of them: differences of arms are
paired. Questions of an exam are drawn once for all models, arms, seeds and snapshots.

Three seeds of one size give no interval of use: they have ten different resamples. So what seeds deviate by is pooled
over all models of a root, each whole (all arms, all snapshots), and drawn with a random sign (wild bootstrap: Liu
1988). A model with one seed gets an interval that way too. Deviations of n seeds are widened by sqrt(n / (n - 1)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.results.study import LOSSES
from splitray.results.study_analysis import CurvePoint, StudyCurve
from splitray.study.analysis.tables import BaseModel, Cells, StudyTable

DRAWS = 400
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A measure of one model on one arm: `values` [1 + draws, snapshots], the mean over seeds first.

    draws is 0 where nothing can be resampled. chosen: place of the snapshot that validation text chose.
    """

    model: BaseModel
    arm: str
    measure: str
    tokens: Array
    flops: Array
    epochs: Array
    seeds: int
    questions: int
    values: Array
    chosen: int

    @property
    def trained(self) -> slice:
        """The snapshots after the model as it was."""
        return slice(int(self.tokens[0] == 0), None)

    @property
    def before(self) -> Array | None:
        """[1 + draws] of the model as it was; None where that was not measured."""
        return self.values[:, 0] if self.tokens[0] == 0 else None

    def best(self) -> Array:
        """[1 + draws] at the chosen snapshot."""
        return self.values[:, self.chosen]

    def curve(self) -> StudyCurve:
        points = tuple(
            CurvePoint(int(t), float(f), float(e), Estimate.of(self.values[:, i], LEVEL), self.seeds)
            for i, (t, f, e) in enumerate(zip(self.tokens, self.flops, self.epochs, strict=True))
        )
        m = self.model
        return StudyCurve(m.name, m.root, m.params, self.arm, self.measure, m.held_out, points, self.chosen)


def trajectories(table: StudyTable, measure: str, draws: int = DRAWS, seed: int = 0) -> list[Trajectory]:
    """A measure of every model and arm, the smallest model first; the same draws for the same arguments."""
    if measure.startswith("exam/") and table.answers:
        found = _of_answers(table, measure, draws, seed)
        if found:
            return found
    cells = _cells(table, measure)
    return [
        _trajectory(table, model, arm, measure, held, noise)
        for model, arm, held, noise in _with_noise(cells, measure, draws, seed)
    ]


_Place = tuple[BaseModel, str]


def _cells(table: StudyTable, measure: str) -> dict[_Place, Cells]:
    found = ((m, arm, table.cells(m.name, arm, measure)) for m in table.models for arm in table.arms_of(m.name))
    return {(model, arm): held for model, arm, held in found if held is not None}


def _trajectory(
    table: StudyTable, model: BaseModel, arm: str, measure: str, cells: Cells, noise: Array | None
) -> Trajectory:
    mean = cells.values.mean(axis=0)
    values = mean[None] if noise is None else np.concatenate([mean[None], mean + noise])
    best = table.chosen(model.name, arm)
    places = np.flatnonzero(cells.tokens == best) if best is not None else np.array([], int)
    chosen = int(places[0]) if places.size else cells.tokens.size - 1
    tokens, flops, epochs = cells.tokens, cells.flops, cells.epochs
    return Trajectory(model, arm, measure, tokens, flops, epochs, len(cells.seeds), 0, values, chosen)


def _with_noise(
    cells: Mapping[_Place, Cells], measure: str, draws: int, seed: int
) -> list[tuple[BaseModel, str, Cells, Array | None]]:
    """Each line with what its mean over seeds may be off by, [draws, snapshots]; None where no model has two seeds."""
    relative = measure in LOSSES or measure.startswith("bits/")  # of exams a margin may be 0
    donors = _donors(cells, relative)
    result: list[tuple[BaseModel, str, Cells, Array | None]] = []
    for place, model in enumerate(dict.fromkeys(m for m, _ in cells)):
        mine = [d for d in donors if d.root == model.root] or donors
        random = np.random.default_rng([seed, place])
        seeds = max(len(c.seeds) for (m, _), c in cells.items() if m == model)
        picks = random.integers(len(mine), size=(draws, seeds)) if mine else None
        signs = random.choice([-1.0, 1.0], size=(draws, seeds))
        for (owner, arm), held in cells.items():
            if owner != model:
                continue
            if picks is None:
                result.append((model, arm, held, None))
                continue
            own = len(held.seeds)
            devs = np.stack([d.at(arm, held.tokens.size) for d in mine])  # [donors, snapshots]
            noise = (devs[picks[:, :own]] * signs[:, :own, None]).mean(axis=1)
            if held.tokens[0] == 0 and (model.root == "given" or np.ptp(held.values[:, 0]) == 0 < own - 1):
                noise[:, 0] = 0.0  # the model as it was is one, whatever the seed
            result.append((model, arm, held, noise * held.values.mean(axis=0) if relative else noise))
    return result


@dataclass(frozen=True)
class _Donor:
    """What one seed of a model deviates by from the mean over its seeds, by arm [snapshots]."""

    root: str
    by_arm: Mapping[str, Array]

    def at(self, arm: str, snapshots: int) -> Array:
        """Of the snapshots of the same rank; of another arm where this one is not there."""
        held = self.by_arm.get(arm, next(iter(self.by_arm.values())))
        ranks = np.round(np.linspace(0, held.size - 1, snapshots)).astype(int)
        return np.asarray(held[ranks])


def _donors(cells: Mapping[_Place, Cells], relative: bool) -> list[_Donor]:
    donors = []
    for model in dict.fromkeys(m for m, _ in cells):
        by_seed: dict[int, dict[str, Array]] = {}
        for (owner, arm), held in cells.items():
            count = len(held.seeds)
            if owner != model or count < 2:
                continue
            mean = held.values.mean(axis=0)
            off = (held.values - mean) * np.sqrt(count / (count - 1)) / (mean if relative else 1.0)
            for seed, row in zip(held.seeds, off, strict=True):
                by_seed.setdefault(seed, {})[arm] = row
        donors += [_Donor(model.root, by_arm) for by_arm in by_seed.values()]
    return donors


_FIELDS = {"nats_per_byte": "nats_per_byte", "accuracy": "correct", "margin": "margin"}


def _of_answers(table: StudyTable, measure: str, draws: int, seed: int) -> list[Trajectory]:
    """Curves of an exam from its answers: questions and seeds are drawn."""
    _, exam, name = measure.split("/")
    held: dict[_Place, tuple[Cells, Array]] = {}
    for model in table.models:
        for arm in table.arms_of(model.name):
            if found := table.answered(model.name, arm, exam, _FIELDS[name]):
                held[model, arm] = found
    cells = {
        place: replace(line, values=answers.mean(axis=2)) for place, (line, answers) in held.items()
    }  # of the questions that all snapshots have
    noise = {(m, arm): n for m, arm, _, n in _with_noise(cells, measure, draws, seed)}
    result = []
    weights: dict[int, Array] = {}
    for (model, arm), (_, answers) in held.items():
        count = answers.shape[2]
        if count not in weights:
            random = np.random.default_rng([seed, count])
            weights[count] = random.multinomial(count, np.full(count, 1 / count), size=draws) / count
        mean = answers.mean(axis=0)  # [snapshots, questions]
        over_questions = weights[count] @ mean.T - mean.mean(axis=1)
        over_seeds = noise[model, arm]
        both = over_questions if over_seeds is None else over_questions + over_seeds
        made = _trajectory(table, model, arm, measure, cells[model, arm], both)
        result.append(replace(made, questions=count))
    return result


def difference(ours: Array, other: Array) -> Estimate:
    """[1 + draws] less [1 + draws] of the same resamples, with its 95 % interval."""
    count = min(ours.size, other.size)
    return Estimate.of(ours[:count] - other[:count], LEVEL)


def by_place(found: Sequence[Trajectory]) -> dict[tuple[str, str], Trajectory]:
    """Trajectories by model and arm."""
    return {(t.model.name, t.arm): t for t in found}
