"""The stages of the main job. Each reads the records of earlier ones and leaves its own."""

from collections.abc import Callable
from typing import Any

from splitray.job import Job
from splitray.run import STAGES
from splitray.stages.corpus import corpus
from splitray.stages.evaluation import evaluate
from splitray.stages.ladder import ladder
from splitray.stages.planning import law, plan
from splitray.stages.production import base, specialists
from splitray.stages.report import report
from splitray.stages.search import search

WORK: dict[str, Callable[[Job], dict[str, Any]]] = {
    made.__name__: made for made in (corpus, ladder, law, plan, search, base, specialists, evaluate, report)
}
assert tuple(WORK) == STAGES

__all__ = ["WORK"]
