"""Stages sweep, lines and held-out: learning rates, then every model on every arm, the largest size last."""

import logging

from splitray.pipeline.study.job import StudyJob
from splitray.pipeline.study.measures import train_and_measure
from splitray.results.study import Answer, StudyRun, write
from splitray.results.study_stages import HeldOutResult, LinesResult, RateTrial, SweepResult

_log = logging.getLogger(__name__)

SHOWN, SHOWN_ANSWERS = "shown.parquet", "shown-answers.parquet"  # without the size that is held out
TABLE, ANSWERS = "study.parquet", "answers.parquet"


def run_sweep(job: StudyJob) -> SweepResult:
    """The best learning rate of every model by its loss on general validation text."""
    programme = job.unswept
    asked = [(base, m, request) for base in programme.bases for m, request in programme.sweep(base)]
    if not asked:
        (only,) = job.config.sweep.multipliers
        return SweepResult(None, (), {base.name: only for base in programme.bases})
    results = job.executor.leaves([request for _, _, request in asked])
    trials = []
    for (base, multiplier, _), result in zip(asked, results, strict=True):
        shares = programme.measured(base)["general"]
        loss = sum(share * result["losses"][cell]["loss"] for cell, share in shares.items())
        trials.append(RateTrial(base.name, multiplier, programme.learning_rate(base, multiplier), loss))
    chosen = {}
    for base in programme.bases:
        best = min((t for t in trials if t.model == base.name), key=lambda trial: trial.loss)
        chosen[base.name] = best.multiplier
        _log.info(f"   {base.name}: learning rate {best.learning_rate:.3g}, {best.loss:.4f} nats per token")
    return SweepResult(asked[0][2].target.tokens, tuple(trials), chosen)


def run_lines(job: StudyJob) -> LinesResult:
    """Train and measure every model on every arm; of the size that is held out, only the base before it goes on."""
    points = [*job.programme.shown(), *job.programme.begun()]
    runs, answers = train_and_measure(job, points)
    _keep(job, runs, answers, SHOWN, SHOWN_ANSWERS)
    return LinesResult(len({point.key for point in points}), len(runs))


def run_held_out(job: StudyJob) -> HeldOutResult:
    """Train and measure the size whose forecast is sealed; the tables of all models."""
    programme = job.programme
    points = [*programme.shown(), *programme.begun(), *programme.hidden()]
    runs, answers = train_and_measure(job, points)
    _keep(job, runs, answers, TABLE, ANSWERS)
    return HeldOutResult(len({point.key for point in programme.hidden()}), len(runs))


def _keep(job: StudyJob, runs: list[StudyRun], answers: list[Answer], table: str, answered: str) -> None:
    job.run.keep(table, lambda path: write(StudyRun, runs, path))
    job.run.keep(answered, lambda path: write(Answer, answers, path))
