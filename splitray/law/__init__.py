"""The law L(N, D, D') and the plan drawn from it: numpy, scipy and pyarrow only, no Ray."""

from typing import TYPE_CHECKING, Any

from splitray.law.law import HeldOut, Law, LawWarning

if TYPE_CHECKING:
    from splitray.law.fitting.fit import fit
    from splitray.law.planning.plan import Plan
    from splitray.law.planning.planner import plan

__all__ = ["HeldOut", "Law", "LawWarning", "Plan", "fit", "plan"]

_LAZY = {
    "fit": "splitray.law.fitting.fit",
    "plan": "splitray.law.planning.planner",
    "Plan": "splitray.law.planning.plan",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value  # the submodules `fit` and `plan` would otherwise hide the functions of that name
    return value
