"""What stage evaluate leaves, and the law's predictions beside it."""

from collections.abc import Mapping
from dataclasses import dataclass

from splitray.law.planning.estimate import Estimate

PLANNED, UNSPLIT = "planned split", "unsplit"  # strategies by name


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
        return self.predicted.holds(self.measured)


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
        return self.difference.holds(0) is False


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
class Forgetting:
    """What a specialist's own stretch did to its loss on the mixture, in nats per token.

    before: of the finished base, the unsplit model of the same D, as the weighted mean over all domains. after: of the
    specialist. difference: after less before, with its 95 % interval. elsewhere: the same difference over the other
    domains alone; None where there is one domain.
    """

    domain: str
    before: float
    after: float
    difference: Estimate
    elsewhere: Estimate | None


@dataclass(frozen=True)
class EvaluationResult:
    """Stage evaluate.

    base: None where the plan splits at zero. contrasts: the planned split against every other strategy. resampled:
    what the intervals are over. forgetting: of every specialist with a stretch of its own, where there is a base. In
    earlier records `base` and `mixture` are None, there are no contrasts and no forgetting, and the intervals are over
    single documents where `resampled` is None.
    """

    matrix: LossMatrix
    routed: Routed
    comparison: tuple[Compared, ...]
    note: str
    base: FinishedBase | None = None
    mixture: MixtureLoss | None = None
    contrasts: tuple[Contrast, ...] = ()
    resampled: Resampled | None = None
    forgetting: tuple[Forgetting, ...] = ()

    def strategy(self, name: str) -> Compared | None:
        return next((row for row in self.comparison if row.strategy == name), None)
