"""What the stages of a run leave, and the record of a finished one.

The records carry the schema `splitray-stage-2`. Those of the first release carry none; `StageRecord.parse` reads them
as well: their plan stood bare where `PlanResult` is now, and they have no fingerprint of the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import CorruptError, UserError
from splitray.law.planning.estimate import Estimate
from splitray.results.codec import PlanField, from_json, to_json
from splitray.results.counts import Counts as Counts
from splitray.results.counts import DomainCounts as DomainCounts
from splitray.results.evaluation import EvaluationResult, Prediction
from splitray.results.exams import ExamsResult
from splitray.results.rates import Rates
from splitray.results.study_stages import (
    AnalysisResult,
    CorporaResult,
    FilterResult,
    HeldOutResult,
    LinesResult,
    SealedResult,
    SweepResult,
)
from splitray.training.split import Split

SCHEMA = "splitray-stage-2"


@dataclass(frozen=True)
class CorpusResult:
    """Stage corpus: the artifact's key in the store, and its domains."""

    key: str
    domains: tuple[DomainCounts, ...]


@dataclass(frozen=True)
class LadderResult:
    """Stage ladder: what its leaves cost as one tree, and one by one. `saving` is the ratio of the two.

    rates: the best learning rates that a sweep foretells; None without `ladder.rates`.
    """

    leaves: int
    segments: int
    tokens_trained: int
    tokens_from_scratch: int
    saving: float
    seeds: int
    rates: Rates | None = None


@dataclass(frozen=True)
class LawResult:
    """Stage law: the form of the law in `law.json`."""

    form: str


@dataclass(frozen=True)
class PlanResult:
    """Stage plan: the plan by the ladder's law alone, also in `plan.json`."""

    plan: PlanField


@dataclass(frozen=True)
class TrialModel:
    """One domain's model of a trial: D'_k in tokens, its loss in nats per token, and its segment."""

    domain: str
    specialize_tokens: int
    loss: float
    key: str


@dataclass(frozen=True)
class Trial:
    """One split that was trained, and its weighted mean loss in nats per token.

    specialize_tokens: the mean D'. predicted: the loss by the law of before the search. prediction: the same with its
    interval; None in earlier records.
    """

    split_fraction: float
    pretrain_tokens: int
    specialize_tokens: float
    loss: float
    models: tuple[TrialModel, ...] = ()
    predicted: float | None = None
    prediction: Prediction | None = None

    @property
    def split(self) -> Split:
        """The split, to the token; the fraction alone does not give it back where weights differ."""
        return Split(self.pretrain_tokens, {m.domain: m.specialize_tokens for m in self.models})


@dataclass(frozen=True)
class SearchRound:
    """A round's trials, the law's optimum at its start with its 80 % interval, and the gain expected of it in nats."""

    round: int
    trials: tuple[Trial, ...]
    optimum: Estimate
    expected_gain: float


@dataclass(frozen=True)
class Searched:
    """The search: N and D_T of its trials, its rounds, and why it stopped."""

    params: int
    budget: int
    rounds: tuple[SearchRound, ...]
    stopped: str

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(trial for made in self.rounds for trial in made.trials)


@dataclass(frozen=True)
class SearchResult:
    """Stage search: what was tried (None where it is off), and the plan that is carried out."""

    search: Searched | None
    final_plan: PlanField


@dataclass(frozen=True)
class BaseResult:
    """Stage base: the model that the domains share, after D tokens of the mixture.

    path: the exported folder of the trunk, the state before any decay, to continue training from. None where nothing
    continues: the plan splits at zero or not at all. In folders of the first release it is `base`. key: its segment,
    None where the plan splits at zero.
    """

    path: str | None
    key: str | None
    tokens: int


@dataclass(frozen=True)
class Specialist:
    """One exported model: its folder, its segment, and D'_k in tokens."""

    domain: str
    path: str
    key: str
    tokens: int


@dataclass(frozen=True)
class SpecialistsResult:
    """Stage specialists. `router`: the folder of the router beside them; None in records of the first release."""

    specialists: tuple[Specialist, ...]
    router: str | None = None


@dataclass(frozen=True)
class ReportResult:
    """Stage report: the page in the run folder."""

    path: str


StageResult = (
    CorpusResult
    | LadderResult
    | LawResult
    | PlanResult
    | SearchResult
    | BaseResult
    | SpecialistsResult
    | EvaluationResult
    | ExamsResult
    | ReportResult
    | FilterResult
    | CorporaResult
    | SweepResult
    | LinesResult
    | SealedResult
    | HeldOutResult
    | AnalysisResult
)
RESULTS: dict[str, type[StageResult]] = {
    "corpus": CorpusResult,
    "ladder": LadderResult,
    "law": LawResult,
    "plan": PlanResult,
    "search": SearchResult,
    "base": BaseResult,
    "specialists": SpecialistsResult,
    "evaluate": EvaluationResult,
    "exams": ExamsResult,
    "report": ReportResult,
}
STAGES = tuple(RESULTS)  # of which a run without exams skips that one
STUDY_RESULTS: dict[str, type[StageResult]] = {
    "filter": FilterResult,
    "corpora": CorporaResult,
    "sweep": SweepResult,
    "lines": LinesResult,
    "forecast": SealedResult,
    "held-out": HeldOutResult,
    "analysis": AnalysisResult,
    "report": ReportResult,
}
STUDY_STAGES = tuple(STUDY_RESULTS)
_KNOWN = {**STUDY_RESULTS, **RESULTS}


@dataclass(frozen=True)
class Work:
    """The coordinator's counters of a stage that trains. Tokens are training tokens.

    segments, tokens: what was missing at its start. finished, trained: what it trained of them. leaf_tokens: of every
    leaf that was asked for, from scratch. training_seconds: of all workers together.
    """

    segments: int = 0
    finished: int = 0
    tokens: int = 0
    trained: int = 0
    leaf_tokens: int = 0
    failures: int = 0
    training_seconds: float = 0.0


@dataclass(frozen=True)
class StageRecord:
    """`stages/STAGE.json`: a finished stage.

    Args:
        began: seconds since the epoch.
        work: None where a stage trains nothing.
        files: the SHA-256 of every file that it left in the run folder, by name.
        identity: the fingerprint of the configuration's identity settings; None in records of the first release.
        refit: that of the settings that only change the fit.
    """

    stage: str
    began: float
    seconds: float
    work: Work | None
    result: StageResult
    files: Mapping[str, str] = field(default_factory=dict)
    identity: str | None = None
    refit: str | None = None
    schema: str = SCHEMA

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return to_json(self)

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str) -> "StageRecord":
        """The inverse of `plain`, and the reader of records of the first release.

        Raises:
            CorruptError: it is no record.
            UserError: a newer splitray wrote it.
        """
        record = dict(record)
        stage, schema = record.get("stage"), record.get("schema")
        if stage not in _KNOWN:
            raise CorruptError(f"{where} is the record of no stage")
        if schema is None:  # of the first release
            record["work"] = record.get("work") or None
            if stage == "plan":
                record["result"] = {"plan": record.get("result")}
        elif schema != SCHEMA:
            raise UserError(f"{where} has the schema {schema!r}, and this splitray reads {SCHEMA!r}: use a newer one")
        record["result"] = from_json(_KNOWN[stage], record.get("result"), where)
        return from_json(cls, record | {"schema": SCHEMA}, where)
