"""The stages of the main job. Each reads the records of earlier ones and leaves its own."""

from collections.abc import Callable
from typing import Any

from splitray.pipeline.job import Job
from splitray.pipeline.run_folder import STAGES
from splitray.pipeline.stages.corpus import corpus
from splitray.pipeline.stages.evaluation import evaluate
from splitray.pipeline.stages.ladder import ladder
from splitray.pipeline.stages.planning import law, plan
from splitray.pipeline.stages.production import base, specialists
from splitray.pipeline.stages.report import report
from splitray.pipeline.stages.search import search

WORK: dict[str, Callable[[Job], dict[str, Any]]] = {
    made.__name__: made for made in (corpus, ladder, law, plan, search, base, specialists, evaluate, report)
}
assert tuple(WORK) == STAGES

__all__ = ["WORK"]
