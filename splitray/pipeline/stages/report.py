"""Stage report: every number of the run in one summary, and the page that shows them."""

import contextlib
from typing import Any

from splitray import law as laws
from splitray.errors import CorruptError
from splitray.executor.connect import machine
from splitray.pipeline.job import Job
from splitray.pipeline.run_folder import STAGES
from splitray.pipeline.summary import summarise


def report(job: Job) -> dict[str, Any]:
    """Write the page and its figures."""
    from splitray.report import write

    made = summary(job)
    law = job.run.kept("law_final.json", laws.Law.load)
    plan = job.run.kept("plan_final.json", laws.Plan.load)
    path = write(made, law, plan, job.corpus, job.run.folder)
    for name in ("summary.json", path):
        job.run.note(name)
    return {"path": path}


def summary(job: Job) -> dict[str, Any]:
    """Every number of the run so far; also written as `summary.json`, when a stage has ended since it was."""
    name = "summary.json"
    records = {stage: job.run.done(stage) for stage in STAGES}
    last = max((r["began"] + r["seconds"] for s, r in records.items() if r and s != "report"), default=0.0)
    with contextlib.suppress(FileNotFoundError, CorruptError):
        before = job.run.folder.read_checksummed(name)
        if before["as_of"] == last:
            return before
    facts = {
        "as_of": last,
        "machine": machine(),
        "precision": job.precision,
        "budget": job.budget,
        "law": job.law if records["law"] else None,
        "table": job.table.to_pylist() if records["ladder"] else None,
    }
    stand = {s: r for s, r in records.items() if r is not None}
    made = summarise(job.config, stand, job.corpus, job.weights, facts)
    job.run.folder.write_checksummed(name, made)
    return made
