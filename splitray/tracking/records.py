"""What trackers are told of a finished stage: its numbers and words by name."""

from collections.abc import Iterator, Mapping
from typing import Any

from splitray.law.law import Law
from splitray.law.planning.plan import Plan
from splitray.results.evaluation import EvaluationResult
from splitray.results.stages import (
    BaseResult,
    CorpusResult,
    LadderResult,
    PlanResult,
    SearchResult,
    SpecialistsResult,
    StageRecord,
)

Values = dict[str, float | str]

_PLANNED = (
    "split_fraction",
    "pretrain_tokens",
    "specialize_tokens",
    "predicted_loss",
    "unsplit_loss",
    "gain",
    "split_threshold",
    "compute_multiplier",
)


def values_of(record: StageRecord) -> Values:
    """Of every stage its seconds, and what it came to; tokens in tokens, losses in nats per token."""
    values: Values = {f"stage/{record.stage}/seconds": record.seconds}
    if record.work is not None:
        values[f"stage/{record.stage}/tokens_trained"] = float(record.work.trained)
        values[f"stage/{record.stage}/failures"] = float(record.work.failures)
    match record.result:
        case CorpusResult() as corpus:
            values["corpus/key"] = corpus.key
            for domain in corpus.domains:
                values[f"corpus/{domain.name}/train_tokens"] = float(domain.train.tokens)
        case LadderResult() as ladder:
            values |= {"ladder/leaves": float(ladder.leaves), "ladder/saving": ladder.saving}
        case PlanResult() as result:
            values |= _plan("plan", result.plan)
        case SearchResult() as result:
            values |= _plan("final_plan", result.final_plan)
        case BaseResult() as base:
            values["base/tokens"] = float(base.tokens)
            if base.key is not None:
                values["base/key"] = base.key
        case SpecialistsResult() as result:
            for model in result.specialists:
                values |= {f"specialist/{model.domain}/key": model.key}
                values |= {f"specialist/{model.domain}/tokens": float(model.tokens)}
        case EvaluationResult() as evaluation:
            for row in evaluation.comparison:
                values[f"strategy/{row.strategy}/loss"] = row.loss
                values[f"strategy/{row.strategy}/bits_per_byte"] = row.bits_per_byte
                values |= {f"strategy/{row.strategy}/{domain}": loss for domain, loss in row.by_domain.items()}
            values["routed/loss"] = evaluation.routed.loss
    return values


def law_values(law: Law) -> Values:
    """A law's form, its constants and what it warns of."""
    values: Values = {"law/form": law.form} | dict(_flat(law.constants, "law/"))
    if law.warnings:
        values["law/warnings"] = "\n".join(str(warning) for warning in law.warnings)
    return values


def _plan(prefix: str, plan: Plan) -> Values:
    values: Values = {f"{prefix}/form": plan.form}
    for name in _PLANNED:
        for part, number in getattr(plan, name).plain().items():
            if number is not None:
                values[f"{prefix}/{name}" + ("" if part == "value" else f"/{part}")] = float(number)
    return values


def _flat(constants: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in constants.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", float(value)
