"""The plan and the comparison at equal hours, at the speeds that the run has measured."""

import logging
from collections.abc import Mapping, Sequence

from splitray.errors import UserError
from splitray.law import Law
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.hours import Speed, plan_for_hours
from splitray.law.planning.prediction import predicted_losses
from splitray.law.planning.question import Question
from splitray.pipeline.device_usage import usage_of
from splitray.pipeline.programme import Programme
from splitray.pipeline.speeds import Measured, speeds, start_hours
from splitray.pipeline.tree import Part
from splitray.results.equal_hours import AtHours, EqualHours
from splitray.results.evaluation import PLANNED, Compared, EvaluationResult
from splitray.results.ledger import StartRecord
from splitray.results.summary import UsageSummary
from splitray.storage.store import Store

_log = logging.getLogger(__name__)

_FINDING = ("ladder", "search")  # stages that only the split needs


def equal_hours(
    programme: Programme,
    store: Store,
    ledger: Sequence[StartRecord],
    parts: Mapping[str, Part],
    law: Law,
    question: Question,
    evaluation: EvaluationResult | None = None,
) -> EqualHours | None:
    """The verdict at equal hours; None where no hours were counted, or nothing was timed.

    Args:
        ledger: the records of all starts.
        parts: what the run trains, by stage; see `splitray.pipeline.costs.needed`.
        question: what the law was asked at equal tokens.
        evaluation: for the comparison.
    """
    usage = usage_of(ledger)
    if usage is None or not usage.total:
        return None
    device, settings = usage.total[0].device, programme.config.plan
    measured = Measured.of(parts, store, 1.0 if device == "GPU" else float(programme.training.threads))
    starts = start_hours(ledger, measured, len(programme.weights))
    known = speeds(programme, measured, starts)
    own = next((speed for speed in known if speed.params == question.params), None)
    if own is None:
        return None
    finding = _held(usage)
    inside = finding if settings.ladder_hours == "inside" else 0.0
    hours = settings.hours or own.hours(programme.budget, 0.0, 1)
    try:
        plan = plan_for_hours(law, question, hours=hours, speeds=known, ladder_hours=inside)
    except UserError as error:
        _log.warning("there is no plan at equal hours: %s", error)
        return None
    rows = _comparison(evaluation, own, inside, programme.weights, law) if evaluation else ()
    return EqualHours(device, settings.hours is not None, settings.ladder_hours, finding, plan, rows)


def _held(usage: UsageSummary) -> float:
    return sum(each.hours_held for each in usage.stages if each.name in _FINDING)


def _comparison(
    evaluation: EvaluationResult, speed: Speed, inside: float, weights: Mapping[str, float], law: Law
) -> tuple[AtHours, ...]:
    """Every strategy with as many tokens as the planned split's hours buy it; its loss moves as the law says.

    All D and D' of a strategy grow or shrink by one factor, so that its split fraction stays.
    """
    planned = evaluation.strategy(PLANNED)
    if planned is None:
        return ()
    whole = _hours(planned, speed, len(weights)) + inside
    contrasts = {each.strategy: each.difference for each in evaluation.contrasts}
    rows = []
    for row in evaluation.comparison:
        hours = _hours(row, speed, len(weights))
        if row.strategy == PLANNED:
            rows.append(AtHours(row.strategy, whole, float(row.tokens), row.loss, row.loss))
            continue
        fixed = _models(row, len(weights)) * speed.start_hours
        factor = max(0.0, whole - fixed) / (hours - fixed)
        moved = _loss(row, factor, speed.params, weights, law) - _loss(row, 1.0, speed.params, weights, law)
        measured = contrasts.get(row.strategy)
        rows.append(
            AtHours(
                row.strategy,
                hours,
                factor * row.tokens,
                row.loss,
                row.loss + moved,
                _shifted(measured, -moved) if measured else None,
            )
        )
    return tuple(rows)


def _models(row: Compared, domains: int) -> int:
    """That a strategy starts: without a base where it splits at zero, the base alone where it does not split."""
    return 1 if row.split_fraction >= 1 else domains + (row.split_fraction > 0)


def _hours(row: Compared, speed: Speed, domains: int) -> float:
    after = row.tokens - row.pretrain_tokens
    return speed.hours(row.pretrain_tokens, after, _models(row, domains))


def _loss(row: Compared, factor: float, params: float, weights: Mapping[str, float], law: Law) -> float:
    after = {d: factor * weight * len(weights) * row.specialize_tokens for d, weight in weights.items()}
    return float(predicted_losses(law, params, factor * row.pretrain_tokens, after, weights, 0.0)[0])


def _shifted(estimate: Estimate, by: float) -> Estimate:
    low, high = (None if end is None else end + by for end in (estimate.low, estimate.high))
    return Estimate(estimate.value + by, low, high)
