"""The stages of a study. Each reads the records of earlier ones and leaves its own."""

from collections.abc import Callable

from splitray.pipeline.study.job import StudyJob
from splitray.pipeline.study.stages.filtering import run_corpora, run_filter
from splitray.pipeline.study.stages.findings import run_analysis, run_forecast
from splitray.pipeline.study.stages.page import run_report
from splitray.pipeline.study.stages.training import run_held_out, run_lines, run_sweep
from splitray.results.stages import STUDY_STAGES, StageResult

WORK: dict[str, Callable[[StudyJob], StageResult]] = {
    "filter": run_filter,
    "corpora": run_corpora,
    "sweep": run_sweep,
    "lines": run_lines,
    "forecast": run_forecast,
    "held-out": run_held_out,
    "analysis": run_analysis,
    "report": run_report,
}
assert tuple(WORK) == STUDY_STAGES

__all__ = ["WORK"]
