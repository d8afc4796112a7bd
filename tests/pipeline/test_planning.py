"""What the main job tells the planner: how much text there is, and the weights of its domains."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from splitray import law as laws
from splitray.config import Config
from splitray.corpus import Corpus
from splitray.law import Law
from splitray.pipeline.job import Job
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.stages import planning
from splitray.storage.store import Store
from tests.support.configs import PLAIN

PARAMS, BUDGET = 1.3e9, 240_000_000_000
# Without a mixture penalty that D removes: its optimum is to split early, so that little text binds.
GAP = {"E": 1.6, "A": 400.0, "alpha": 0.34, "B": 700.0, "beta": 0.33, "c": 0.0, "rho": 0.5}
GAP |= {"G": 0.25, "tau": 2e7, "r": 0.1, "gamma": 0.25}
LAW = Law.known("mixture_gap", {name: GAP | {"G": gap} for name, gap in (("a", 0.2), ("b", 0.3))})


def job(tokens: dict[str, int], **settings: Any) -> Job:
    """A job whose corpus has these training tokens by domain; nothing of it runs."""
    config = Config(**PLAIN | {"corpus": PLAIN["corpus"] | {"domains": len(tokens)}, "budget": BUDGET} | settings)
    corpus = SimpleNamespace(domains=list(tokens), counts=lambda domain, split: {"tokens": tokens[domain]})
    made = Job(cast(RunFolder, SimpleNamespace(config=config)), cast(Store, None))
    made.__dict__["corpus"] = cast(Corpus, corpus)
    return made


def codes(plan: laws.Plan) -> list[str]:
    return [warning.code for warning in plan.warnings]


PLENTY = {"a": BUDGET, "b": 3 * BUDGET, "c": 2 * BUDGET}
FREE = laws.plan(LAW, params=PARAMS, budget=BUDGET, domains=3)


def test_where_text_suffices_the_plan_is_the_unlimited_one() -> None:
    plan = job(PLENTY).plan(LAW, PARAMS, BUDGET)
    assert 0 < plan.split_fraction.value < 1
    assert (plan.split_fraction, plan.predicted_loss) == (FREE.split_fraction, FREE.predicted_loss)
    assert plan.epochs == pytest.approx(FREE.specialize_tokens.value / PLENTY["a"])
    assert plan.warnings == FREE.warnings


@pytest.mark.parametrize("epochs", [1.0, 4.0])
def test_the_smallest_domain_is_read_no_more_often_than_allowed(epochs: float) -> None:
    little = int(FREE.specialize_tokens.value / 10)
    plan = job(PLENTY | {"b": little}, plan={"epochs": epochs}).plan(LAW, PARAMS, BUDGET)
    assert plan.specialize_tokens.value == pytest.approx(epochs * little)
    assert plan.epochs == pytest.approx(epochs) and "limit_reached" in codes(plan)
    said = next(str(w) for w in plan.warnings if w.code == "repeated_text")
    assert f"b {BUDGET / 3 / little:.3g} times" in said and "a " not in said.partition("reads")[2]


@pytest.mark.parametrize("known", [LAW, Law.known("mixture_gap", GAP)], ids=["by domain", "as a mean"])
def test_domains_weighted_by_their_size_run_out_together(known: Law) -> None:
    """D'_k = w_k sum D' reads every domain equally often: sum D' / all tokens."""
    tokens = {"a": 4_000_000_000, "b": 12_000_000_000}
    plan = job(tokens, weights="tokens").plan(known, PARAMS, BUDGET)
    after = BUDGET - plan.pretrain_tokens.value
    assert after == pytest.approx(4.0 * sum(tokens.values())) and plan.epochs == pytest.approx(4.0)
    for part in plan.per_domain:
        assert part.epochs == pytest.approx(4.0)
        assert part.specialize_tokens.value == pytest.approx(4.0 * tokens[part.domain])


def test_the_stage_says_what_the_law_did_not(logged: list[str]) -> None:
    """Warnings of the plan alone: the law's own were said with it."""
    made = job(PLENTY | {"b": BUDGET // 50})
    law = replace(LAW, warnings=(laws.LawWarning("few_sizes", "few sizes", "there are three", "add two"),))
    run = {"kept": lambda name, read: law, "keep": lambda name, write: None}
    made.run.__dict__.update(run)
    made.__dict__["params"] = lambda shape: PARAMS
    plan = planning.plan(made)
    assert plan["warnings"][0]["code"] == "few_sizes"
    assert any("read more than once" in line for line in logged) and not any("few sizes" in line for line in logged)


def test_weights_that_the_ladder_cannot_tell_apart_are_said_to_be_left_out() -> None:
    weighted = job(PLENTY, weights="tokens").plan(LAW, PARAMS, BUDGET)
    said = next(str(w) for w in weighted.warnings if w.code == "weights_left_out")
    assert "2 of 3 domains" in said and "ladder.domains to 3" in said
    two = {"a": BUDGET, "b": 3 * BUDGET}
    for tokens, weights in ((PLENTY, "uniform"), (two, "tokens"), ({"a": BUDGET, "b": BUDGET}, "tokens")):
        assert "weights_left_out" not in codes(job(tokens, weights=weights).plan(LAW, PARAMS, BUDGET))
    parts = job(two, weights="tokens").plan(LAW, PARAMS, BUDGET).per_domain
    assert [(p.domain, p.weight) for p in parts] == [("a", 0.25), ("b", 0.75)]
