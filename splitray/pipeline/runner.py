"""The main job: corpus -> ladder -> law -> plan -> search -> base -> specialists -> evaluation -> report.

A stage that has a record is not run again. Everything trained goes through the owner of the tree, so a stage that is
run again finds its segments standing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from splitray.ladder.cost import check_before_corpus
from splitray.pipeline.job import Job
from splitray.pipeline.models import check_models
from splitray.pipeline.run_folder import STAGES
from splitray.pipeline.stages import WORK
from splitray.pipeline.stages.report import summary

_TRAINS = ("ladder", "search", "base", "specialists", "evaluate")


def go(job: Job, until: str) -> dict[str, Any]:
    """Run what is missing up to a stage; the summary of what stands then."""
    wanted = STAGES[: STAGES.index(until) + 1]
    if job.run.done("corpus") is None:
        check_models(job.config)
        if "ladder" in wanted:
            check_before_corpus(job.config)
    for stage in wanted:
        if not _stands(job, stage):
            with _counted(job, stage) as result:
                result.update(WORK[stage](job))
    return summary(job)


def _stands(job: Job, stage: str) -> bool:
    """Whether a stage is done and, for the corpus, the store still holds it: one found damaged is withdrawn."""
    record = job.run.done(stage)
    if record is None or stage != "corpus":
        return record is not None
    return job.store.find(record["result"]["key"]) is not None


@contextmanager
def _counted(job: Job, stage: str) -> Iterator[dict[str, Any]]:
    """A stage of the run, with the owner's counters in its record where it trains."""
    if stage in _TRAINS:
        job.executor.begin_stage()

    def work() -> dict[str, Any]:
        return {k: v for k, v in job.executor.progress().items() if k != "running"} if stage in _TRAINS else {}

    with job.run.stage(stage, work) as result:
        yield result
