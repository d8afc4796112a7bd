"""What a law predicts of a budget line before anything of it is trained: losses, the plan, and the whole curve."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from splitray.errors import CorruptError
from splitray.law import fit
from splitray.law.arrays import Array
from splitray.law.forms.schedule import RateSchedule
from splitray.law.law import Law
from splitray.law.planning.plan import Plan
from splitray.law.planning.prediction import worth_of
from splitray.law.planning.question import Question
from splitray.law.planning.sweep import loss_curve
from splitray.law.repetition import Text
from splitray.proof.statistics import replicate_noise
from splitray.results.codec import EstimateField, from_json, to_json
from splitray.storage.checksum import Schema

LEVEL = 0.8  # mass of the intervals
SCHEMA = Schema("forecast", 1, unnamed=None)
_CURVE = np.linspace(0.0, 1.0, 101)


class Place(NamedTuple):
    """A model to predict: D and D' in tokens, and the domain that it is scored on."""

    pretrain_tokens: int
    specialize_tokens: int
    domain: str


@dataclass(frozen=True)
class PredictedLoss:
    """The predicted loss of one model on one domain, with the interval of a single run; nats per token.

    chinchilla: by a law that knows D + D' alone. known: the model stood in the store when the forecast was made, so
    that it is none.
    """

    pretrain_tokens: int
    specialize_tokens: int
    domain: str
    value: float
    low: float | None
    high: float | None
    chinchilla: float
    known: bool = False


@dataclass(frozen=True)
class FittedLaw:
    """The law behind a forecast: the share of every form, the rows it was fitted on, and its residuals' deviation."""

    mixture: Mapping[str, float]
    rows: int
    noise: float | None

    @property
    def form(self) -> str:
        """The form with the largest share."""
        return max(self.mixture, key=lambda form: self.mixture[form])


@dataclass(frozen=True)
class PlannedSplit:
    """What the law's plan of the line promises."""

    split_fraction: EstimateField
    predicted_loss: EstimateField
    unsplit_loss: EstimateField
    gain: EstimateField
    split_threshold: EstimateField
    compute_multiplier: EstimateField

    @classmethod
    def of(cls, plan: Plan) -> "PlannedSplit":
        return cls(*(getattr(plan, name) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Curve:
    """The predicted mean loss along the line [points], and its band [2][points]; None without draws."""

    split_fraction: tuple[float, ...]
    loss: tuple[float, ...]
    band: tuple[tuple[float, ...], tuple[float, ...]] | None


@dataclass(frozen=True)
class Forecast:
    """What a law predicts of models that are not trained yet.

    Attributes:
        made: UTC, ISO 8601.
        params: N of the models.
        level: mass of every interval.
        run_noise: standard deviation of a single run's log loss, in every interval of a loss.
        largest_fitted: the largest `params` and `pretrain_tokens` that the law was fitted on.
        budget: D_T of the line in tokens; None where the rows are no budget line.
        weights: of the domains that the law knows, adding up to 1; empty where they are equal.
        law_file: SHA-256 of the law that it is from, where that is a file of a run.
    """

    made: str
    params: int
    level: float
    law: FittedLaw
    run_noise: float
    largest_fitted: Mapping[str, int]
    rows: tuple[PredictedLoss, ...]
    budget: int | None = None
    plan: PlannedSplit | None = None
    warnings: tuple[str, ...] = ()
    curve: Curve | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    law_file: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return to_json(self)

    @classmethod
    def parse(cls, record: object, where: str) -> "Forecast":
        """The inverse of `plain`; fields that it does not know are passed over.

        Raises:
            CorruptError: it is no forecast.
        """
        if not isinstance(record, dict):
            raise CorruptError(f"{where} is no forecast")
        return from_json(cls, record, where)


@dataclass(frozen=True)
class Forecaster:
    """The law as it is fitted now, a Chinchilla law beside it that knows no D', and the noise of a single run.

    runs: the table that both were fitted on. noise: standard deviation of log loss; see `run_noise`. text: how far each
    domain's text goes until it is read again; None where it is never.
    """

    law: Law
    chinchilla: Law
    runs: pa.Table
    noise: float
    text: Text | None = None

    @classmethod
    def of(cls, law: Law, runs: pa.Table, seed: int = 0, text: Text | None = None) -> "Forecaster":
        """From a law and the table that it was fitted on."""
        flat = fit(runs, form="chinchilla", seed=seed, repetition=law.repetition.constant)
        return cls(law, flat, runs, run_noise(law, runs.to_pylist()), text)

    def loss(
        self, place: Place, params: float, level: float = LEVEL, schedule: RateSchedule | None = None
    ) -> PredictedLoss:
        """The predicted loss of a model: the interval is that of the law's draws, each with a run's noise.

        schedule: learning-rate schedule of the model; None for that of the law's runs.
        """
        tokens = worth_of(self.text, self.law, place.pretrain_tokens, place.specialize_tokens, place.domain)
        point = (params, tokens[0], tokens[1])
        low, high = self._interval(self.law.predict_draws(*point, place.domain, schedule), level)
        return PredictedLoss(
            *place,
            value=float(self.law.predict(*point, place.domain, schedule=schedule)),
            low=low,
            high=high,
            chinchilla=float(self.chinchilla.predict(*point, place.domain)),
        )

    def _interval(self, draws: Array, level: float) -> tuple[float | None, float | None]:
        if not draws.size:
            return None, None
        draws = draws * np.exp(self.noise * np.random.default_rng(0).standard_normal(draws.shape))
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def rows(
        self, places: Iterable[Place], params: float, schedule: RateSchedule | None = None
    ) -> tuple[PredictedLoss, ...]:
        """Predicted losses of models on the domains that the law knows."""
        known = (place for place in places if place.domain in self.law.domains)
        return tuple(self.loss(place, params, schedule=schedule) for place in known)

    def forecast(self, places: Iterable[Place], params: int, schedule: RateSchedule | None = None) -> Forecast:
        """The forecast of models that lie on no budget line."""
        return Forecast(
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            params=params,
            level=LEVEL,
            law=FittedLaw(self.law.mixture, self.runs.num_rows, self.law.noise),
            run_noise=self.noise,
            largest_fitted={n: int(max(self.runs[n].to_pylist())) for n in ("params", "pretrain_tokens")},
            rows=self.rows(places, params, schedule),
        )


def curve_of(law: Law, question: Question, level: float = LEVEL) -> Curve:
    """The law's mean loss along a budget line, at hundredths of it."""
    loss, band = loss_curve(law, question, _CURVE, level)
    edges = None if band is None else (tuple(band[0].tolist()), tuple(band[1].tolist()))
    return Curve(tuple(_CURVE.tolist()), tuple(loss.tolist()), edges)


def run_noise(law: Law, rows: Sequence[Mapping[str, Any]]) -> float:
    """Standard deviation of a single run's log loss, from replicated seeds where there are any, else the residuals.

    The residuals also hold what the form cannot follow, and a new run will stand as far off the law: the larger counts.
    """
    noise, residuals = replicate_noise(rows), law.noise or 0.0
    return max(float(np.hypot(noise.seed, noise.rest)), residuals) if noise.cells else residuals
