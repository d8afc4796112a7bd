"""Calibration, thresholds and their errors, against planted probabilities and by hand."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from splitray.errors import UserError
from splitray.study.calibration import (
    Calibration,
    best_by_size,
    calibration_error,
    precision_and_recall,
    threshold_by_precision,
)


def planted(count: int = 40_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log odds that are three times too sure and shifted by 2, and labels by the true probabilities."""
    draw = np.random.default_rng(seed)
    true = draw.normal(-2, 1.5, count)
    return 3 * true + 2, draw.random(count) < expit(true)


def test_calibration_finds_the_planted_probabilities() -> None:
    log_odds, labels = planted()
    made = Calibration.fit(log_odds, labels)
    assert (made.slope, made.offset) == (pytest.approx(1 / 3, rel=0.05), pytest.approx(-2 / 3, abs=0.05))
    probability = made.probability(log_odds)
    assert probability.mean() == pytest.approx(labels.mean(), abs=1e-3), "probability means share"
    assert calibration_error(probability, labels) < 0.01 < calibration_error(expit(log_odds), labels)


def test_a_shift_carries_probabilities_to_another_share() -> None:
    """Labels of which half are of the topic, a corpus of which 5 % are: by Bayes' rule, written anew."""
    log_odds, labels = planted()
    rows = np.concatenate([np.flatnonzero(labels), np.flatnonzero(~labels)[: labels.sum()]])
    even = Calibration.fit(log_odds[rows], labels[rows])
    there = float(labels.mean())
    moved = even.shifted(0.5, there)
    p, odds = even.probability(log_odds), there / (1 - there)
    np.testing.assert_allclose(moved.probability(log_odds), p * odds / (p * odds + 1 - p), rtol=1e-9)
    assert calibration_error(moved.probability(log_odds), labels) < 0.01


def test_errors_by_hand() -> None:
    p, labels = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, True, True, True])
    assert calibration_error(p, labels) == pytest.approx((abs(0.1 - 1) + abs(1.9 - 2)) / 4)
    weights = np.array([3.0, 1.0, 1.0, 1.0])
    assert calibration_error(p, labels, weights) == pytest.approx((abs(0.2 - 1) + 0.1) / 6)
    assert precision_and_recall(p, labels, 0.5) == (1.0, pytest.approx(2 / 3))
    assert precision_and_recall(p, labels, 0.0, weights) == (pytest.approx(3 / 6), 1.0)
    assert precision_and_recall(p, labels, 0.99) == (1.0, 0.0)


def test_the_threshold_is_the_lowest_that_shows_the_precision() -> None:
    """Against all thresholds that there are, ties kept together; the interval by its definition, solved for its end."""
    draw = np.random.default_rng(1)
    p = np.round(draw.random(300), 2)
    labels = draw.random(300) < p**2
    for wanted in (0.5, 0.7, 0.8):
        found = threshold_by_precision(p, labels, wanted)
        good = []
        for least in np.unique(p):
            share, count = precision_and_recall(p, labels, least)[0], (p >= least).sum()
            # a true precision q as high as wanted would show such a share, or more, in one case of ten
            if share >= wanted and (share - wanted) / np.sqrt(wanted * (1 - wanted) / count) >= norm.ppf(0.9) - 1e-4:
                good.append(least)
        assert found == min(good)
    with pytest.raises(UserError, match=r"precision 0.99: .* show at most 0\.\d+ .*; ask for less"):
        threshold_by_precision(np.array([0.9, 0.8]), np.array([True, True]), 0.99)


def test_the_best_by_size_are_just_enough() -> None:
    p, sizes, order = np.array([0.1, 0.9, 0.5, 0.7]), np.array([10.0, 20, 30, 40]), np.zeros(4, dtype=np.uint64)
    lowest = [p[best_by_size(p, order, sizes, n)].min() for n in (1, 20, 21, 60, 61, 100)]
    assert lowest == [0.9, 0.9, 0.7, 0.7, 0.5, 0.1]
    with pytest.raises(UserError, match="101 are wanted, and all documents together have 100: ask for less"):
        best_by_size(p, order, sizes, 101)


def test_equal_scores_are_cut_by_hash_wherever_they_stand() -> None:
    draw = np.random.default_rng(2)
    score, sizes = np.float32(draw.random(1000) < 0.5), draw.integers(1, 100, 1000).astype(np.float64)
    order = draw.integers(2**64, size=1000, dtype=np.uint64)
    kept = best_by_size(score, order, sizes, 5000)
    assert 5000 <= sizes[kept].sum() < 5100 and (score[kept] == 1).all()
    assert order[kept].max() < order[(score == 1) & ~kept].min()
    other = draw.permutation(1000)
    assert np.array_equal(best_by_size(score[other], order[other], sizes[other], 5000), kept[other])


def test_logits_are_what_they_are() -> None:
    assert Calibration(1.0, 0.0).probability(logit(np.array([0.2, 0.7]))) == pytest.approx([0.2, 0.7])
