"""A study from its start to its end: filter -> corpora -> sweep -> lines -> forecast -> held-out -> analysis -> report.

A stage that has a record is not run again. Everything trained goes through the owner of the tree, so a stage that is
run again finds its segments standing.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from splitray.corpus.tokenizer import load_tokenizer
from splitray.executor.gpu import check_gpus
from splitray.pipeline.models import check_tokenizer
from splitray.pipeline.runner import carry_out
from splitray.pipeline.start import Watch, token_asked_for
from splitray.pipeline.study.job import StudyFolder, StudyJob
from splitray.pipeline.study.programme import tokenizer_of
from splitray.pipeline.study.settings import StudyConfig
from splitray.results.stages import StageResult
from splitray.results.study_stages import CorporaResult
from splitray.storage.redact import without_query
from splitray.storage.store import Store
from splitray.training.check import check_model
from splitray.training.settings import ModelShape

_log = logging.getLogger(__name__)

_TRAINS = ("sweep", "lines", "held-out")


def start(run: StudyFolder, store: str, until: str, watch: Watch) -> None:
    """Do what a study still lacks up to a stage; arguments as of `splitray.pipeline.start.start`."""
    _log.info("run folder %s, store %s", run.folder.uri, without_query(store))
    if all(run.done(stage) is not None for stage in run.stages(until)):
        _log.info("every stage up to %s is done: nothing to train", until)
        return
    with token_asked_for():
        from splitray.executor.connect import connected
        from splitray.pipeline.alerts import alerted
        from splitray.pipeline.metering import metered

        with alerted(run), connected():
            job = StudyJob(run, Store(store))
            try:
                with metered(job):
                    watch(lambda: go(job, until), job.stop)
            finally:
                run.flush()


def go(job: StudyJob, until: str) -> None:
    """Run what is missing up to a stage."""
    from splitray.pipeline.study.stages import WORK

    wanted = job.run.stages(until)
    if any(stage in _TRAINS and job.run.done(stage) is None for stage in wanted):
        check_gpus(job.config.resources)
    if job.run.done("corpora") is None:
        check(job.config)
        asked = sum(len(exam.questions) for exam, _ in job.exams)  # reads them, before anything is paid for
        _log.info("%d exams with %d questions", len(job.exams), asked)
    try:
        for stage in wanted:
            if not _stands(job, stage):
                carry_out(job, stage, _bound(WORK[stage], job), stage in _TRAINS)
    except BaseException:
        job.ledger.end("failed")
        raise
    job.ledger.end("done")


def _bound(work: Callable[[StudyJob], StageResult], job: StudyJob) -> Callable[[], StageResult]:
    return lambda: work(job)


def _stands(job: StudyJob, stage: str) -> bool:
    """Whether a stage is done, and what it left is there: for the corpora, the store must hold them still."""
    record = job.run.done(stage)
    if record is not None and isinstance(record.result, CorporaResult):
        return all(job.store.find(corpus.key) is not None for corpus in record.result.corpora)
    return record is not None


def check(config: StudyConfig) -> None:
    """Look at every model and at the tokenizers of the given ones, before anything is paid for.

    Raises:
        UserError: with the field to change.
    """
    for shape in config.own.shapes if config.own is not None else []:
        check_model(shape, config.training)
    for given in config.given:
        rows = check_model(ModelShape(path=given.path), config.training)
        tokenizer = tokenizer_of(given.path, given.tokenizer)
        assert rows is not None, given
        check_tokenizer(load_tokenizer(tokenizer), tokenizer, rows, str(Path(given.path)))
