"""Stage evaluate: the baselines trained, the loss matrix, routed loss, and the strategies at equal tokens."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from splitray.evaluate.compare import (
    Scores,
    chosen,
    contrasts,
    difference,
    forgetting,
    matrix,
    mean,
    resampled,
    routed,
)
from splitray.law.planning.estimate import Estimate
from splitray.pipeline.comparison import compared, scores_of
from splitray.pipeline.exports import base_card, export_model
from splitray.pipeline.job import Job
from splitray.results.evaluation import PLANNED, UNSPLIT, EvaluationResult, FinishedBase, MixtureLoss, Routed
from splitray.results.folders import BASE
from splitray.results.stages import SpecialistsResult

_NOTE = (
    "The unsplit leaf at D has a decay of its own, which is outside the budget. Intervals are over groups of "
    "validation documents, for these models: another training seed would move them too."
)


def run_evaluation(job: Job) -> EvaluationResult:
    """Loss matrix, routed loss, and the planned split against the baselines at the same total tokens."""
    programme, domains = job.programme, tuple(job.programme.weights)
    splits = {PLANNED: job.split, **programme.baselines()}
    requests = {name: programme.compared(split) for name, split in splits.items()}
    reference = programme.reference(job.split)
    job.executor.leaves([r for asked in requests.values() for r in asked] + ([reference] if reference else []))
    scores = {
        name: {d: scores_of(job, request.target.key, d) for d, request in zip(domains, asked, strict=True)}
        for name, asked in requests.items()
    }
    specialists = {s.domain: s.key for s in job.run.result(SpecialistsResult).specialists}
    rows = {d: {e: scores_of(job, specialists[d], e) for e in domains} for d in domains}
    base = (
        {"base (unsplit leaf at D)": {d: scores_of(job, reference.target.key, d) for d in domains}} if reference else {}
    )
    routes, log_prior, temperature = _routed(job, rows[domains[0]], bool(base))
    mixed = _mixed({**rows, **base}, log_prior)
    return EvaluationResult(
        matrix({**base, **rows}, domains),
        Routed(
            **asdict(routed(rows, routes, domains, programme.weights)),
            prefix_characters=job.config.evaluate.prefix_characters,
            difference=_to_unsplit(chosen(rows, routes, domains), scores, programme.weights),
        ),
        tuple(compared(job, name, split, scores) for name, split in splits.items()),
        _NOTE,
        _export_base(job, reference.target.key) if reference else None,
        MixtureLoss(
            mean({d: mixed[d].loss for d in domains}, programme.weights),
            mean({d: mixed[d].bits_per_byte for d in domains}, programme.weights),
            len(rows) + len(base),
            temperature,
            _to_unsplit(mixed, scores, programme.weights),
        ),
        contrasts(scores, PLANNED, programme.weights),
        resampled(scores[PLANNED], programme.weights),
        forgetting(
            {d: row for d, row in rows.items() if job.split.specialize_tokens[d]},
            next(iter(base.values())),
            programme.weights,
        )
        if base
        else (),
    )


def _to_unsplit(
    ours: Mapping[str, Scores], scores: Mapping[str, Mapping[str, Scores]], weights: Mapping[str, float]
) -> Estimate | None:
    """Mean loss less the unsplit model's; None where that was not trained. `scores` are by strategy and domain."""
    return difference(ours, scores[UNSPLIT], weights) if UNSPLIT in scores else None


def _export_base(job: Job, key: str) -> FinishedBase:
    """The base with a decay of its own, whose losses the matrix shows."""
    tokens = job.split.pretrain_tokens
    return FinishedBase(export_model(job, key, BASE, base_card(tokens)), key, tokens)


def _routed(
    job: Job, scores: Mapping[str, Scores], base: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]:
    """By domain: where the router sends every document that was scored, from its first characters, and the weights that
    a mixture gives its models from the same; then the temperature of these weights."""
    from splitray.evaluate.mixture.prior import fit_prior

    most = job.config.evaluate.prefix_characters
    prior = fit_prior(job.corpus, most, base)
    router, routes, log_prior = prior.router, {}, {}
    for domain in job.programme.weights:
        texts = job.corpus.documents(domain, "validation")["text"].to_pylist()[: len(scores[domain].tokens)]
        vectors = router.embedder.embed([text[:most] for text in texts])
        routes[domain] = router.placement.place(vectors)
        log_prior[domain] = prior.weigh(router.placement.scores(vectors))
    return routes, log_prior, prior.temperature


def _mixed(models: Mapping[str, Mapping[str, Scores]], log_prior: Mapping[str, np.ndarray]) -> dict[str, Scores]:
    """The exact mixture of some models on every domain's documents, from the losses of each.

    Args:
        models: model x domain: the specialists in the order of the router's domains, then the base if there is one.
    """
    from splitray.evaluate.mixture.weights import exact_nats

    mixed = {}
    for domain, weights in log_prior.items():
        own = next(iter(models.values()))[domain]
        nats = np.stack([row[domain].nats for row in models.values()], axis=1)
        mixed[domain] = replace(own, nats=exact_nats(nats, weights))
    return mixed
