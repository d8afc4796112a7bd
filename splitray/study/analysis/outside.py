"""What the domain cost elsewhere, and the exams: at the snapshot that the domain's validation text chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.results.study import GENERAL, LOSS_GENERAL, exam_measure
from splitray.results.study_analysis import ExamRow, Forgot
from splitray.study.analysis.resampling import DRAWS, LEVEL, Trajectory, by_place, difference, trajectories
from splitray.study.analysis.tables import StudyTable


def forgetting(found: Sequence[Trajectory]) -> Iterator[Forgot]:
    """General loss after less before of every line; of trajectories of `LOSS_GENERAL`."""
    places = by_place(found)
    for line in found:
        assert line.measure == LOSS_GENERAL, line.measure
        before = line.before
        if before is None:
            continue
        base = _same_snapshot(line, places.get((line.model.name, GENERAL)))
        yield Forgot(
            model=line.model.name,
            params=line.model.params,
            arm=line.arm,
            tokens=int(line.tokens[line.chosen]),
            before=float(before[0]),
            after=float(line.best()[0]),
            difference=difference(line.best(), before),
            to_general=None if base is None else difference(line.best(), base),
        )


def _same_snapshot(line: Trajectory, general: Trajectory | None) -> Array | None:
    """[1 + draws] of the general arm after as many tokens; None for that arm itself, and where it has no such one."""
    if general is None or line.arm == GENERAL:
        return None
    places = np.flatnonzero(general.tokens == line.tokens[line.chosen])
    return general.values[:, places[0]] if places.size else None


def exam_rows(table: StudyTable, draws: int = DRAWS, seed: int = 0) -> Iterator[ExamRow]:
    """Every model and arm in every exam. An exam on another subject shows the cost outside the domain."""
    for exam in table.exams:
        held = {
            name: by_place(trajectories(table, exam_measure(exam, name), draws, seed))
            for name in ("nats_per_byte", "accuracy", "margin")
        }
        for (model, arm), line in held["nats_per_byte"].items():
            accuracy, margin = (held[name].get((model, arm)) for name in ("accuracy", "margin"))
            if accuracy is None or margin is None:
                continue
            base = _same_snapshot(line, held["nats_per_byte"].get((model, GENERAL)))
            other = _same_snapshot(accuracy, held["accuracy"].get((model, GENERAL)))
            before = line.before
            yield ExamRow(
                exam=exam,
                model=model,
                params=line.model.params,
                arm=arm,
                tokens=int(line.tokens[line.chosen]),
                questions=line.questions,
                seeds=line.seeds,
                nats_per_byte=Estimate.of(line.best(), LEVEL),
                accuracy=Estimate.of(accuracy.best(), LEVEL),
                margin=Estimate.of(margin.best(), LEVEL),
                before=None if before is None else difference(line.best(), before),
                to_general=None if base is None else difference(line.best(), base),
                accuracy_to_general=None if other is None else difference(accuracy.best(), other),
            )
