"""Stages law and plan: the table fitted, and where the law says to split."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import pyarrow as pa

from splitray import law as laws
from splitray.config import Config
from splitray.law.gravity import SHOWN, ordered
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.plan_warnings import far_strategies, repeated_text, weights_left_out
from splitray.law.planning.planner import answer
from splitray.pipeline.costs import needed
from splitray.pipeline.equal_hours import equal_hours
from splitray.pipeline.job import Job
from splitray.pipeline.ledger import starts
from splitray.pipeline.programme import Programme, strategy
from splitray.pipeline.question import asked
from splitray.report.equal_hours import verdict
from splitray.results.stages import LawResult, PlanResult
from splitray.units import counted, human

_log = logging.getLogger(__name__)
_OF_LAW = 1  # warnings that a law's stage says: the plan follows at once, and weighs them against its own


def fitted(config: Config, table: pa.Table) -> laws.Law:
    """The law of a table of runs, as the configuration fits it."""
    settings = config.law
    return laws.fit(
        table,
        form=settings.form,
        objective=settings.objective,
        seed=config.seed,
        bootstrap=settings.bootstrap,
        repetition=settings.repetition,
    )


def _passes(programme: Programme, plan: laws.Plan) -> dict[str, float]:
    """How often the plan reads each domain's training text, before and after the split."""
    text, shared = programme.text, plan.pretrain_tokens.value
    assert text is not None, "the corpus is built before the plan"
    places = {domain: text.at(domain) for domain in programme.weights}
    return {
        domain: shared / base + programme.weights[domain] * (plan.budget - shared) / special
        for domain, (base, special) in places.items()
    }


def planned(programme: Programme, law: laws.Law) -> laws.Plan:
    """The law's plan of the budget."""
    weights = programme.weights
    assert programme.corpus.train_tokens is not None, "the corpus is built before the plan"
    plan = answer(law, asked(programme, law))
    fractions = {strategy(fraction): fraction for fraction in programme.config.evaluate.baselines}
    raised = (
        weights_left_out(law, weights),
        repeated_text(law, plan, _passes(programme, plan)),
        far_strategies(law, plan, fractions),
    )
    return replace(plan, warnings=ordered((*plan.warnings, *(warning for warning in raised if warning))))


def run_law(job: Job) -> LawResult:
    """Fit the law on the ladder's table."""
    law = fitted(job.config, job.table)
    job.run.keep("law.json", law.save)
    _log_warnings(law.warnings, _OF_LAW, "the plan weighs them")
    return LawResult(law.form)


def run_plan(job: Job) -> PlanResult:
    """Where that law would split the budget."""
    law = job.law
    plan = planned(job.programme, law)
    job.run.keep("plan.json", plan.save)
    log_plan(plan, job.programme.budget, law.warnings[:_OF_LAW])
    job.look()
    job.ledger.flush()
    programme = job.programme
    parts = needed(programme, None, None)
    if at := equal_hours(programme, job.store, starts(job.run.folder), parts, law, asked(programme, law)):
        _log.info("   %s", verdict(at))
    return PlanResult(plan)


def log_plan(plan: laws.Plan, budget: int, logged: Collection[laws.LawWarning]) -> None:
    """Say where a plan splits a budget, and the gravest of its warnings that were not logged before."""
    _log.info(
        f"   {_where(plan, budget)} ({_between(plan.split_fraction, '.0%')}); "
        f"predicted loss {plan.predicted_loss.value:.3f}, unsplit {plan.unsplit_loss.value:.3f}"
    )
    _log_warnings([w for w in plan.warnings if w not in logged], SHOWN, "the run's summary has them all")


def _log_warnings(warnings: Sequence[laws.LawWarning], most: int, where: str) -> None:
    """The first `most`, and how many more there are."""
    for warning in warnings[:most]:
        _log.warning("%s", warning)
    if len(warnings) > most:
        _log.info("   and %s; %s", counted(len(warnings) - most, "more warning"), where)


def _where(plan: laws.Plan, budget: int) -> str:
    if plan.split_fraction.value >= 1:
        return f"do not split: all {human(budget)} tokens before the split"
    return f"split after {plan.split_fraction.value:.0%} of {human(budget)} tokens"


def _between(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"
