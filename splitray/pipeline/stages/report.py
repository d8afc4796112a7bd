"""Stage report: the page that shows every number of the run."""

from splitray import law as laws
from splitray.pipeline.job import Job
from splitray.pipeline.summary import summarise
from splitray.results.stages import ReportResult


def run_report(job: Job) -> ReportResult:
    """Write the page and its figures."""
    from splitray.report import write

    summary = summarise(job)
    law = job.run.kept("law_final.json", laws.Law.load)
    plan = job.run.kept("plan_final.json", laws.Plan.load)
    path = write(summary, law, plan, job.corpus, job.run.folder)
    for name in ("summary.json", path):
        job.run.note(name)
    return ReportResult(path)
