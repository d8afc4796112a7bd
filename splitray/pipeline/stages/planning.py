"""Stages law and plan: the table fitted, and where the law says to split."""

import logging
from typing import Any

from splitray.pipeline.job import Job
from splitray.units import human

_log = logging.getLogger(__name__)


def law(job: Job) -> dict[str, Any]:
    """Fit the law on the ladder's table."""
    law = job.fit(job.table)
    job.run.keep("law.json", law.save)
    for warning in law.warnings:
        _log.warning("%s", warning)
    return {"form": law.form}


def plan(job: Job) -> dict[str, Any]:
    """Where that law would split the budget."""
    law = job.law
    made = job.plan(law, job.params(job.config.model), job.budget)
    job.run.keep("plan.json", made.save)
    _log.info(
        f"   split after {made.split_fraction.value:.0%} of {human(job.budget)} tokens "
        f"({_between(made.split_fraction, '.0%')}); predicted loss {made.predicted_loss.value:.3f}, "
        f"unsplit {made.unsplit_loss.value:.3f}"
    )
    for warning in made.warnings:
        if warning not in law.warnings:  # those were said with the law
            _log.warning("%s", warning)
    return made.plain()


def _between(estimate: Any, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"
