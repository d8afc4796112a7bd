"""Warnings: every one has its place, what can change the decision comes first, and few are shown at once."""

import ast
import itertools
from pathlib import Path

import pytest

import splitray
from splitray.law import LawWarning, gravity
from splitray.law.gravity import SHOWN, folded, ordered
from splitray.law.planning.plan_warnings import _TRAITS

ROOT = Path(splitray.__file__).parent


def _codes() -> set[str]:
    """Every code that the source gives a warning, by its syntax trees."""
    found = {f"other_{trait}" for trait in _TRAITS}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
                "LawWarning",
                "_beyond",
            ):
                found |= {
                    a.value
                    for a in node.args[:3]
                    if isinstance(a, ast.Constant) and isinstance(a.value, str) and a.value.isidentifier()
                }
    return found


def _warning(code: str) -> LawWarning:
    return LawWarning(code, code, "a reason", "a cure")


def test_every_warning_of_the_source_has_one_place() -> None:
    listed = list(itertools.chain(*gravity._GROUPS))
    assert len(listed) == len(set(listed)) and _codes() == set(listed)


@pytest.mark.parametrize("given", itertools.permutations(["no_replicates", "few_sizes", "forms_disagree"]))
def test_what_moves_the_split_comes_before_what_widens_its_interval(given: tuple[str, ...]) -> None:
    """The demo's own: two sizes, one seed, and laws that would split elsewhere."""
    told = [warning.code for warning in ordered(map(_warning, given))]
    assert told == ["forms_disagree", "few_sizes", "no_replicates"]


def test_a_law_that_runs_contradict_comes_before_a_target_far_away() -> None:
    given = ["far_strategies", "far_target", "trials_contradict", "not_identified", "no_specialization"]
    told = [warning.code for warning in ordered(map(_warning, given))]
    assert told == ["no_specialization", "trials_contradict", "far_target", "not_identified", "far_strategies"]


def test_warnings_of_one_kind_and_unknown_ones_keep_their_order() -> None:
    """A plan that a later release saved may have codes that this one does not know: they are last, and not lost."""
    first, second = LawWarning("at_bound", "in a", "r", "c"), LawWarning("at_bound", "in b", "r", "c")
    told = ordered([_warning("of_tomorrow"), first, _warning("no_interval"), second])
    assert [warning.message for warning in told] == ["in a", "in b", "no_interval", "of_tomorrow"]


@pytest.mark.parametrize("count", [0, 1, SHOWN, SHOWN + 1, SHOWN + 4])
def test_no_more_than_three_are_shown_and_the_rest_is_counted(count: int) -> None:
    given = [f"warning {i}" for i in range(count)]
    told = folded(given, "elsewhere")
    assert told[:SHOWN] == given[:SHOWN]
    assert told[SHOWN:] == ([f"and {count - SHOWN} more: elsewhere"] if count > SHOWN else [])
