"""Forecasts and their scores against a planted law: what is right is found right, and what is wrong by how much."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from splitray.errors import CorruptError
from splitray.law import fit
from splitray.law.planning.question import Question
from splitray.proof.figure import draw
from splitray.proof.forecast import Forecast, Forecaster, Place, PlannedSplit, curve_of
from splitray.proof.scoring import Errors, MeasuredBowl, Proof, ScoredLoss, difference_errors, scored_splits
from splitray.proof.statistics import interval_score
from splitray.proof.table import terminal, verdict
from tests.support import ROOT
from tests.support.example import LAW

PARAMS, BUDGET, DOMAINS = 400_000, 12_000_000, ("law", "code")
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
NOISE = 0.002


def truth(place: Place, params: float = PARAMS) -> float:
    offset = {"law": 0.0, "code": -0.3}[place.domain]
    return float(LAW.predict(params, place.pretrain_tokens, place.specialize_tokens)) + offset


def places() -> list[Place]:
    return [
        Place(round(s * BUDGET), round((1 - s) * BUDGET / len(DOMAINS)), domain)
        for s in FRACTIONS
        for domain in DOMAINS
    ]


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    rng, rows = np.random.default_rng(1), []
    for params in (20_000, 50_000, 100_000, 200_000):
        for before in (2e5, 6e5, 2e6, 6e6):
            for after in (0.0, 1e4, 1e5, 1e6):
                for domain in DOMAINS:
                    loss = truth(Place(int(before), int(after), domain), params) * np.exp(NOISE * rng.standard_normal())
                    row = {"params": params, "pretrain_tokens": before, "specialize_tokens": after, "seed": 0}
                    rows.append(row | {"domain": domain, "loss": loss})
    table = pa.Table.from_pylist(rows)
    law = fit(table, form="shared_specific", bootstrap=60)
    return Forecaster.of(law, table)


@pytest.fixture(scope="module")
def forecast(forecaster: Forecaster) -> Forecast:
    question = Question(PARAMS, BUDGET, len(DOMAINS))
    made = forecaster.forecast(places(), PARAMS)
    return replace(made, budget=BUDGET, curve=curve_of(forecaster.law, question))


def measured(forecast: Forecast, shift: float = 0.0) -> tuple[ScoredLoss, ...]:
    """The true losses; those of split models moved by `shift` nats."""
    return tuple(
        ScoredLoss.of(row, truth(Place(row.pretrain_tokens, row.specialize_tokens, row.domain)) + moved)
        for row in forecast.rows
        for moved in [shift if row.specialize_tokens else 0.0]
    )


def test_a_forecast_says_what_it_is_of_and_comes_back_from_json(forecast: Forecast, forecaster: Forecaster) -> None:
    assert forecast.largest_fitted == {"params": 200_000, "pretrain_tokens": 6_000_000}
    assert forecast.law.form == "shared_specific" and len(forecast.rows) == 10
    assert all(row.low is not None and row.high is not None and row.low < row.value < row.high for row in forecast.rows)
    assert forecast.run_noise == pytest.approx(NOISE, rel=0.3)
    plain = json.loads(json.dumps(forecast.plain(), allow_nan=False))
    assert Forecast.parse(plain, "here") == forecast
    with pytest.raises(CorruptError, match="here"):
        Forecast.parse(plain | {"rows": [{}]}, "here")


def test_the_committed_forecasts_are_read() -> None:
    paths = sorted((ROOT / "benchmarks/results/equal_compute/forecasts").glob("*.json"))
    assert len(paths) > 10
    for path in paths:
        record = json.loads(path.read_text())
        made = Forecast.parse(record, path.name)
        assert len(made.rows) == len(record["rows"]) and (made.plan is None) == ("plan" not in record)
        if made.plan is not None:
            assert made.plan.split_fraction.plain() == record["plan"]["split_fraction"]
            assert PlannedSplit.__dataclass_fields__.keys() == record["plan"].keys()


def test_a_law_of_the_right_form_forecasts_well_and_one_without_domains_does_not(forecast: Forecast) -> None:
    losses = measured(forecast)
    splits = scored_splits(forecast, losses)
    errors = Errors.of(losses, difference_errors(splits))
    assert errors is not None and errors.relative < 0.01 < errors.chinchilla
    assert errors.differences == 4 and errors.difference is not None and errors.difference < 0.02
    assert errors.held is not None and errors.held.of == 10 and errors.held.value >= 0.5
    assert [s.split_fraction for s in splits] == pytest.approx(FRACTIONS)
    assert splits[-1].difference == 0.0


def test_split_models_that_are_worse_than_forecast_are_told_as_such(forecast: Forecast) -> None:
    shift = 0.1
    right, wrong = (difference_errors(scored_splits(forecast, measured(forecast, moved))) for moved in (0.0, shift))
    assert np.array(wrong) - np.array(right) == pytest.approx(-shift)


def test_one_loss_that_is_off_by_orders_of_magnitude_is_told_without_filling_the_screen(forecast: Forecast) -> None:
    """A ladder without D = 0 may leave the law open there."""
    first = forecast.rows[0]
    assert first.pretrain_tokens == 0
    wild = replace(forecast, rows=(replace(first, value=1e34), *forecast.rows[1:]))
    losses = measured(wild)
    splits = scored_splits(wild, losses)
    errors = Errors.of(losses, difference_errors(splits))
    assert errors is not None and errors.relative > 1e30 and errors.median < 0.02
    assert errors.difference_median is not None and errors.difference_median < 0.05
    bowl = MeasuredBowl.of([s.split_fraction for s in splits], [s.loss for s in splits], 0.01, 0.25)
    page = Console(file=io.StringIO(), width=140)
    page.print(terminal(Proof("t", "0" * 64, wild, losses, splits, (), bowl, errors)))
    assert isinstance(page.file, io.StringIO)
    assert "e+33" in page.file.getvalue() and "0000000" not in page.file.getvalue()


def test_what_was_known_does_not_count(forecast: Forecast) -> None:
    known = replace(forecast, rows=tuple(replace(r, known=r.specialize_tokens == 0) for r in forecast.rows))
    splits = scored_splits(known, measured(known))
    assert all(s.known for s in splits), "unsplit is in every difference"
    assert difference_errors(splits) == [] and Errors.of([], []) is None


def test_a_split_that_lacks_a_domain_is_left_out(forecast: Forecast) -> None:
    losses = measured(forecast)
    splits = scored_splits(forecast, losses[1:])
    assert [s.split_fraction for s in splits] == pytest.approx(FRACTIONS[1:])


def test_the_bowl_knows_its_bottom_and_what_was_lost(forecast: Forecast) -> None:
    fine = np.linspace(0, 1, 1001)
    exact = np.array([float(LAW.predict(PARAMS, s * BUDGET, (1 - s) * BUDGET / 2)) for s in fine])
    points = [0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0]
    bowl = MeasuredBowl.of(points, [exact[round(1000 * s)] for s in points], 1e-4, 0.5)
    assert bowl.optimum is not None and bowl.regret is not None
    assert exact[round(1000 * bowl.optimum.value)] - exact.min() < 0.003
    assert bowl.regret.value == pytest.approx(exact[500] - exact.min(), abs=0.005)
    assert bowl.regret_measured == pytest.approx(exact[500] - min(exact[round(1000 * s)] for s in points))
    assert bowl.gain_measured == pytest.approx(exact[-1] - exact[500])
    few = MeasuredBowl.of([1.0, 0.0], [3.0, 2.9], 0.01, 0.0)
    assert few.regret is None and few.regret_measured == 0.0 and few.best_measured == 0.0


def test_a_proof_is_drawn_told_and_read_back(forecast: Forecast, tmp_path: Path) -> None:
    losses = measured(forecast)
    splits = scored_splits(forecast, losses)
    bowl = MeasuredBowl.of([s.split_fraction for s in splits], [s.loss for s in splits], 0.01, 0.25)
    proof = Proof("t", "0" * 64, forecast, losses, splits, (), bowl, Errors.of(losses, difference_errors(splits)))
    assert Proof.parse(json.loads(json.dumps(proof.plain(), allow_nan=False)), "here") == proof
    assert verdict(proof).startswith("The planned split, 25%, loses ")
    assert [p.suffix for p in draw(proof, tmp_path / "bowl")] == [".png", ".svg"]
    assert (tmp_path / "bowl.png").read_bytes()[:4] == b"\x89PNG" and b"planned" in (tmp_path / "bowl.svg").read_bytes()


def test_the_interval_score_is_least_at_the_true_quantiles() -> None:
    """Gneiting & Raftery 2007: on normal values, no other central interval of 80 % scores less."""
    values = np.random.default_rng(0).standard_normal(20_000)
    half = 1.2815515655446004

    def mean(low: float, high: float) -> float:
        return float(np.mean([interval_score(low, high, value, 0.8) for value in values]))

    right = mean(-half, half)
    assert interval_score(0.0, 1.0, 0.5, 0.8) == 1.0 and interval_score(0.0, 1.0, 1.5, 0.8) == pytest.approx(6.0)
    for low, high in ((-2, 2), (-0.8, 0.8), (-half + 0.4, half + 0.4)):
        assert mean(low, high) > right
