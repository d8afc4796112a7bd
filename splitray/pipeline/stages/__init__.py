"""The stages of the main job. Each reads the records of earlier ones and leaves its own."""

from collections.abc import Callable

from splitray.pipeline.job import Job
from splitray.pipeline.stages.corpus import run_corpus
from splitray.pipeline.stages.evaluation import run_evaluation
from splitray.pipeline.stages.exams import run_exams
from splitray.pipeline.stages.ladder import run_ladder
from splitray.pipeline.stages.planning import run_law, run_plan
from splitray.pipeline.stages.production import run_base, run_specialists
from splitray.pipeline.stages.report import run_report
from splitray.pipeline.stages.search import run_search
from splitray.results.stages import STAGES, StageResult

WORK: dict[str, Callable[[Job], StageResult]] = {
    "corpus": run_corpus,
    "ladder": run_ladder,
    "law": run_law,
    "plan": run_plan,
    "search": run_search,
    "base": run_base,
    "specialists": run_specialists,
    "evaluate": run_evaluation,
    "exams": run_exams,
    "report": run_report,
}
assert tuple(WORK) == STAGES

__all__ = ["WORK"]
