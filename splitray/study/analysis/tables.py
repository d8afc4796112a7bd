"""The tables of a study, indexed: which models, arms, seeds and snapshots there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.results.study import ARMS, LOSS_DOMAIN, Answer, StudyRun


@dataclass(frozen=True)
class BaseModel:
    """A model before it is continued: its name, where it is from, N, and whether it was held out."""

    name: str
    root: str
    params: int
    held_out: bool


@dataclass(frozen=True)
class Cells:
    """One measure of a model on an arm: `values` [seeds, snapshots], complete.

    epochs: passes over the arm's text at each snapshot.
    """

    tokens: Array
    flops: Array
    epochs: Array
    seeds: tuple[int, ...]
    values: Array


@dataclass(frozen=True, eq=False)
class StudyTable:
    """Rows of a study as they were measured.

    Raises UserError (by `check`) for rows that no study leaves.
    """

    runs: Sequence[StudyRun]
    answers: Sequence[Answer] = ()

    def check(self) -> StudyTable:
        """Itself.

        Raises:
            UserError: a number is not finite, an arm is unknown, a row is there twice, or a model has two sizes.
        """
        seen: set[tuple[object, ...]] = set()
        sizes: dict[str, int] = {}
        for place, row in enumerate(self.runs, start=1):
            where = f"row {place} of the study's table ({row.model}, {row.arm}, seed {row.seed}, {row.tokens} tokens)"
            if row.arm not in ARMS:
                raise UserError(f"{where}: arm {row.arm!r} is none of {', '.join(ARMS)}")
            if not math.isfinite(row.value):
                raise UserError(f"{where}: {row.measure} is {row.value}: leave the row out, or measure it again")
            if row.params <= 0 or row.tokens < 0 or sizes.setdefault(row.model, row.params) != row.params:
                raise UserError(f"{where}: params and tokens must be those of one model; found {row.params} params")
            key = (row.model, row.arm, row.seed, row.tokens, row.measure)
            if key in seen:
                raise UserError(f"{where}: {row.measure} is there twice; keep one")
            seen.add(key)
        return self

    @cached_property
    def models(self) -> tuple[BaseModel, ...]:
        """The smallest first."""
        found = {r.model: BaseModel(r.model, r.root, r.params, r.held_out) for r in self.runs}
        return tuple(sorted(found.values(), key=lambda m: (m.params, m.name)))

    @cached_property
    def measures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.measure for r in self.runs))

    @cached_property
    def exams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m.split("/")[1] for m in self.measures if m.startswith("exam/")))

    @cached_property
    def arms(self) -> tuple[str, ...]:
        found = {r.arm for r in self.runs}
        return tuple(arm for arm in ARMS if arm in found)

    def arms_of(self, model: str) -> tuple[str, ...]:
        """The arms that a model has snapshots of."""
        found = {r.arm for r in self.runs if r.model == model and r.tokens}
        return tuple(arm for arm in ARMS if arm in found)

    @cached_property
    def _by_line(self) -> Mapping[tuple[str, str, str], dict[tuple[int, int], StudyRun]]:
        lines: dict[tuple[str, str, str], dict[tuple[int, int], StudyRun]] = {}
        for r in self.runs:
            lines.setdefault((r.model, r.arm, r.measure), {})[r.seed, r.tokens] = r
        return lines

    def cells(self, model: str, arm: str, measure: str) -> Cells | None:
        """A measure of a model on an arm: all seeds, and the snapshots that all of them have; None without any.

        At 0 tokens the arm does not matter: an arm without that row takes another one's.
        """
        line = dict(self._by_line.get((model, arm, measure), {}))
        for other in self.arms:
            for (seed, tokens), row in self._by_line.get((model, other, measure), {}).items():
                if tokens == 0 and any(s == seed for s, _ in line):
                    line.setdefault((seed, 0), row)
        seeds = sorted({seed for seed, _ in line})
        common = [t for t in sorted({t for _, t in line}) if all((seed, t) in line for seed in seeds)]
        if not common or common == [0]:
            return None
        held = [[line[seed, t] for t in common] for seed in seeds]
        return Cells(
            tokens=np.array(common, float),
            flops=np.array([r.flops for r in held[0]]),
            epochs=np.array([r.epochs for r in held[0]]),
            seeds=tuple(seeds),
            values=np.array([[r.value for r in rows] for rows in held]),
        )

    def chosen(self, model: str, arm: str) -> float | None:
        """Tokens of the snapshot with the least loss on the domain's validation text; never by an exam."""
        cells = self.cells(model, arm, LOSS_DOMAIN)
        if cells is None:
            return None
        trained = np.flatnonzero(cells.tokens)
        return float(cells.tokens[trained[np.argmin(cells.values.mean(axis=0)[trained])]])

    @cached_property
    def _answers(self) -> Mapping[tuple[str, str, str], list[Answer]]:
        found: dict[tuple[str, str, str], list[Answer]] = {}
        for a in self.answers:
            found.setdefault((a.model, a.arm, a.exam), []).append(a)
        return found

    def answered(self, model: str, arm: str, exam: str, name: str) -> tuple[Cells, Array] | None:
        """Answers of one model on an arm: their cells, and [seeds, snapshots, questions]; None without answers.

        name: field of `Answer`. Questions that a snapshot lacks are left out, and snapshots that a seed lacks.
        """
        cells = self.cells(model, arm, f"exam/{exam}/{'accuracy' if name == 'correct' else name}")
        held = {(a.seed, a.tokens, a.question): float(getattr(a, name)) for a in self._all(model, arm, exam)}
        if cells is None or not held:
            return None
        asked = [{q for s, t, q in held if (s, t) == (seed, tokens)} for seed in cells.seeds for tokens in cells.tokens]
        common = sorted(set.intersection(*asked))
        if not common:
            return None
        values = [[[held[s, int(t), q] for q in common] for t in cells.tokens] for s in cells.seeds]
        return cells, np.array(values)

    def _all(self, model: str, arm: str, exam: str) -> Iterator[Answer]:
        yield from self._answers.get((model, arm, exam), ())
        for other in self.arms:  # at 0 tokens the arm does not matter
            if other != arm:
                yield from (a for a in self._answers.get((model, other, exam), ()) if a.tokens == 0)

    def only(self, models: Iterable[str]) -> StudyTable:
        """The rows of some models."""
        kept = set(models)
        return StudyTable(
            [r for r in self.runs if r.model in kept],
            [a for a in self.answers if a.model in kept],
        )

    def without(self, model: str) -> StudyTable:
        return self.only(m.name for m in self.models if m.name != model)
