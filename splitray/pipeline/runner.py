"""The main job: corpus -> ladder -> law -> plan -> search -> base -> specialists -> evaluation -> report.

A stage that has a record is not run again. Everything trained goes through the owner of the tree, so a stage that is
run again finds its segments standing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from splitray.config import Config
from splitray.errors import StageError
from splitray.executor.gpu import check_gpus
from splitray.pipeline.exams import asked_exams, stands
from splitray.pipeline.job import Job
from splitray.pipeline.models import check_models
from splitray.pipeline.passport import write_passports
from splitray.pipeline.programme import Programme
from splitray.pipeline.run_folder import RecordGone
from splitray.pipeline.session import Session
from splitray.pipeline.stages import WORK
from splitray.pipeline.summary import summarise
from splitray.pipeline.verify import models_of
from splitray.results.codec import to_json
from splitray.results.stages import BaseResult, CorpusResult, StageResult, Work
from splitray.results.summary import Summary

_log = logging.getLogger(__name__)

_MUCH = 0.01  # a budget that rounding raises by more than this share is warned of
_CATCH_UPS = 3  # times that stages are done again whose records another start of the run has taken away
_TRAINS = ("ladder", "search", "base", "specialists", "evaluate")


def go(job: Job, until: str) -> Summary:
    """Run what is missing up to a stage; the summary of what stands then."""
    wanted = job.run.stages(until)
    if "exams" in wanted:
        asked_exams(job.config)
    if (rounded := budget_in_whole_batches(job.config)) is not None:
        _log.log(*rounded)
    if any(stage in _TRAINS and job.run.done(stage) is None for stage in wanted):
        check_gpus(job.config.resources)
    if job.run.done("corpus") is None:
        check_models(job.config)
        if "ladder" in wanted:
            _check_before_corpus(job.config)
    try:
        summary = _catch_up(job, wanted)
    except BaseException:
        job.ledger.end("failed")
        raise
    job.ledger.end("done")
    _write_passports(job)
    return summary


def _write_passports(job: Job) -> None:
    """The cards of the models that stand; of none before stage base."""
    records = {stage: record for stage in job.run.stages() if (record := job.run.done(stage)) is not None}
    if models := models_of(records):
        write_passports(job.run.folder, models)


def _catch_up(job: Job, wanted: Sequence[str]) -> Summary:
    """Do the stages that have no record, in their order; the summary of what stands then."""
    for left in range(_CATCH_UPS, -1, -1):
        try:
            for stage in wanted:
                if not _stands(job, stage):
                    _carry_out(job, stage)
            return summarise(job)
        except RecordGone as error:
            if not left:
                raise StageError(f"{error}: start again, and the stage is done from what the store has") from error
            _log.warning("%s; the stage is done again", error)
    raise AssertionError("unreachable")


def _check_before_corpus(config: Config) -> None:
    """Refuse a ladder that costs too much before hours go into its corpus.

    A tokenizer that is not trained here has a vocabulary that is not known yet: its ladder is checked later.
    """
    if config.corpus.tokenizer.source == "bpe":
        Programme.unbuilt(config).check_ladder()


def budget_in_whole_batches(config: Config) -> tuple[int, str] | None:
    """What is said of a budget that is no whole number of batches for every domain: level and sentence."""
    domains, batch, budget = config.corpus.domains, config.training.batch_tokens, Programme.unbuilt(config).budget
    if budget == config.budget:
        return None
    change = budget - config.budget
    level = logging.WARNING if change > _MUCH * config.budget else logging.INFO
    return level, (
        f"budget: {budget:,} tokens are trained. The {config.budget:,} given are {abs(change):,} "
        f"{'fewer' if change > 0 else 'more'}: every one of {domains} domains gets whole batches of {batch:,} tokens"
    )


def _stands(job: Job, stage: str) -> bool:
    """Whether a stage is done and what it left is still of use.

    For the corpus, the store must still hold it: one found damaged is withdrawn.
    """
    if not stands(job.run, stage):
        return False
    record = job.run.done(stage)
    match record.result if record is not None else None:
        case None:
            return False
        case CorpusResult(key=key):
            return job.store.find(key) is not None
        case BaseResult(path="base"):  # of the first release: its trunk lies where the finished base will be
            return job.run.done("evaluate") is not None
        case _:
            return True


def _carry_out(job: Job, stage: str) -> None:
    """A stage of the run, with the coordinator's counters in its record where it trains."""
    if stage in _TRAINS:
        job.check_precision()
        if stage != "evaluate":
            job.check_room()
    carry_out(job, stage, lambda: WORK[stage](job), stage in _TRAINS)


def carry_out(job: Session[Any], stage: str, make: Callable[[], StageResult], trains: bool) -> None:
    """A stage of any job, with the coordinator's counters in its record where it trains."""
    if trains:
        job.executor.begin_stage()

    def work() -> Work | None:
        if not trains:
            return None
        counters = job.executor.progress()
        job.ledger.see(counters)
        return Work(**{counter.name: counters[counter.name] for counter in fields(Work)})

    job.ledger.begin(stage)
    try:
        job.run.carry_out(stage, make, work)
    finally:
        job.look()
        job.run.event("spending", **to_json(job.ledger.end_stage()))
