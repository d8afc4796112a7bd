"""Stages base and specialists: the plan carried out."""

import logging
from typing import Any

from splitray.executor.coordinator import Request
from splitray.pipeline.job import Job
from splitray.training.tree import Target
from splitray.units import human

_log = logging.getLogger(__name__)


def base(job: Job) -> dict[str, Any]:
    """Train the shared trunk up to D, and export the state that the specialists start from."""
    split, made = job.split, job.recipe(job.config.model)
    domain = next((d for d, tokens in split.specialize_tokens.items() if tokens), None)
    trunk = (
        Target.trunk(made, split.leaf(domain), job.config.training.schedule)
        if domain is not None
        else job.target(split.leaf(next(iter(job.weights))), made)
    )
    if trunk is None:
        _log.info("   the plan splits at zero tokens: there is no base")
        return {"path": None, "key": None, "tokens": 0}
    job.executor.leaves([Request(trunk, mixture_workers=job.group(job.config.model))])
    job.export(trunk.key, "base", {"pretrain_tokens": split.pretrain_tokens, "specialize_tokens": 0})
    return {"path": "base", "key": trunk.key, "tokens": split.pretrain_tokens}


def specialists(job: Job) -> dict[str, Any]:
    """Train one specialist a domain, each on its own named actor, and export them."""
    split, domains = job.split, tuple(job.weights)
    results = job.executor.leaves(job.requests(split, domains, job.config.resources.specialist_workers))
    listed = []
    for domain, result in zip(domains, results, strict=True):
        tokens = split.specialize_tokens[domain]
        card = {"domain": domain, "pretrain_tokens": split.pretrain_tokens, "specialize_tokens": tokens}
        job.export(result["key"], f"specialists/{domain}", card)
        listed.append({"domain": domain, "path": f"specialists/{domain}", "key": result["key"], "tokens": tokens})
        _log.info(f"   {domain}: loss {result['losses'][domain]['loss']:.4f} after {human(tokens)} tokens")
    return {"specialists": listed}
