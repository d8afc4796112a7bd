"""Stage evaluate: the baselines trained, the loss matrix, routed loss, and the strategies at equal tokens."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from splitray.evaluate.compare import Scores, matrix, routed
from splitray.pipeline.comparison import compared, scores_of
from splitray.pipeline.job import Job
from splitray.pipeline.programme import PLANNED
from splitray.results.stages import EvaluationResult, Routed, SpecialistsResult

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
        name: {d: scores_of(job, request.target.key, d) for d, request in zip(domains, asked, strict=True)}
        for name, asked in requests.items()
    }
    specialists = {s.domain: s.key for s in job.run.result(SpecialistsResult).specialists}
    rows = {d: {e: scores_of(job, specialists[d], e) for e in domains} for d in domains}
    base = (
        {"base (unsplit leaf at D)": {d: scores_of(job, reference.target.key, d) for d in domains}} if reference else {}
    )
    routes = _routes(job, rows[domains[0]])
    return EvaluationResult(
        matrix({**base, **rows}, domains),
        Routed(
            **asdict(routed(rows, routes, domains, programme.weights)),
            prefix_characters=job.config.evaluate.prefix_characters,
        ),
        tuple(compared(job, name, split, scores) for name, split in splits.items()),
        _NOTE,
    )


def _routes(job: Job, scores: Mapping[str, Scores]) -> dict[str, np.ndarray]:
    """Where the router sends every validation document that was scored, from its first characters."""
    router, routes = job.corpus.router(), {}
    for domain in job.programme.weights:
        texts = job.corpus.documents(domain, "validation")["text"].to_pylist()[: len(scores[domain].tokens)]
        routes[domain] = router.route([t[: job.config.evaluate.prefix_characters] for t in texts])
    return routes
