"""The correction of a curve against scikit-learn's Gaussian process, and what it leaves alone."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from splitray.search.correction import corrected, place

FRACTIONS = np.linspace(0, 1, 201)
LAW = 3 + 0.4 * (FRACTIONS - 0.6) ** 2
TRIALS = {0.6: 3.05, 0.25: 3.02, 0.9: 3.20}
ERROR = 0.03


def test_mean_and_spread_are_those_of_a_gaussian_process() -> None:
    kernel = ConstantKernel(ERROR**2, "fixed") * RBF(0.3, "fixed") + ConstantKernel((10 * ERROR) ** 2, "fixed")
    oracle = GaussianProcessRegressor(kernel, alpha=(0.25 * ERROR) ** 2, optimizer=None)
    tried = np.array(list(TRIALS))
    oracle.fit(place(tried)[:, None], np.array(list(TRIALS.values())) - np.interp(tried, FRACTIONS, LAW))
    mean, covariance = oracle.predict(place(FRACTIONS)[:, None], return_cov=True)
    middle, draws = corrected(np.tile(LAW, (4001, 1)), FRACTIONS, TRIALS, ERROR)
    np.testing.assert_allclose(middle, LAW + mean, atol=1e-9)
    assert np.abs(draws.mean(axis=0) - middle).max() < 0.1 * ERROR
    # the level, all but free, is no part of the draws: differences along the line are what they tell
    ours = np.cov((draws - draws[:, :1])[:, 1:], rowvar=False)
    theirs = (covariance - covariance[:1] - covariance[:, :1] + covariance[0, 0])[1:, 1:]
    assert np.abs(ours - theirs).max() < 0.1 * theirs.max()


def test_without_trials_the_curve_is_the_laws_and_the_draws_are_wider() -> None:
    middle, draws = corrected(np.tile(LAW, (501, 1)), FRACTIONS, {}, ERROR)
    np.testing.assert_allclose(middle, LAW, atol=1e-12)
    assert (draws - LAW).std() == pytest.approx(ERROR, rel=0.1)


def test_one_trial_moves_the_level_alone() -> None:
    middle, _ = corrected(LAW[None], FRACTIONS, {0.6: 3.5}, ERROR)
    assert np.ptp(middle - LAW) < 0.02 * 0.5 and middle[120] == pytest.approx(3.5, abs=0.01)
