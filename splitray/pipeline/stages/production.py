"""Stages base and specialists: the plan carried out."""

import logging
from typing import Any

from splitray.pipeline.job import Job
from splitray.results.stages import BaseResult, Specialist, SpecialistsResult
from splitray.units import human

_log = logging.getLogger(__name__)


def run_base(job: Job) -> BaseResult:
    """Train the shared trunk up to D, and export the state that the specialists start from."""
    split = job.split
    request = job.programme.base(split)
    if request is None:
        _log.info("   the plan splits at zero tokens: there is no base")
        job.run.folder.delete("base")  # that of an earlier plan
        return BaseResult(None, None, 0)
    key = request.target.key
    job.executor.leaves([request])
    _export(job, key, "base", {"pretrain_tokens": split.pretrain_tokens, "specialize_tokens": 0})
    return BaseResult("base", key, split.pretrain_tokens)


def run_specialists(job: Job) -> SpecialistsResult:
    """Train one specialist a domain, each on its own named actor, and export them."""
    split, domains = job.split, tuple(job.programme.weights)
    results = job.executor.leaves(job.programme.specialists(split))
    models = []
    for domain, result in zip(domains, results, strict=True):
        tokens = split.specialize_tokens[domain]
        card = {"domain": domain, "pretrain_tokens": split.pretrain_tokens, "specialize_tokens": tokens}
        _export(job, result["key"], f"specialists/{domain}", card)
        models.append(Specialist(domain, f"specialists/{domain}", result["key"], tokens))
        _log.info(f"   {domain}: loss {result['losses'][domain]['loss']:.4f} after {human(tokens)} tokens")
    return SpecialistsResult(tuple(models))


def _export(job: Job, key: str, name: str, card: dict[str, Any]) -> None:
    """Write a published model to the run folder as transformers reads it."""
    from splitray.export.huggingface import export

    named = {"run": job.config.name, **card}
    export(job.store, key, job.corpus.tokenizer_path(), job.run.folder / name, named)
