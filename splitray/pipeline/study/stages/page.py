"""Stage report of a study: its page, and the record of every number on it."""

from datetime import UTC, datetime

from splitray import __version__
from splitray.pipeline.study.job import StudyJob
from splitray.pipeline.study.stages.findings import ANALYSIS, SCHEMA, table_of
from splitray.results.codec import from_json
from splitray.results.stages import ReportResult
from splitray.results.study import FILTERED, GENERAL
from splitray.results.study_analysis import ArmRegret, ForecastScore, StudyAnalysis, StudyForecast
from splitray.results.study_stages import FilterResult
from splitray.results.study_summary import ScoredForecast, StudySummary
from splitray.study.analysis.regret import regret
from splitray.study.analysis.tables import StudyTable

SUMMARY = "study.json"
_SIZES = 3  # own bases: with one of them held out the law needs two


def run_report(job: StudyJob) -> ReportResult:
    """Write the page, its figures and `study.json`."""
    from splitray.report.study_page import write

    summary = summarise(job)
    job.run.folder.write_json(SUMMARY, summary.plain())
    path = write(summary, job.run.folder)
    for name in (SUMMARY, path):
        job.run.note(name)
    return ReportResult(path)


def summarise(job: StudyJob) -> StudySummary:
    """Every number of a finished study."""
    folder, where = job.run.folder, f"{job.run.folder.uri}/{ANALYSIS}"
    record = folder.read_checksummed(ANALYSIS, SCHEMA)
    scored: tuple[ScoredForecast, ...] = ()
    if "forecast" in record:
        forecast = from_json(StudyForecast, record["forecast"], where)
        scored = (ScoredForecast(forecast, from_json(ForecastScore, record["score"], where)),)
    return StudySummary(
        name=job.config.name,
        topic=job.config.topic.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        splitray=__version__,
        analysis=from_json(StudyAnalysis, record["analysis"], where),
        filter=job.run.result(FilterResult),
        forecasts=scored,
        regrets=hold_out(table_of(job)),
        config=job.config.model_dump(mode="json"),
    )


def hold_out(table: StudyTable) -> tuple[ArmRegret, ...]:
    """Regret of the advice on the largest own base, were it not known; none with too few sizes or arms."""
    own = [m.name for m in table.models if m.root == "own" and {GENERAL, FILTERED} <= set(table.arms_of(m.name))]
    if len(own) < _SIZES:
        return ()
    return regret(table.only(own[:-1]), table.only(own[-1:]), own[-1])
