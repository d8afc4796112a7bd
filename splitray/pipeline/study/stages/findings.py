"""Stages forecast and analysis: what the law says of the size that is held out, and what the study found."""

import hashlib
import logging

from splitray.pipeline.study.job import StudyJob
from splitray.pipeline.study.measures import mean_at_start
from splitray.pipeline.study.stages.training import ANSWERS, SHOWN, TABLE
from splitray.results.codec import to_json
from splitray.results.study import FILTERED, LOSS_DOMAIN, Answer, StudyRun, read
from splitray.results.study_analysis import ForecastScore, StudyAnalysis, StudyForecast
from splitray.results.study_stages import AnalysisResult, SealedResult
from splitray.storage.checksum import Schema
from splitray.storage.folder import Folder
from splitray.study.analysis.advice import Means, ShelfModel
from splitray.study.analysis.analyse import analyse
from splitray.study.analysis.foresight import forecast, score
from splitray.study.analysis.tables import StudyTable

_log = logging.getLogger(__name__)

FORECAST, ANALYSIS = "forecast.json", "analysis.json"
SCHEMA = Schema("studyanalysis", 1, unnamed=None)


def run_forecast(job: StudyJob) -> SealedResult:
    """Seal what the law of the other sizes says of the one that is held out, before it is continued.

    A forecast that an earlier start has sealed stays, whatever is known by now.
    """
    hidden = job.programme.hidden()
    if not hidden:
        return SealedResult(None, None)
    if not job.run.folder.exists(FORECAST):
        base = hidden[0].base
        runs = job.run.kept(SHOWN, lambda path: read(StudyRun, path))
        known = StudyTable(runs).without(base.name)
        before = mean_at_start(runs, base.name, LOSS_DOMAIN)
        made = forecast(known, job.programme.size(base).params, base.tokens, base.arms, before)
        standing = sum(job.store.find(point.key) is not None for point in hidden)
        if standing:
            _log.warning(
                "the store holds %d of the %d models that are forecast: an earlier study has trained them, so this "
                "forecast is not blind",
                standing,
                len(hidden),
            )
        job.run.folder.write_json(FORECAST, made.plain())
    sealed = read_forecast(job.run.folder)
    job.run.note(FORECAST)
    seal = hashlib.sha256(job.run.folder.read(FORECAST)).hexdigest()
    _log.info("   sealed %s as %s, SHA-256 %s", sealed.made, FORECAST, seal[:16])
    return SealedResult(FORECAST, seal)


def read_forecast(folder: Folder) -> StudyForecast:
    """The sealed forecast of a run folder."""
    return StudyForecast.parse(folder.read_json(FORECAST), f"{folder.uri}/{FORECAST}")


def table_of(job: StudyJob) -> StudyTable:
    """All that was measured."""
    runs = job.run.kept(TABLE, lambda path: read(StudyRun, path))
    answers = job.run.kept(ANSWERS, lambda path: read(Answer, path))
    return StudyTable(runs, answers)


def analysis_of(job: StudyJob) -> tuple[StudyAnalysis, tuple[StudyForecast, ForecastScore] | None]:
    """What a study found, with the score of the sealed forecast where there is one."""
    table = table_of(job)
    found = analyse(table, means_of(job, table), seed=job.config.seed)
    if job.run.result(SealedResult).path is None:
        return found, None
    sealed = read_forecast(job.run.folder)
    return found, (sealed, score(sealed, table))


def means_of(job: StudyJob, table: StudyTable) -> Means:
    """What the advice is for: the compute that the settings name, and the study's own models on the shelf."""
    programme, asked = job.programme, job.config.advice
    own = [base for base in programme.bases if base.root == "own"] or list(programme.bases)
    largest = max(own, key=lambda base: programme.size(base).params)
    spent = programme.flops(programme.size(largest).params, max(largest.tokens))
    assert spent is not None
    cells = programme.cells(largest, FILTERED)
    held = sum((programme.corpora[largest.tokenizer].train_tokens or {}).get(cell, 0) for cell in cells)
    shelf = [
        ShelfModel(base.name, programme.size(base).params, mean_at_start(table.runs, base.name, LOSS_DOMAIN))
        for base in own
    ]
    return Means(asked.flops or spent, shelf, asked.topic_tokens or held, 1 - job.config.replay_share)


def run_analysis(job: StudyJob) -> AnalysisResult:
    """Everything that the tables say, in one file."""
    found, scored = analysis_of(job)
    for warning in found.warnings:
        _log.warning("%s", warning)
    record = {"analysis": to_json(found)}
    if scored is not None:
        record |= {"forecast": to_json(scored[0]), "score": to_json(scored[1])}
    job.run.folder.write_checksummed(ANALYSIS, record, SCHEMA)
    job.run.note(ANALYSIS)
    return AnalysisResult(ANALYSIS)
