"""What finished models were measured to have, as rows of the study's tables."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from splitray.errors import CorruptError
from splitray.evaluate.compare import LN2
from splitray.evaluate.exams.answers import answers_key, choices_of
from splitray.evaluate.exams.scoring import ExamScores, grade
from splitray.evaluate.loss import validation_key
from splitray.evaluate.measure import loss_key
from splitray.pipeline.study.job import StudyJob
from splitray.pipeline.study.programme import Point
from splitray.results.study import Answer, StudyRun, exam_measure


def train_and_measure(job: StudyJob, points: Sequence[Point]) -> tuple[list[StudyRun], list[Answer]]:
    """Have points trained, scored and examined; their rows. What the store has is not done again."""
    by_key = {point.key: point for point in points}
    unexamined = [key for key, point in by_key.items() if not _examined(job, point)]
    lost = {key for key in unexamined if job.store.find(key) is None}  # a prune may have left the losses alone
    if lacking := [point for key, point in by_key.items() if key in lost or not _scored(job, point)]:
        job.executor.leaves([point.request for point in lacking])
    if unexamined:
        job.executor.answers(unexamined, [exam for exam, _ in job.exams])
    return rows_of(job, points)


def _scored(job: StudyJob, point: Point) -> bool:
    """Whether the store has every loss of a point."""
    key = validation_key(job.opened[point.base.tokenizer], job.config.measure.validation_tokens)
    return all(job.store.find(loss_key(point.key, key, cell)) is not None for cell in point.request.domains)


def _examined(job: StudyJob, point: Point) -> bool:
    """Whether the store has every answer of a point."""
    corpus = job.opened[point.base.tokenizer]
    return all(job.store.find(answers_key(point.key, corpus, exam)) is not None for exam, _ in job.exams)


def rows_of(job: StudyJob, points: Sequence[Point]) -> tuple[list[StudyRun], list[Answer]]:
    """The rows of points that stand in the store."""
    measures, graded = dict[str, dict[str, float]](), dict[str, dict[str, ExamScores]]()
    runs, answers = list[StudyRun](), list[Answer]()
    for point in points:
        if point.key not in measures:  # arms share the model that they start from
            measures[point.key] = losses_of(job, point)
            graded[point.key] = _graded(job, point)
        values = dict(measures[point.key])
        for exam, scores in graded[point.key].items():
            values |= {
                exam_measure(exam, name): float(getattr(scores, name).mean())
                for name in ("nats_per_byte", "accuracy", "margin")
            }
            answers += _answers(point, exam, scores)
        runs += _runs(job, point, values)
    return runs, answers


def _runs(job: StudyJob, point: Point, values: Mapping[str, float]) -> Iterator[StudyRun]:
    programme, base = job.programme, point.base
    params = programme.size(base).params
    spent = programme.flops(params, point.tokens)
    epochs = programme.epochs(base, point.arm, point.tokens)
    assert spent is not None and epochs is not None, point
    for name, value in values.items():
        yield StudyRun(
            model=base.name,
            root=base.root,
            params=params,
            arm=point.arm,
            seed=point.seed,
            tokens=point.tokens,
            flops=spent,
            learning_rate=programme.learning_rate(base),
            epochs=epochs,
            measure=name,
            value=value,
            held_out=base.held_out,
        )


def losses_of(job: StudyJob, point: Point) -> dict[str, float]:
    """Losses of a point: nats per token and bits per byte of the domain's text, and of all text.

    Means over the cells of the corpus by their shares of its tokens, so both are what one would read of unlimited
    validation text.
    """
    corpus, found = job.opened[point.base.tokenizer], dict[str, float]()
    key = validation_key(corpus, job.config.measure.validation_tokens)
    for name, shares in job.programme.measured(point.base).items():
        nats = size = 0.0
        for cell, share in shares.items():
            held = job.store.find(loss_key(point.key, key, cell))
            if held is None:
                raise CorruptError(f"the store {job.store.root.uri} holds no loss of {point.key} on {cell}")
            tokens = float(held.recorded("tokens"))
            nats += share * float(held.recorded("nats")) / tokens
            size += share * float(held.recorded("bytes")) / tokens
        found[f"loss/{name}"], found[f"bits/{name}"] = nats, nats / size / LN2
    return found


def _graded(job: StudyJob, point: Point) -> dict[str, ExamScores]:
    corpus = job.opened[point.base.tokenizer]
    return {exam.name: grade(exam, choices_of(job.store, corpus, point.key, exam)) for exam, _ in job.exams}


def _answers(point: Point, exam: str, scores: ExamScores) -> Iterator[Answer]:
    rows = zip(scores.nats_per_byte, scores.margin, scores.accuracy, strict=True)
    for question, (per_byte, margin, correct) in enumerate(rows):
        yield Answer(
            model=point.base.name,
            arm=point.arm,
            seed=point.seed,
            tokens=point.tokens,
            exam=exam,
            question=question,
            nats_per_byte=float(per_byte),
            margin=float(margin),
            correct=float(correct),
        )


def mean_at_start(runs: Sequence[StudyRun], model: str, measure: str) -> float | None:
    """Mean over seeds of a measure of a model before it is continued; None where it was not measured."""
    values = {run.seed: run.value for run in runs if (run.model, run.tokens, run.measure) == (model, 0, measure)}
    return float(np.mean(list(values.values()))) if values else None
