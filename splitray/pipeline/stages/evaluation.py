"""Stage evaluate: the loss matrix, routed loss, and the strategies at equal tokens."""

from typing import Any

import numpy as np

from splitray.evaluate.compare import Scores, difference, matrix, mean, routed
from splitray.evaluate.loss import validation_key
from splitray.evaluate.measure import loss_key
from splitray.executor.coordinator import Request, in_group
from splitray.pipeline.job import Job
from splitray.training.split import Split
from splitray.training.tree import Leaf, Target

STRATEGIES = {1.0: "unsplit", 0.0: "split at zero", 0.5: "split at one half"}


def evaluate(job: Job) -> dict[str, Any]:
    """Loss matrix, routed loss, and the planned split against the baselines at the same total tokens."""
    domains, batch = tuple(job.weights), job.config.training.batch_tokens
    splits = {"planned split": job.split}
    for fraction in job.config.evaluate.baselines:
        name = STRATEGIES.get(fraction, f"split at {fraction:g}")
        splits[name] = Split.at(fraction, job.budget, job.weights, batch)
    reference = _unsplit_at_base(job)
    workers = in_group(job.config.resources.specialist_workers)
    requests = [r for s in splits.values() for r in job.requests(s, None, workers)]
    requests += [Request(reference, domains, mixture_workers=job.group(job.config.model))] if reference else []
    results = iter(job.executor.leaves(requests))
    scores = {n: {d: _scores(job, next(results)["key"], d) for d in domains} for n in splits}
    specialists = {s["domain"]: s["key"] for s in job.run.result("specialists")["specialists"]}
    rows = {d: {e: _scores(job, specialists[d], e) for e in domains} for d in domains}
    shown = {"base (unsplit leaf at D)": {d: _scores(job, reference.key, d) for d in domains}} if reference else {}
    return {
        "matrix": matrix({**shown, **rows}, domains),
        "routed": routed(rows, _routes(job, rows[domains[0]]), domains, job.weights)
        | {"prefix_characters": job.config.evaluate.prefix_characters},
        "comparison": [_compared(job, name, splits[name], scores) for name in splits],
        "note": "The unsplit leaf at D has a decay of its own, which is outside the budget. Intervals are over "
        "validation documents, for these models: another training seed would move them too.",
    }


def _scores(job: Job, key: str, domain: str) -> Scores:
    name = loss_key(key, validation_key(job.corpus, job.config.evaluate.validation_tokens), domain)
    held = job.store.find(name)
    assert held is not None, name
    with job.store.invalidating(held):
        return Scores.of(held)


def _unsplit_at_base(job: Job) -> Target | None:
    """The unsplit model of the base's D: what the specialists started from, finished."""
    split = job.split
    if split.pretrain_tokens == 0:
        return None
    return job.target(Leaf(split.pretrain_tokens), job.recipe(job.config.model))


def _routes(job: Job, scores: dict[str, Scores]) -> dict[str, np.ndarray]:
    """Where the router sends every validation document that was scored, from its first characters."""
    router, routes = job.corpus.router(), {}
    for domain in job.weights:
        texts = job.corpus.documents(domain, "validation")["text"].to_pylist()[: len(scores[domain].tokens)]
        routes[domain] = router.route([t[: job.config.evaluate.prefix_characters] for t in texts])
    return routes


def _compared(job: Job, name: str, split: Split, scores: dict[str, dict[str, Scores]]) -> dict[str, Any]:
    mine, unsplit = scores[name], scores.get("unsplit")
    by_domain = {d: mine[d].loss for d in job.weights}
    return {
        "strategy": name,
        "split_fraction": split.fraction,
        "pretrain_tokens": split.pretrain_tokens,
        "specialize_tokens": sum(split.specialize_tokens.values()) / len(job.weights),
        "tokens": split.budget,
        "loss": mean(by_domain, job.weights),
        "bits_per_byte": mean({d: mine[d].bits_per_byte for d in job.weights}, job.weights),
        "by_domain": by_domain,
        "difference": difference(mine, unsplit, job.weights) if unsplit else None,
        "epochs": max(
            (job.weights[d] * split.pretrain_tokens + split.specialize_tokens[d])
            / job.corpus.counts(d, "train")["tokens"]
            for d in job.weights
        ),
    }
