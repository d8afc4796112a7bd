"""What the main job tells the planner: how much text there is, and the weights of its domains."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from splitray import law as laws
from splitray.config import Config
from splitray.law import Law
from splitray.law.gravity import ordered
from splitray.pipeline import stages
from splitray.pipeline.job import Job
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.stages import planning
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.model import size
from splitray.training.settings import ModelShape, TrainingSettings
from tests.support.configs import PLAIN

BUDGET = 240_000_000_000
BIG = {"hidden": 2048, "layers": 26}
PARAMS = size(ModelShape(**BIG), 300, TrainingSettings()).params  # 1.3e9
# Without a mixture penalty that D removes: its optimum is to split early, so that little text binds.
GAP = {"E": 1.6, "A": 400.0, "alpha": 0.34, "B": 700.0, "beta": 0.33, "c": 0.0, "rho": 0.5}
GAP |= {"G": 0.25, "tau": 2e7, "r": 0.1, "gamma": 0.25}
LAW = Law.known("mixture_gap", {name: GAP | {"G": gap} for name, gap in (("a", 0.2), ("b", 0.3))})


def programme(tokens: dict[str, int], **settings: Any) -> Programme:
    """The programme of a run whose corpus has these training tokens by domain."""
    config = Config(**PLAIN | {"corpus": PLAIN["corpus"] | {"domains": len(tokens)}, "budget": BUDGET} | settings)
    return Programme(config, CorpusFacts("c", 300, 0, tuple(tokens), tokens), "fp32")


def plan_of(tokens: dict[str, int], law: Law = LAW, **settings: Any) -> laws.Plan:
    """The plan for a model of 1.3e9 parameters."""
    return planning.planned(programme(tokens, model=BIG, **settings), law)


def codes(plan: laws.Plan) -> list[str]:
    return [warning.code for warning in plan.warnings]


PLENTY = {"a": BUDGET, "b": 3 * BUDGET, "c": 2 * BUDGET}
FREE = laws.plan(LAW, params=PARAMS, budget=BUDGET, domains=3)


def test_stages_are_modules() -> None:
    """No function of the package hides the module of its name."""
    for name in ("corpus", "ladder", "search", "report", "evaluation", "planning", "production"):
        module = importlib.import_module(f"splitray.pipeline.stages.{name}")
        assert getattr(stages, name) is module and isinstance(module, ModuleType)


def test_where_text_suffices_the_plan_is_the_unlimited_one() -> None:
    plan = plan_of(PLENTY)
    assert 0 < plan.split_fraction.value < 1
    assert (plan.split_fraction, plan.predicted_loss) == (FREE.split_fraction, FREE.predicted_loss)
    assert plan.epochs == pytest.approx(FREE.specialize_tokens.value / PLENTY["a"])
    assert plan.warnings == FREE.warnings


@pytest.mark.parametrize("epochs", [1.0, 4.0])
def test_the_smallest_domain_is_read_no_more_often_than_allowed(epochs: float) -> None:
    little = int(FREE.specialize_tokens.value / 10)
    plan = plan_of(PLENTY | {"b": little}, plan={"epochs": epochs})
    assert plan.specialize_tokens.value == pytest.approx(epochs * little)
    assert plan.epochs == pytest.approx(epochs) and "limit_reached" in codes(plan)
    said = next(str(w) for w in plan.warnings if w.code == "repeated_text")
    assert f"b {BUDGET / 3 / little:.3g} times" in said and "a " not in said.partition("reads")[2]


@pytest.mark.parametrize("known", [LAW, Law.known("mixture_gap", GAP)], ids=["by domain", "as a mean"])
def test_domains_weighted_by_their_size_run_out_together(known: Law) -> None:
    """D'_k = w_k sum D' reads every domain equally often: sum D' / all tokens."""
    tokens = {"a": 4_000_000_000, "b": 12_000_000_000}
    plan = plan_of(tokens, known, weights="tokens", plan={"epochs": 4.0})
    after = BUDGET - plan.pretrain_tokens.value
    assert after == pytest.approx(4.0 * sum(tokens.values())) and plan.epochs == pytest.approx(4.0)
    for part in plan.per_domain:
        assert part.epochs == pytest.approx(4.0)
        assert part.specialize_tokens.value == pytest.approx(4.0 * tokens[part.domain])


def test_the_stage_says_what_the_law_did_not(logged: list[str], tmp_path: Path) -> None:
    """Warnings of the plan alone: the law's own were said with it."""
    law = replace(LAW, warnings=(laws.LawWarning("few_sizes", "few sizes", "there are three", "add two"),))
    made = programme(PLENTY | {"b": BUDGET // 50})
    run = SimpleNamespace(keep=lambda name, write: None, folder=Folder(tmp_path / "run"))
    store, ledger = Store(tmp_path / "store"), SimpleNamespace(flush=lambda: None)
    parts = {"law": law, "programme": made, "run": run, "store": store, "ledger": ledger, "look": lambda: None}
    job = cast(Job, SimpleNamespace(**parts))
    told = codes(planning.run_plan(job).plan)
    assert told == ["limit_reached", "repeated_text", "few_sizes", "no_interval"], "what moves the split comes first"
    assert any("read more than once" in line for line in logged) and not any("few sizes" in line for line in logged)


def test_the_log_says_the_gravest_warnings_and_counts_the_rest(logged: list[str]) -> None:
    given = ["no_replicates", "few_sizes", "not_identified", "forms_disagree", "one_ray"]
    raised = ordered(laws.LawWarning(code, code, "why", "what to do") for code in given)
    planning.log_plan(replace(FREE, warnings=raised), BUDGET, raised[:1])
    assert logged[1:] == [
        "one_ray: why; what to do",
        "few_sizes: why; what to do",
        "not_identified: why; what to do",
        "   and 1 more warning; the run's summary has them all",
    ], "the first was said with the law"


def test_weights_that_the_ladder_cannot_tell_apart_are_said_to_be_left_out() -> None:
    weighted = plan_of(PLENTY, weights="tokens")
    said = next(str(w) for w in weighted.warnings if w.code == "weights_left_out")
    assert "2 of 3 domains" in said and "ladder.domains to 3" in said
    two = {"a": BUDGET, "b": 3 * BUDGET}
    for tokens, weights in ((PLENTY, "uniform"), (two, "tokens"), ({"a": BUDGET, "b": BUDGET}, "tokens")):
        assert "weights_left_out" not in codes(plan_of(tokens, weights=weights))
    parts = plan_of(two, weights="tokens").per_domain
    assert [(p.domain, p.weight) for p in parts] == [("a", 0.25), ("b", 0.75)]
