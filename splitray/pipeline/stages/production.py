"""Stages base and specialists: the plan carried out."""

import logging

from splitray.pipeline.exports import export_model, export_router, specialist_card, trunk_card, withdraw_others
from splitray.pipeline.job import Job
from splitray.results.folders import BASE, SPECIALISTS, TRUNK
from splitray.results.stages import BaseResult, Specialist, SpecialistsResult
from splitray.units import human

_log = logging.getLogger(__name__)


def run_base(job: Job) -> BaseResult:
    """Train the shared trunk up to D, and export the state that the specialists start from.

    The finished base, which has a decay of its own, is no part of the budget: stage evaluate trains and exports it.
    """
    split = job.split
    request = job.programme.base(split)
    reference = job.programme.reference(split)
    continued = request is not None and not request.target.final
    withdraw_others(job, TRUNK, request.target.key if request is not None and continued else None)
    withdraw_others(job, BASE, reference.target.key if reference is not None else None)
    if request is None:
        _log.info("   the plan splits at zero tokens: there is no base")
        return BaseResult(None, None, 0)
    key = request.target.key
    job.executor.leaves([request])
    if not continued:
        _log.info("   the plan does not split: the base is the finished model, and no trunk goes on from it")
        return BaseResult(None, key, split.pretrain_tokens)
    trunk = export_model(job, key, TRUNK, trunk_card(split.pretrain_tokens))
    return BaseResult(trunk, key, split.pretrain_tokens)


def run_specialists(job: Job) -> SpecialistsResult:
    """Train one specialist a domain, each on its own named actor, and export them with the router beside them."""
    split, domains = job.split, tuple(job.programme.weights)
    results = job.executor.leaves(job.programme.specialists(split))
    models = []
    for domain, result in zip(domains, results, strict=True):
        tokens = split.specialize_tokens[domain]
        card = specialist_card(domain, split.pretrain_tokens, tokens)
        path = export_model(job, result["key"], f"{SPECIALISTS}/{domain}", card)
        models.append(Specialist(domain, path, result["key"], tokens))
        _log.info(f"   {domain}: loss {result['losses'][domain]['loss']:.4f} after {human(tokens)} tokens")
    return SpecialistsResult(tuple(models), export_router(job))
