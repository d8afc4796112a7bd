"""Predictions beside measurements: over the same domains, and intervals that hold what they claim."""

import numpy as np
import pytest

from splitray.law import Law
from splitray.law.law import Component
from splitray.law.planning.prediction import contradicted, predicted_losses, trials_outside
from splitray.pipeline.predictions import Predictor
from splitray.results.evaluation import Compared
from splitray.results.stages import Trial, TrialModel

RELEASE = {"E": 1.6, "A": 285.0, "alpha": 0.34, "B": 225.0, "beta": 0.25, "c": 0.046}
RELEASE |= {"lam": 0.14, "delta": 3.9, "p": 0.615, "q": 0.28, "gamma": 0.4}
LAW = Law.known("release", {"a": RELEASE, "b": RELEASE | {"lam": 0.3}})
N, BUDGET = 1_300_000_000, 240_000_000_000
WEIGHTS = {"a": 0.5, "b": 0.25, "c": 0.25}  # the law lacks c


def drawn(spread: float, draws: int = 400) -> Law:
    """The law with draws around its constants."""
    vectors = LAW.components[0].vectors
    shaken = vectors * (1 + spread * np.random.default_rng(3).standard_normal((draws, 1, vectors.shape[-1])))
    return Law(components=(Component("release", 1.0, vectors, shaken),), domains=LAW.domains)


def tokens(fraction: float) -> dict[str, float]:
    return {domain: weight * (1 - fraction) * BUDGET for domain, weight in WEIGHTS.items()}


def mean(fraction: float) -> float:
    """By hand: a weighs twice as much as b, and c does not count."""
    loss = {d: float(LAW.predict(N, fraction * BUDGET, tokens(fraction)[d], d)) for d in "ab"}
    return (2 * loss["a"] + loss["b"]) / 3


def row(name: str, fraction: float, off: float = 0.0) -> Compared:
    losses = {d: float(LAW.predict(N, fraction * BUDGET, tokens(fraction)[d], d)) + off for d in "ab"} | {"c": 99.0}
    after = (1 - fraction) * BUDGET / 3
    return Compared(name, fraction, int(fraction * BUDGET), after, BUDGET, 0.0, 0.0, losses, None)


def test_predictions_and_measurements_are_over_the_domains_of_the_law() -> None:
    predictor = Predictor(LAW, N, WEIGHTS, 0.01)
    rows = [row("planned split", 0.3, off=-0.02), row("unsplit", 1.0)]
    found = {(p.strategy, p.against): p for p in predictor.strategies(rows)}
    assert list(found) == [("planned split", None), ("unsplit", None), ("planned split", "unsplit")]
    assert found["planned split", None].predicted.value == pytest.approx(mean(0.3))
    assert found["planned split", None].measured == pytest.approx(mean(0.3) - 0.02)
    gap = found["planned split", "unsplit"]
    assert gap.predicted.value == pytest.approx(mean(0.3) - mean(1.0))
    assert gap.measured == pytest.approx(mean(0.3) - 0.02 - mean(1.0))
    assert gap.inside is None, "a law without draws has no interval"


def test_a_trial_is_predicted_at_its_own_tokens() -> None:
    split = {d: int(n) for d, n in tokens(0.25).items()}
    models = tuple(TrialModel(d, n, 3.0, f"seg-{d}") for d, n in split.items())
    (trial,) = Predictor(drawn(0.002), N, WEIGHTS, 0.01).trials([Trial(0.25, BUDGET // 4, 1.0, 3.0, models)])
    assert trial.prediction is not None and trial.prediction.measured == pytest.approx(3.0)
    assert trial.predicted == trial.prediction.predicted.value == pytest.approx(mean(0.25), abs=1e-6)
    assert trial.prediction.inside is False


@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_intervals_hold_what_they_claim(noise: float) -> None:
    """The truth is one of the law's own draws, and a run adds its noise: 80 % of them lie inside."""
    law, random = drawn(0.002, draws=2000), np.random.default_rng(1)
    rows = predicted_losses(law, N, 0.3 * BUDGET, tokens(0.3), WEIGHTS, noise)
    low, high = np.quantile(rows[1:], [0.1, 0.9])
    fresh = predicted_losses(drawn(0.002, 1000), N, 0.3 * BUDGET, tokens(0.3), WEIGHTS, 0.0)[1:]
    runs = fresh * np.exp(noise * random.standard_normal(len(fresh)))
    assert np.mean((runs >= low) & (runs <= high)) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("outside", "of", "expected"), [(0, 0, False), (1, 1, False), (2, 2, True), (2, 4, False), (3, 4, True)]
)
def test_the_law_is_contradicted_by_more_misses_than_chance_allows(outside: int, of: int, expected: bool) -> None:
    """By hand at 80 %: 1 of 1 has the chance 0.2, 2 of 2 0.04, 2 or more of 4 0.18, 3 or more of 4 0.027."""
    assert contradicted(outside, of, 0.8) is expected
    warning = trials_outside(outside, of, 0.8)
    assert (warning is not None) is expected
    assert warning is None or f"{outside} of {of} lie outside the 80% intervals" in str(warning)
