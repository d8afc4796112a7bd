"""The proof of a run's plan: a sealed forecast, then the bowl trained and scored, in the same store as the run.

The forecast is written before anything of the bowl is asked for. What the store held by then is marked as known and
does not count.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from splitray import law as laws
from splitray.evaluate.compare import mean
from splitray.executor.request import Request
from splitray.law.planning.question import Limits, Question
from splitray.pipeline.comparison import compared, scores_of
from splitray.pipeline.job import Job
from splitray.pipeline.programme import Programme
from splitray.pipeline.run_folder import RunFolder
from splitray.proof import forecast as forecasts
from splitray.proof import scoring
from splitray.proof.figure import draw
from splitray.proof.forecast import Forecast, Forecaster, Place, PlannedSplit, curve_of
from splitray.proof.scoring import Errors, MeasuredBowl, Proof, ScoredLoss, difference_errors, scored_splits
from splitray.proof.statistics import over_domains, replicate_noise
from splitray.results.codec import to_json
from splitray.results.evaluation import PLANNED
from splitray.results.stages import PlanResult
from splitray.storage.folder import Folder
from splitray.training.split import Split
from splitray.units import human

_log = logging.getLogger(__name__)

FORECAST, PROOF, FIGURE = "proof/forecast.json", "proof/proof.json", "proof/bowl"


def sealed_forecast(job: Job) -> Forecast:
    """The forecast of the budget line: made now, or as it was sealed by an earlier start.

    Raises:
        CorruptError: the sealed one was changed.
    """
    _log.info("proof: the forecast", extra={"stage": "proof"})
    record = job.run.done("law")
    assert record is not None, "the law is fitted before the forecast"
    fitted = record.files.get("law.json", "")
    if not job.run.folder.exists(FORECAST):
        forecast = _forecast(job, fitted)
        job.run.folder.write_checksummed(FORECAST, forecast.plain(), forecasts.SCHEMA)
    forecast = read_forecast(job.run.folder)
    known = sum(row.known for row in forecast.rows)
    _log.info("   sealed %s as %s, SHA-256 %s", forecast.made, FORECAST, seal_of(job.run.folder)[:16])
    if known:
        _log.info("   %d of its %d losses were known by then and do not count", known, len(forecast.rows))
    if forecast.law_file != fitted:
        _log.warning(
            "the law was fitted anew since the forecast was sealed, which is scored as it is; delete %s for a new one, "
            "in which what is trained by now counts as known",
            FORECAST,
        )
    return forecast


def read_forecast(folder: Folder) -> Forecast:
    """The sealed forecast of a run folder."""
    where = f"{folder.uri}/{FORECAST}"
    return Forecast.parse(folder.read_checksummed(FORECAST, forecasts.SCHEMA), where)


def read_proof(folder: Folder) -> Proof:
    """The proof of a run folder."""
    where = f"{folder.uri}/{PROOF}"
    return Proof.parse(folder.read_checksummed(PROOF, scoring.SCHEMA), where)


def seal_of(folder: Folder) -> str:
    """The SHA-256 of the sealed forecast's file."""
    import hashlib

    return hashlib.sha256(folder.read(FORECAST)).hexdigest()


def _forecast(job: Job, fitted: str) -> Forecast:
    programme, law, plan = job.programme, job.law, job.run.result(PlanResult).plan
    splits, params = _splits(job), programme.size(programme.config.model).params
    forecaster, places = Forecaster.of(law, job.table, job.config.seed, programme.text), dict[Place, bool]()
    for split in splits.values():
        for domain, request in zip(programme.weights, programme.compared(split), strict=True):
            place = Place(split.pretrain_tokens, split.specialize_tokens[domain], domain)
            places[place] = job.store.find(request.target.key) is not None
    made = forecaster.forecast(places, params)
    question = _question(programme, law, params)
    named = isinstance(question.domains, list)
    return replace(
        made,
        rows=tuple(
            replace(row, known=places[Place(row.pretrain_tokens, row.specialize_tokens, row.domain)])
            for row in made.rows
        ),
        budget=programme.budget,
        plan=PlannedSplit.of(plan),
        warnings=tuple(str(warning) for warning in plan.warnings),
        curve=curve_of(law, question),
        weights=dict(programme.weights) if named else {},
        law_file=fitted,
    )


def _question(programme: Programme, law: laws.Law, params: int) -> Question:
    settings = programme.config.plan
    limits = Limits(settings.min_pretrain_tokens, text=programme.text)
    return Question.weighing(law, params, programme.budget, programme.weights, limits)


def _splits(job: Job) -> dict[str, Split]:
    return job.programme.proof(job.run.result(PlanResult).plan.split_fraction.value)


def _trained(job: Job, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """The models of the splits, scored; what they cost is in the ledger as a stage of its own."""
    job.executor.begin_stage()
    job.run.event("stage begins", stage="proof")
    job.ledger.begin("proof")
    try:
        results = job.executor.leaves(requests)
        job.ledger.see(job.executor.progress())
        return results
    finally:
        job.look()
        job.run.event("spending", **to_json(job.ledger.end_stage()))


def prove(job: Job) -> Proof:
    """Seal the forecast, train what it predicts, and score it. A second call finds everything in the store."""
    forecast = sealed_forecast(job)
    splits, domains = _splits(job), tuple(job.programme.weights)
    asked = {name: job.programme.compared(split) for name, split in splits.items()}
    requests = [request for family in asked.values() for request in family]
    _log.info("proof: %d splits of %s tokens measured", len(set(_fractions(splits))), human(job.programme.budget))
    results = _trained(job, requests)
    losses = {
        (request.target.key, domain): scores["loss"]
        for request, result in zip(requests, results, strict=True)
        for domain, scores in result["losses"].items()
    }
    measured = {
        name: {d: losses[request.target.key, d] for d, request in zip(domains, family, strict=True)}
        for name, family in asked.items()
    }
    scores = {
        name: {d: scores_of(job, request.target.key, d) for d, request in zip(domains, family, strict=True)}
        for name, family in asked.items()
    }
    comparison = tuple(compared(job, name, split, scores) for name, split in splits.items())
    proof = _scored(job, forecast, splits, measured)
    proof = replace(proof, comparison=comparison)
    job.run.folder.write_checksummed(PROOF, proof.plain(), scoring.SCHEMA)
    _draw(job.run, proof)
    return proof


def _fractions(splits: Mapping[str, Split]) -> list[float]:
    return [split.fraction for split in splits.values()]


def _scored(
    job: Job, forecast: Forecast, splits: Mapping[str, Split], measured: Mapping[str, Mapping[str, float]]
) -> Proof:
    weights = job.programme.weights
    found = {
        Place(split.pretrain_tokens, split.specialize_tokens[domain], domain): measured[name][domain]
        for name, split in splits.items()
        for domain in weights
    }
    losses = tuple(
        ScoredLoss.of(row, found[place])
        for row in forecast.rows
        if (place := Place(row.pretrain_tokens, row.specialize_tokens, row.domain)) in found
    )
    scored = scored_splits(forecast, losses)
    means = {splits[name].fraction: mean(by_domain, weights) for name, by_domain in measured.items()}
    bowl = MeasuredBowl.of(
        list(means), list(means.values()), _noise(job, forecast, list(means.values())), splits[PLANNED].fraction
    )
    counted = [s for s in losses if not s.predicted.known]
    errors = Errors.of(counted, difference_errors(scored))
    return Proof(job.config.name, seal_of(job.run.folder), forecast, losses, scored, (), bowl, errors)


def _noise(job: Job, forecast: Forecast, losses: Sequence[float]) -> float:
    """Standard deviation of a mean loss beyond what a seed's runs share, nats; a single run's without replicates."""
    rows: list[dict[str, Any]] = job.table.to_pylist()
    noise = replicate_noise(over_domains(rows))
    return float((noise.rest if noise.cells else forecast.run_noise) * np.mean(losses))


def _draw(run: RunFolder, proof: Proof) -> None:
    with tempfile.TemporaryDirectory(prefix="splitray-") as folder:
        for path in draw(proof, Path(folder) / "bowl"):
            run.folder.put(path, f"{FIGURE}{path.suffix}")
