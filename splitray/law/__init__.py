"""The law L(N, D, D') and the plan drawn from it: numpy, scipy and pyarrow only, no Ray."""

import importlib
from typing import TYPE_CHECKING, Any

from splitray.law.law import HeldOut, Law, LawWarning

if TYPE_CHECKING:
    from splitray.law.fitting.fit import fit
    from splitray.law.planning.hours import HoursPlan, Speed, plan_for_hours
    from splitray.law.planning.next_run import next_run
    from splitray.law.planning.plan import Plan
    from splitray.law.planning.planner import answer, plan
    from splitray.law.planning.question import Limits, Question
    from splitray.law.planning.size import plan_for_flops
    from splitray.law.runs import read_runs

__all__ = [
    "HeldOut",
    "HoursPlan",
    "Law",
    "LawWarning",
    "Limits",
    "Plan",
    "Question",
    "Speed",
    "answer",
    "fit",
    "next_run",
    "plan",
    "plan_for_flops",
    "plan_for_hours",
    "read_runs",
]

_LAZY = {
    "HoursPlan": "planning.hours",
    "Limits": "planning.question",
    "Plan": "planning.plan",
    "Question": "planning.question",
    "Speed": "planning.hours",
    "answer": "planning.planner",
    "fit": "fitting.fit",
    "next_run": "planning.next_run",
    "plan": "planning.planner",
    "plan_for_flops": "planning.size",
    "plan_for_hours": "planning.hours",
    "read_runs": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
