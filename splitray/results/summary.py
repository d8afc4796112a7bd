"""`summary.json`: every number of a run, as the report reads it.

The file carries the schema `splitray-summary-2`. A summary of the first release carries none and has the same fields.
Parts that a stopped run lacks are None. Losses are in nats per token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import UserError
from splitray.results.codec import PlanField, from_json, to_json
from splitray.results.equal_hours import EqualHours
from splitray.results.evaluation import EvaluationResult, Prediction
from splitray.results.exams import ExamsResult
from splitray.results.ledger import Price
from splitray.results.stages import BaseResult, Counts, LadderResult, Searched, Specialist

SCHEMA = "splitray-summary-2"


@dataclass(frozen=True)
class Machine:
    """What a run was done on."""

    cpus: float
    gpus: float
    nodes: int
    cpu_model: str
    memory_gib: float | None = None


@dataclass(frozen=True)
class Domain:
    """One domain: its text, its weight, and the terms that tell it from the others.

    Attributes:
        tokens_per_byte: of training and validation text. characters_lost: the share of a sample's characters that the
            tokenizer cannot write. Both None in corpora of the first release.
    """

    name: str
    train: Counts
    validation: Counts
    weight: float
    top_terms: tuple[str, ...]
    tokens_per_byte: float | None = None
    characters_lost: float | None = None


@dataclass(frozen=True)
class RowSplitGroup:
    """A group of documents too large for one side, and its share of its file's rows."""

    group: str
    rows: int
    share_of_file: float


@dataclass(frozen=True)
class CorpusSummary:
    """The corpus: what was read, what was left out by reason, and seconds by pass."""

    key: str
    documents: int
    skipped: Mapping[str, int]
    row_split_groups: tuple[RowSplitGroup, ...]
    embedder: str
    vocabulary: int
    bytes_per_token: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class LadderSummary(LadderResult):
    """The ladder with its table: rows of `splitray.ladder.grid.TABLE`."""

    table: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class LawSummary:
    """The law fitted on the ladder: constants by name (by domain, where there are several), held-out errors by form
    and protocol, and what it warns of."""

    form: str
    constants: Mapping[str, Any]
    heldout: tuple[Mapping[str, Any], ...] | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StageSummary:
    """A stage's time and work; see `splitray.results.stages.Work`.

    `seconds`, `tokens_trained` and what follows from them are of the start that finished it. `tokens_needed` is what
    its results needed. `tokens_spent` is what all starts trained for it, whatever became of that. None where unknown.
    """

    stage: str
    began: float
    seconds: float
    tokens_trained: int
    tokens_per_second: float | None
    segments: int
    failures: int
    training_seconds: float
    tokens_needed: int | None = None
    tokens_spent: int | None = None
    flops_needed: float | None = None
    flops_spent: float | None = None


@dataclass(frozen=True)
class Cost:
    """Tokens that finding the split needed, and their share of D_T; `spent` by all starts, None where not known.

    In summaries of the first release `tokens` are those that the last start trained.
    """

    tokens: int
    share_of_budget: float
    spent: int | None = None


@dataclass(frozen=True)
class DeviceUsage:
    """What one stage, or one purpose, held and used of a kind of device.

    Attributes:
        name: of the stage or the purpose.
        device: "GPU" or "CPU".
        hours_held: device-hours of workers from their first sign of life to their end.
        hours_used: of these, while they trained or scored models.
        energy_kwh: that the devices have counted for these workers; None where no device counts.
        money: of the hours held; None where a start had no price, or several currencies.
        energy_hours: of the hours held, those that the energy was counted over; None where that is not known.
    """

    name: str
    device: str
    hours_held: float
    hours_used: float
    energy_kwh: float | None = None
    money: float | None = None
    energy_hours: float | None = None

    @property
    def energy_is_whole(self) -> bool:
        """Whether the energy was counted over all hours held, as far as one can tell."""
        return self.energy_hours is None or self.energy_hours >= 0.99 * self.hours_held


@dataclass(frozen=True)
class UsageSummary:
    """What all starts of a run held and used of the cluster.

    Attributes:
        stages, purposes: the same hours, by stage and by purpose. total: by kind of device.
        hours_provisioned: device-hours that the cluster had while the run went on, whoever used them; on a cluster of
            the run's own these are what a bill is about. money_provisioned: their price.
        currency: of all money here; empty where there is none.
        prices: each that a start had, with its source.
        uncounted_starts: starts by a splitray that did not count hours.
    """

    stages: tuple[DeviceUsage, ...]
    purposes: tuple[DeviceUsage, ...]
    total: tuple[DeviceUsage, ...]
    hours_provisioned: float
    money_provisioned: float | None = None
    currency: str = ""
    prices: tuple[Price, ...] = ()
    uncounted_starts: int = 0


@dataclass(frozen=True)
class Summary:
    """Every number of a run.

    Args:
        as_of: when the last of its stages ended, in seconds since the epoch.
        config: the resolved configuration.
        budget: D_T in whole batches of every domain. params: N of the target. params_total: with all its tables.
        plan: by the ladder's law. final_plan: after the search's refits.
        predictions: what the law that planned says of every measured strategy.
        starts: how many starts of the run have done something; None where they were not counted.
        usage: hours, energy and money, over all starts; None where no start counted hours.
        equal_hours: the split at equal hours; None before the law, and where no start counted hours.
    """

    name: str
    created: str
    splitray: str
    config: Mapping[str, Any]
    machine: Machine
    budget: int
    params: int
    params_total: int
    domains: tuple[Domain, ...]
    corpus: CorpusSummary
    as_of: float = 0.0
    precision: str = ""
    ladder: LadderSummary | None = None
    law: LawSummary | None = None
    plan: PlanField | None = None
    search: Searched | None = None
    final_plan: PlanField | None = None
    base: BaseResult | None = None
    specialists: tuple[Specialist, ...] | None = None
    router: str | None = None
    evaluation: EvaluationResult | None = None
    predictions: tuple[Prediction, ...] = ()
    exams: ExamsResult | None = None
    stages: tuple[StageSummary, ...] = field(default_factory=tuple)
    ladder_cost: Cost | None = None
    search_cost: Cost | None = None
    starts: int | None = None
    usage: UsageSummary | None = None
    equal_hours: EqualHours | None = None
    schema: str = SCHEMA

    @property
    def given(self) -> bool:
        """Whether the domains were given by the sources, and not found as clusters."""
        corpus = self.config.get("corpus", {})
        return bool(corpus.get("domain_column") or corpus.get("source_domains"))

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return to_json(self)

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str = "summary.json") -> "Summary":
        """The inverse of `plain`.

        Raises:
            CorruptError: it is no summary.
            UserError: a newer splitray wrote it.
        """
        schema = record.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise UserError(f"{where} has the schema {schema!r}, and this splitray reads {SCHEMA!r}: use a newer one")
        return from_json(cls, record, where)


def every_loss(summary: Summary) -> dict[str, Any]:
    """Every loss of a finished run: two runs of one config and seed must agree in all of them."""
    ladder, search, evaluation = summary.ladder, summary.search, summary.evaluation
    assert ladder is not None and evaluation is not None, "the run is not finished"
    places = ("params", "pretrain_tokens", "specialize_tokens", "domain", "loss")
    return {
        "ladder": [[row[name] for name in places] for row in ladder.table],
        "search": [[trial.split_fraction, trial.loss] for trial in (search.trials if search else ())],
        "matrix": [list(row) for row in evaluation.matrix.loss],
        "routed": evaluation.routed.loss,
        "comparison": [[row.strategy, row.loss, dict(row.by_domain)] for row in evaluation.comparison],
    }
