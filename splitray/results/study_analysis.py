"""What the analysis of a study finds, typed: curves, efficiency ratios, the law's view, advice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splitray.results.codec import EstimateField, from_json, to_json
from splitray.storage.checksum import Schema

SCHEMA = Schema("study", 1, unnamed=None)
FORECAST = Schema("studyforecast", 1, unnamed=None)

# How well a ratio is known. "unknown": neither arm reaches the level, or no training is needed for it.
MEASURED, AT_LEAST, AT_MOST, BETWEEN, UNKNOWN = "measured", "at least", "at most", "between", "unknown"


@dataclass(frozen=True)
class CurvePoint:
    """One snapshot of a line: the mean over `seeds` with its 95 % interval. flops: 6 N D of the continued training."""

    tokens: int
    flops: float
    epochs: float
    value: EstimateField
    seeds: int


@dataclass(frozen=True)
class StudyCurve:
    """A measure of one model on one arm against continued tokens; the first point is the model as it was.

    chosen: the place of the snapshot whose loss on the domain's validation text is least.
    """

    model: str
    root: str
    params: int
    arm: str
    measure: str
    held_out: bool
    points: tuple[CurvePoint, ...]
    chosen: int

    @property
    def best(self) -> CurvePoint:
        return self.points[self.chosen]


@dataclass(frozen=True)
class Interval:
    """What is known of a number: that it lies in [low, high]. None is no bound; equal ends are the number itself."""

    low: float | None
    high: float | None

    @property
    def exact(self) -> bool:
        return self.low is not None and self.low == self.high


@dataclass(frozen=True)
class EfficiencyRatio:
    """SGER of one model: the compute that `general` needs over what `arm` needs to reach a level of a measure.

    level: in the measure's unit; `named` says how it was chosen. general, other: FLOPs to it. ratio: what the means
    over seeds say. low, high: 95 % interval, None where it is open. kind: how well it is known; see above.
    unmeasured: the share of resampled tables in which the ratio is a bound only.
    """

    model: str
    root: str
    params: int
    arm: str
    measure: str
    named: str
    level: float
    general: Interval
    other: Interval
    ratio: Interval
    kind: str
    low: float | None
    high: float | None
    unmeasured: float
    held_out: bool = False


@dataclass(frozen=True)
class LeftOut:
    """The slope without one size; and what it then predicted of that size, with the interval of one more size."""

    model: str
    slope: float | None
    predicted: EstimateField | None
    ratio: Interval
    inside: bool | None


@dataclass(frozen=True)
class RatioSlope:
    """log SGER = log `at_reference` + slope log(N / `reference`) + noise, over the sizes of an arm.

    sizes: ratios that say something, `censored` of them bounds. spread: the noise's standard deviation. reason: why
    there is no slope, "" where there is one.
    """

    arm: str
    measure: str
    named: str
    sizes: int
    censored: int
    reference: float
    slope: EstimateField | None
    at_reference: float | None
    spread: float | None
    left_out: tuple[LeftOut, ...]
    reason: str = ""


@dataclass(frozen=True)
class ArmMultiplier:
    """The law's effective compute multiplier: `general` needs it times the compute of `arm` to end at its loss."""

    model: str
    params: float
    tokens: float
    arm: str
    multiplier: EstimateField
    extrapolated: bool


@dataclass(frozen=True)
class SurfaceFit:
    """The law's surface over own bases.

    form, formula, constants: of the one that extrapolates best. heldout: by form, the root mean square error of log
    loss at the largest size, hidden from the fit. noise: of log loss. stretch: what draws are widened by beyond the
    table. slope: of the multiplier against N by arm, at the middle of the tokens.
    """

    measure: str
    form: str
    formula: str
    constants: Mapping[str, float]
    rows: int
    sizes: int
    noise: float
    stretch: float
    heldout: Mapping[str, float]
    multipliers: tuple[ArmMultiplier, ...]
    slopes: Mapping[str, EstimateField]


@dataclass(frozen=True)
class Forgot:
    """General loss of a chosen snapshot less that of the model before; nats per token, with its 95 % interval.

    to_general: less the general arm's at the same snapshot; None for that arm itself.
    """

    model: str
    params: int
    arm: str
    tokens: int
    before: float
    after: float
    difference: EstimateField
    to_general: EstimateField | None


@dataclass(frozen=True)
class ExamRow:
    """One arm of one model in one exam, at the snapshot that validation text chose; 95 % intervals.

    before: nats per byte less those of the model as it was. to_general: less those of the general arm, paired by
    question and seed; None for that arm itself.
    """

    exam: str
    model: str
    params: int
    arm: str
    tokens: int
    questions: int
    seeds: int
    nats_per_byte: EstimateField
    accuracy: EstimateField
    margin: EstimateField
    before: EstimateField | None
    to_general: EstimateField | None
    accuracy_to_general: EstimateField | None


@dataclass(frozen=True)
class Option:
    """One way to spend the compute: a model, an arm, the tokens that follow.

    loss: predicted for the domain, with its 80 % interval. epochs: passes over the topic's tokens. best: the share of
    the draws in which it is the best, None without draws.
    """

    model: str
    params: float
    arm: str
    tokens: float
    epochs: float
    loss: EstimateField
    best: float | None
    extrapolated: bool


@dataclass(frozen=True)
class Decider:
    """The run that would tell most of the choice for its compute.

    saved: nats per token that the choice is expected to be better by after it.
    """

    model: str
    params: float
    arm: str
    tokens: float
    flops: float
    saved: float


@dataclass(frozen=True)
class Advice:
    """Filter, scale the model, or buy tokens?

    options: the best first. margin: the loss of the best option of another arm (or size) less the best's; 80 %
    intervals. more_text: what twice the topic's tokens would save at the same compute. unknown: what the study does not
    show. decider: None where no run would change the choice.
    """

    flops: float
    topic_tokens: float | None
    options: tuple[Option, ...]
    other_arm: EstimateField | None
    other_size: EstimateField | None
    more_text: EstimateField | None
    unknown: tuple[str, ...]
    decider: Decider | None
    level: float

    @property
    def first(self) -> Option:
        return self.options[0]


@dataclass(frozen=True)
class ArmRegret:
    """One budget of a hold-out: nats per token above the best measured arm.

    advised: the arm that the advice takes. regret: by rule: "advice", "always filter", "never filter"; None where that
    rule's arm was not measured. best: the arm that was best.
    """

    held_out: str
    model: str
    flops: float
    advised: str
    best: str
    regret: Mapping[str, float | None]


@dataclass(frozen=True)
class PredictedPoint:
    """The predicted loss of one model after `tokens` on an arm, with the interval of a single mean over seeds."""

    arm: str
    tokens: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StudyForecast:
    """Losses of a size before it was trained.

    made: UTC, ISO 8601. level: mass of the intervals. rows, sizes: what the law was fitted to. before: the base's own
    loss, where it was measured already and the forecast starts from it. ratios: forecast SGER by arm at the most
    tokens.
    """

    made: str
    measure: str
    params: float
    level: float
    form: str
    rows: int
    sizes: int
    before: float | None
    points: tuple[PredictedPoint, ...]
    ratios: Mapping[str, EstimateField] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON types, with the schema and a checksum."""
        return FORECAST.close(to_json(self))

    @classmethod
    def parse(cls, record: object, where: str) -> "StudyForecast":
        """The inverse of `plain`.

        Raises:
            CorruptError: it was changed since, or is no forecast.
        """
        return from_json(cls, FORECAST.open(record, where), where)


@dataclass(frozen=True)
class ForecastError:
    """One forecast loss beside the measured one. error: relative. inside: whether the interval has it."""

    predicted: PredictedPoint
    measured: float
    error: float
    inside: bool


@dataclass(frozen=True)
class ForecastScore:
    """What a forecast was worth.

    relative: mean absolute relative error. inside: the share of losses in their intervals. differences: mean absolute
    error of the differences to the general arm at equal tokens, nats per token; None without any.
    """

    points: tuple[ForecastError, ...]
    relative: float
    inside: float
    differences: float | None
    best_arm_right: bool | None


@dataclass(frozen=True)
class StudyAnalysis:
    """Everything that the page of a study shows, and no more than its tables say."""

    curves: tuple[StudyCurve, ...]
    ratios: tuple[EfficiencyRatio, ...]
    slopes: tuple[RatioSlope, ...]
    surface: SurfaceFit | None
    forgetting: tuple[Forgot, ...]
    exams: tuple[ExamRow, ...]
    advice: Advice | None
    warnings: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON types, with the schema and a checksum."""
        return SCHEMA.close(to_json(self))

    @classmethod
    def parse(cls, record: object, where: str) -> "StudyAnalysis":
        """The inverse of `plain`.

        Raises:
            CorruptError: it is damaged, or no analysis of a study.
        """
        return from_json(cls, SCHEMA.open(record, where), where)
