"""What a forecast was worth: its losses beside the measured ones, its differences to unsplit, and the plan's regret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitray.errors import CorruptError
from splitray.law.planning.estimate import Estimate
from splitray.proof.bowl import LEAST, Bowl, Regret
from splitray.proof.forecast import Forecast, PredictedLoss
from splitray.proof.statistics import Proportion, proportion
from splitray.results.codec import from_json, to_json
from splitray.results.evaluation import Compared
from splitray.storage.checksum import Schema

SCHEMA = Schema("proof", 1, unnamed=None)


@dataclass(frozen=True)
class ScoredLoss:
    """One predicted loss beside the measured one; errors are relative, `held` says whether the interval has it."""

    predicted: PredictedLoss
    loss: float
    error: float
    chinchilla_error: float
    held: bool | None

    @classmethod
    def of(cls, predicted: PredictedLoss, loss: float) -> "ScoredLoss":
        low, high = predicted.low, predicted.high
        held = bool(low <= loss <= high) if low is not None and high is not None else None
        return cls(predicted, loss, predicted.value / loss - 1, predicted.chinchilla / loss - 1, held)


@dataclass(frozen=True)
class ScoredSplit:
    """One split of the line: mean losses over the domains that the law knows, in nats per token.

    predicted_difference, difference: to the unsplit model of the same tokens; None where that is not among them.
    known: a model of it stood in the store when the forecast was made, so that it does not count.
    """

    split_fraction: float
    predicted: float
    loss: float
    predicted_difference: float | None
    difference: float | None
    known: bool


@dataclass(frozen=True)
class Errors:
    """Errors of a forecast over what counts.

    relative, chinchilla: mean absolute relative errors of losses, by the law and by one that knows D + D' alone.
    median: as `relative`. A law that a ladder leaves open may miss one loss, at D = 0, by many orders of magnitude.
    held: how often the interval had the loss; None without intervals.
    difference, bias: mean absolute and mean error of the differences to unsplit, nats per token; None without any.
    difference_median: the median absolute error of them.
    """

    losses: int
    relative: float
    median: float
    chinchilla: float
    held: Proportion | None
    differences: int
    difference: float | None
    difference_median: float | None
    bias: float | None

    @classmethod
    def of(cls, losses: Sequence[ScoredLoss], differences: Sequence[float]) -> "Errors | None":
        """Of losses, and of the errors of differences; None where nothing counts."""
        if not losses:
            return None
        bounded = [s.held for s in losses if s.held is not None]
        return cls(
            len(losses),
            float(np.mean([abs(s.error) for s in losses])),
            float(np.median([abs(s.error) for s in losses])),
            float(np.mean([abs(s.chinchilla_error) for s in losses])),
            proportion(sum(bounded), len(bounded)) if bounded else None,
            len(differences),
            float(np.mean(np.abs(differences))) if differences else None,
            float(np.median(np.abs(differences))) if differences else None,
            float(np.mean(differences)) if differences else None,
        )


@dataclass(frozen=True)
class MeasuredBowl:
    """Loss against split fraction, over all domains by their weights; nats per token.

    smooth: the curve through the points, at hundredths of the line. regret: what the planned split loses against the
    curve's bottom. regret_measured: against the best of the points.
    """

    split_fraction: tuple[float, ...]
    loss: tuple[float, ...]
    noise: float
    planned: float
    best_measured: float
    regret_measured: float
    gain_measured: float | None
    smooth: tuple[float, ...] | None = None
    optimum: Estimate | None = None
    regret: Regret | None = None

    @classmethod
    def of(cls, fractions: Sequence[float], losses: Sequence[float], noise: float, planned: float) -> "MeasuredBowl":
        """From the measured points.

        Args:
            noise: standard deviation of a mean loss, nats per token, without what all points share.
            planned: the planned fraction; one of `fractions`.
        """
        order = np.argsort(fractions)
        x, y = np.asarray(fractions, dtype=float)[order], np.asarray(losses, dtype=float)[order]
        here, best = float(y[int(np.argmin(np.abs(x - planned)))]), int(y.argmin())
        curve = Bowl(x, y, noise) if len(x) >= LEAST else None
        return cls(
            tuple(x.tolist()),
            tuple(y.tolist()),
            noise,
            planned,
            float(x[best]),
            here - float(y[best]),
            float(y[-1] - here) if x[-1] == 1.0 else None,
            tuple(curve.curve(np.linspace(0.0, 1.0, 101)).tolist()) if curve else None,
            curve.optimum() if curve else None,
            curve.regret(planned) if curve else None,
        )


@dataclass(frozen=True)
class Proof:
    """A forecast, what was measured after it, and what it was worth.

    Attributes:
        name: of the run. seal: SHA-256 of the forecast's file.
        comparison: every split against the unsplit model, over all domains, with intervals over documents.
        errors: over what was not known when the forecast was made; None where all of it was.
    """

    name: str
    seal: str
    forecast: Forecast
    losses: tuple[ScoredLoss, ...]
    splits: tuple[ScoredSplit, ...]
    comparison: tuple[Compared, ...]
    bowl: MeasuredBowl
    errors: Errors | None

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return to_json(self)

    @classmethod
    def parse(cls, record: object, where: str) -> "Proof":
        """The inverse of `plain`.

        Raises:
            CorruptError: it is no proof.
        """
        if not isinstance(record, dict):
            raise CorruptError(f"{where} is no proof")
        return from_json(cls, record, where)


def scored_splits(forecast: Forecast, losses: Sequence[ScoredLoss]) -> tuple[ScoredSplit, ...]:
    """Mean losses of every split of a forecast line, by the weights of the domains that the law knows.

    Args:
        losses: measured; a split that lacks a domain is left out.
    """
    assert forecast.budget is not None, "no budget line"
    domains = list(dict.fromkeys(row.domain for row in forecast.rows))
    weights = forecast.weights or dict.fromkeys(domains, 1 / len(domains))
    points: dict[int, dict[str, ScoredLoss]] = {}
    for scored in losses:
        points.setdefault(scored.predicted.pretrain_tokens, {})[scored.predicted.domain] = scored
    whole = points.get(forecast.budget, {})
    unsplit = _means(whole, weights) if set(whole) == set(domains) else None
    found = []
    for tokens, point in sorted(points.items()):
        if set(point) != set(domains):
            continue
        predicted, loss = _means(point, weights)
        known = any(s.predicted.known for s in (*point.values(), *(whole.values() if unsplit else ())))
        found.append(
            ScoredSplit(
                tokens / forecast.budget,
                predicted,
                loss,
                predicted - unsplit[0] if unsplit else None,
                loss - unsplit[1] if unsplit else None,
                known,
            )
        )
    return tuple(found)


def _means(point: Mapping[str, ScoredLoss], weights: Mapping[str, float]) -> tuple[float, float]:
    """The weighted mean of predicted and of measured losses."""
    return (
        float(sum(weights[d] * s.predicted.value for d, s in point.items())),
        float(sum(weights[d] * s.loss for d, s in point.items())),
    )


def difference_errors(splits: Sequence[ScoredSplit]) -> list[float]:
    """Predicted less measured differences to unsplit of the splits that count, nats per token; unsplit has none."""
    return [
        s.predicted_difference - s.difference
        for s in splits
        if s.predicted_difference is not None and s.difference is not None and s.split_fraction < 1 and not s.known
    ]
