"""Stage evaluate: the baselines trained, the loss matrix, routed loss, and the strategies at equal tokens."""

from collections.abc import Mapping

import numpy as np

from splitray.evaluate.compare import Scores, difference, matrix, mean, routed
from splitray.evaluate.loss import validation_key
from splitray.evaluate.measure import loss_key
from splitray.law.planning.estimate import Estimate
from splitray.pipeline.exports import BASE, base_card, export_model
from splitray.pipeline.job import Job
from splitray.pipeline.programme import PLANNED
from splitray.results.codec import from_json
from splitray.results.stages import Compared, EvaluationResult, FinishedBase, LossMatrix, Routed, SpecialistsResult
from splitray.training.split import Split

_NOTE = (
    "The unsplit leaf at D has a decay of its own, which is outside the budget. Intervals are over validation "
    "documents, for these models: another training seed would move them too."
)


def run_evaluation(job: Job) -> EvaluationResult:
    """Loss matrix, routed loss, and the planned split against the baselines at the same total tokens."""
    programme, domains = job.programme, tuple(job.programme.weights)
    splits = {PLANNED: job.split, **programme.baselines()}
    requests = {name: programme.compared(split) for name, split in splits.items()}
    reference = programme.reference(job.split)
    job.executor.leaves([r for asked in requests.values() for r in asked] + ([reference] if reference else []))
    scores = {
        name: {d: _scores(job, request.target.key, d) for d, request in zip(domains, asked, strict=True)}
        for name, asked in requests.items()
    }
    specialists = {s.domain: s.key for s in job.run.result(SpecialistsResult).specialists}
    rows = {d: {e: _scores(job, specialists[d], e) for e in domains} for d in domains}
    base = (
        {"base (unsplit leaf at D)": {d: _scores(job, reference.target.key, d) for d in domains}} if reference else {}
    )
    routes = _routes(job, rows[domains[0]])
    return EvaluationResult(
        from_json(LossMatrix, matrix({**base, **rows}, domains), "the loss matrix"),
        Routed(
            **routed(rows, routes, domains, programme.weights),
            prefix_characters=job.config.evaluate.prefix_characters,
        ),
        tuple(_compared(job, name, split, scores) for name, split in splits.items()),
        _NOTE,
        _export_base(job, reference.target.key) if reference else None,
    )


def _export_base(job: Job, key: str) -> FinishedBase:
    """The base with a decay of its own, whose losses the matrix shows."""
    tokens = job.split.pretrain_tokens
    return FinishedBase(export_model(job, key, BASE, base_card(tokens)), key, tokens)


def _scores(job: Job, key: str, domain: str) -> Scores:
    name = loss_key(key, validation_key(job.corpus, job.config.evaluate.validation_tokens), domain)
    held = job.store.find(name)
    assert held is not None, name
    with job.store.invalidating(held):
        return Scores.of(held)


def _routes(job: Job, scores: Mapping[str, Scores]) -> dict[str, np.ndarray]:
    """Where the router sends every validation document that was scored, from its first characters."""
    router, routes = job.corpus.router(), {}
    for domain in job.programme.weights:
        texts = job.corpus.documents(domain, "validation")["text"].to_pylist()[: len(scores[domain].tokens)]
        routes[domain] = router.route([t[: job.config.evaluate.prefix_characters] for t in texts])
    return routes


def _compared(job: Job, name: str, split: Split, scores: Mapping[str, Mapping[str, Scores]]) -> Compared:
    mine, unsplit, weights = scores[name], scores.get("unsplit"), job.programme.weights
    by_domain = {d: mine[d].loss for d in weights}
    return Compared(
        strategy=name,
        split_fraction=split.fraction,
        pretrain_tokens=split.pretrain_tokens,
        specialize_tokens=sum(split.specialize_tokens.values()) / len(weights),
        tokens=split.budget,
        loss=mean(by_domain, weights),
        bits_per_byte=mean({d: mine[d].bits_per_byte for d in weights}, weights),
        by_domain=by_domain,
        difference=Estimate(**difference(mine, unsplit, weights)) if unsplit else None,
        epochs=max(
            (weights[d] * split.pretrain_tokens + split.specialize_tokens[d]) / job.corpus.counts(d, "train")["tokens"]
            for d in weights
        ),
    )
