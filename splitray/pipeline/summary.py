"""The summary of a run, gathered from the records of its stages."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from splitray import __version__
from splitray.corpus import Corpus
from splitray.errors import CorruptError
from splitray.executor.connect import machine
from splitray.law import Law
from splitray.pipeline.costs import StageCost, costs, needed
from splitray.pipeline.device_usage import usage_of
from splitray.pipeline.equal_hours import equal_hours
from splitray.pipeline.job import Job
from splitray.pipeline.ledger import starts
from splitray.pipeline.predictions import Predictor
from splitray.pipeline.question import asked
from splitray.pipeline.tree import Part
from splitray.results.equal_hours import EqualHours
from splitray.results.evaluation import EvaluationResult, Prediction
from splitray.results.exams import ExamsResult
from splitray.results.ledger import StartRecord
from splitray.results.stages import (
    STAGES,
    BaseResult,
    CorpusResult,
    LadderResult,
    PlanResult,
    SearchResult,
    SpecialistsResult,
    StageRecord,
    StageResult,
)
from splitray.results.summary import (
    CorpusSummary,
    Cost,
    Domain,
    LadderSummary,
    LawSummary,
    Machine,
    RowSplitGroup,
    StageSummary,
    Summary,
)

R = TypeVar("R", bound=StageResult)
NAME = "summary.json"


def summarise(job: Job) -> Summary:
    """Every number of the run so far; also written as `summary.json`, when a stage has ended since it was."""
    records = {stage: record for stage in STAGES if (record := job.run.done(stage)) is not None}
    last = max((r.began + r.seconds for s, r in records.items() if s != "report"), default=0.0)
    with contextlib.suppress(FileNotFoundError, CorruptError):
        before = Summary.parse(job.run.folder.read_checksummed(NAME), f"{job.run.folder.uri}/{NAME}")
        if before.as_of == last and before.config.get("plan") == job.config.plan.model_dump(mode="json"):
            return before
    summary = _summary(job, records, last)
    job.run.folder.write_checksummed(NAME, summary.plain())
    return summary


def _summary(job: Job, records: Mapping[str, StageRecord], last: float) -> Summary:
    config, programme = job.config, job.programme
    counted = programme.size(config.model)
    text = _result(records, CorpusResult)
    assert text is not None, "a summary needs a corpus"
    ladder, plan = _result(records, LadderResult), _result(records, PlanResult)
    search, specialists = _result(records, SearchResult), _result(records, SpecialistsResult)
    ledger = starts(job.run.folder)
    split = job.split if search else None
    parts = needed(programme, search.search if search else None, split)
    spending = costs(parts, ledger, job.store, records, job.run.start)
    evaluation = _result(records, EvaluationResult)
    return Summary(
        name=config.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        splitray=__version__,
        config=config.model_dump(mode="json"),
        as_of=last,
        machine=Machine(**machine()),
        precision=job.precision,
        budget=programme.budget,
        params=counted.params,
        params_total=counted.total,
        domains=_domains(text, job.corpus, programme.weights),
        corpus=_corpus(text, job.corpus, config.corpus.embedder),
        ladder=LadderSummary(**vars(ladder), table=tuple(job.table.to_pylist())) if ladder else None,
        law=_law(job.law) if "law" in records else None,
        plan=plan.plan if plan else None,
        search=search.search if search else None,
        final_plan=search.final_plan if search else None,
        base=_result(records, BaseResult),
        specialists=specialists.specialists if specialists else None,
        router=specialists.router if specialists else None,
        evaluation=evaluation,
        predictions=_predictions(job, counted.params, evaluation) if search and evaluation else (),
        exams=_result(records, ExamsResult),
        stages=tuple(_stage(record, spending.get(stage)) for stage, record in records.items() if stage != "report"),
        ladder_cost=_cost(spending["ladder"], programme.budget) if ladder else None,
        search_cost=_cost(spending["search"], programme.budget) if "search" in spending else None,
        starts=len(ledger) or None,
        usage=usage_of(ledger),
        equal_hours=_equal_hours(job, ledger, parts, evaluation) if plan else None,
    )


def _equal_hours(
    job: Job, ledger: Sequence[StartRecord], parts: Mapping[str, Part], evaluation: EvaluationResult | None
) -> EqualHours | None:
    """By the law that was carried out, as far as the run is."""
    name = "law_final.json" if "base" in parts else "law.json"
    law = job.run.kept(name, Law.load)
    return equal_hours(job.programme, job.store, ledger, parts, law, asked(job.programme, law), evaluation)


def _result(records: Mapping[str, StageRecord], kind: type[R]) -> R | None:
    return next((r.result for r in records.values() if isinstance(r.result, kind)), None)


def _domains(result: CorpusResult, corpus: Corpus, weights: Mapping[str, float]) -> tuple[Domain, ...]:
    known = corpus.statistics["domains"]
    return tuple(
        Domain(
            name=d.name,
            train=d.train,
            validation=d.validation,
            weight=weights[d.name],
            top_terms=tuple(known[d.name]["terms"]),
            tokens_per_byte=known[d.name].get("tokens_per_byte"),
            characters_lost=known[d.name].get("characters", {}).get("share_lost"),
        )
        for d in result.domains
    )


def _corpus(result: CorpusResult, corpus: Corpus, embedder: str) -> CorpusSummary:
    sides = [side for d in result.domains for side in (d.train, d.validation)]
    statistics = corpus.statistics
    return CorpusSummary(
        key=result.key,
        documents=sum(side.documents for side in sides),
        skipped=statistics["dropped"],
        row_split_groups=tuple(RowSplitGroup(**group) for group in statistics["groups_split_by_row"]),
        embedder=embedder,
        vocabulary=corpus.vocab_size,
        bytes_per_token=sum(side.bytes for side in sides) / sum(side.tokens for side in sides),
        seconds=statistics["seconds"],
    )


def _predictions(job: Job, params: int, evaluation: EvaluationResult) -> tuple[Prediction, ...]:
    law = job.run.kept("law_final.json", Law.load)
    predictor = Predictor.of(law, job.table, params, job.programme.weights, job.programme.text)
    return predictor.strategies(evaluation.comparison)


def _law(law: Law) -> LawSummary:
    heldout = tuple(law.heldout.rows) if law.heldout is not None else None
    return LawSummary(law.form, law.constants, heldout, tuple(str(w) for w in law.warnings))


def _cost(cost: StageCost, budget: int) -> Cost:
    return Cost(cost.needed, cost.needed / budget, cost.spent)


def _stage(record: StageRecord, cost: StageCost | None) -> StageSummary:
    work, trained = record.work, record.work.trained if record.work else 0
    return StageSummary(
        stage=record.stage,
        began=record.began,
        seconds=record.seconds,
        tokens_trained=trained,
        tokens_per_second=trained / record.seconds if trained else None,
        segments=work.finished if work else 0,
        failures=work.failures if work else 0,
        training_seconds=work.training_seconds if work else 0.0,
        tokens_needed=cost.needed if cost else None,
        tokens_spent=cost.spent if cost else None,
        flops_needed=cost.needed_flops if cost else None,
        flops_spent=cost.spent_flops if cost else None,
    )
