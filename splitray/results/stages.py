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
from splitray.results.exams import ExamsResult
from splitray.training.split import Split

SCHEMA = "splitray-stage-2"


@dataclass(frozen=True)
class Counts:
    """Tokens (end tokens included), documents and bytes of UTF-8 text."""

    tokens: int
    documents: int
    bytes: int


@dataclass(frozen=True)
class DomainCounts:
    """One domain of the corpus by its sides."""

    name: str
    train: Counts
    validation: Counts


@dataclass(frozen=True)
class CorpusResult:
    """Stage corpus: the artifact's key in the store, and its domains."""

    key: str
    domains: tuple[DomainCounts, ...]


@dataclass(frozen=True)
class LadderResult:
    """Stage ladder: what its leaves cost as one tree, and one by one. `saving` is the ratio of the two."""

    leaves: int
    segments: int
    tokens_trained: int
    tokens_from_scratch: int
    saving: float
    seeds: int


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
class Prediction:
    """A law's prediction of a mean loss that was then measured, both over the domains that the law knows.

    Args:
        strategy: what was trained.
        against: the strategy whose loss is subtracted from both; None for the loss itself.
        predicted: nats per token, with the interval of a single run.
        measured: nats per token.
        level: mass of the interval.
    """

    strategy: str
    against: str | None
    predicted: Estimate
    measured: float
    level: float

    @property
    def inside(self) -> bool | None:
        """Whether the measured loss lies in the interval; None without one."""
        low, high = self.predicted.low, self.predicted.high
        return None if low is None or high is None else low <= self.measured <= high


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
class LossMatrix:
    """Models x domains: loss in nats per token and bits per byte, [models][domains]."""

    models: tuple[str, ...]
    domains: tuple[str, ...]
    loss: tuple[tuple[float, ...], ...]
    bits_per_byte: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class RoutedLoss:
    """Losses where a router chose each document's specialist.

    known_loss: with the domains known. agreement: share of documents that went to their own domain.
    """

    loss: float
    bits_per_byte: float
    known_loss: float
    agreement: float


@dataclass(frozen=True)
class Routed(RoutedLoss):
    """Losses where the router saw the first characters of each document.

    difference: mean loss less the unsplit model's, with its 95 % interval; None in earlier records.
    """

    prefix_characters: int
    difference: Estimate | None = None


@dataclass(frozen=True)
class Compared:
    """One strategy at the equal number of tokens.

    specialize_tokens: the mean D'. by_domain: losses in nats per token. difference: mean loss less the unsplit
    model's, with its 95 % interval. epochs: most passes over one domain's training text.
    """

    strategy: str
    split_fraction: float
    pretrain_tokens: int
    specialize_tokens: float
    tokens: int
    loss: float
    bits_per_byte: float
    by_domain: Mapping[str, float]
    difference: Estimate | None
    epochs: float | None = None


@dataclass(frozen=True)
class Contrast:
    """The planned split against one other strategy: its mean loss less the other's, with its 95 % interval."""

    strategy: str
    difference: Estimate

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


@dataclass(frozen=True)
class Resampled:
    """What intervals of a comparison rest on: groups of validation documents, in all and by domain.

    A group may have documents in several domains.
    """

    groups: int
    documents: int
    by_domain: Mapping[str, int]


@dataclass(frozen=True)
class MixtureLoss:
    """Losses of the specialists and the base as one model that is told no domain.

    Every model reads every token. Weights begin with the router's softened distances, and follow each model's own
    likelihood of the document. difference: mean loss less the unsplit model's, with its 95 % interval; None where the
    unsplit model was not trained.
    """

    loss: float
    bits_per_byte: float
    models: int
    temperature: float
    difference: Estimate | None


@dataclass(frozen=True)
class FinishedBase:
    """The base with a decay of its own, for use: its exported folder, its segment and D in tokens.

    It is the model of the loss matrix's first row.
    """

    path: str
    key: str
    tokens: int


@dataclass(frozen=True)
class EvaluationResult:
    """Stage evaluate.

    base: None where the plan splits at zero. contrasts: the planned split against every other strategy. resampled:
    what the intervals are over. In earlier records `base` and `mixture` are None, there are no contrasts, and the
    intervals are over single documents where `resampled` is None.
    """

    matrix: LossMatrix
    routed: Routed
    comparison: tuple[Compared, ...]
    note: str
    base: FinishedBase | None = None
    mixture: MixtureLoss | None = None
    contrasts: tuple[Contrast, ...] = ()
    resampled: Resampled | None = None

    def strategy(self, name: str) -> Compared | None:
        return next((row for row in self.comparison if row.strategy == name), None)


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
        if stage not in RESULTS:
            raise CorruptError(f"{where} is the record of no stage")
        if schema is None:  # of the first release
            record["work"] = record.get("work") or None
            if stage == "plan":
                record["result"] = {"plan": record.get("result")}
        elif schema != SCHEMA:
            raise UserError(f"{where} has the schema {schema!r}, and this splitray reads {SCHEMA!r}: use a newer one")
        record["result"] = from_json(RESULTS[stage], record.get("result"), where)
        return from_json(cls, record | {"schema": SCHEMA}, where)
