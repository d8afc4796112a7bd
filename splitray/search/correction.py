"""What trials on a budget line say about the law's curve there: its error as a Gaussian process, the law its mean."""

from collections.abc import Mapping

import numpy as np

_LENGTH = 0.3  # of the error's correlation, in units of `place`; chosen, not fitted
# Standard deviation of a trial's own noise over that of the law's error: in the proof (docs/proof.md) 0.29 % of a mean
# loss over 1.2 %.
_NUGGET = 0.25
_LEVEL = 10.0  # standard deviation of an error that is the same along the whole line: all but free
_SEED = 0


def place(fractions: np.ndarray) -> np.ndarray:
    """arcsin(sqrt(s)) as a part of its range, 0 at s = 0 and 1 at s = 1: both ends of the line are resolved."""
    matrix: np.ndarray = np.arcsin(np.sqrt(np.asarray(fractions, dtype=float))) * (2 / np.pi)
    return matrix


def corrected(
    curves: np.ndarray, fractions: np.ndarray, trials: Mapping[float, float], error: float
) -> tuple[np.ndarray, np.ndarray]:
    """The law's curves with the error that trials have left possible: the first with its mean, the others with a draw.

    By Matheron's rule: a draw of the process, moved by what it lacks at the trials (Wilson et al. 2020).

    Args:
        curves: losses [1 + draws, points] at `fractions` [points], nats per token.
        trials: measured mean loss by split fraction.
        error: standard deviation of the law's error along the line, nats per token.
    Returns:
        (the corrected curve [points], corrected draws [draws, points]).
    """
    tried = np.array(sorted(trials), dtype=float)
    measured = np.array([trials[s] for s in tried], dtype=float)
    here, there = place(fractions), place(tried)

    def smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(error**2 * np.exp(-0.5 * ((x[:, None] - y[None]) / _LENGTH) ** 2))

    random = np.random.default_rng(_SEED)
    every = np.concatenate([here, there])
    # the symmetric root: a replay elsewhere must draw the same, and the sign of an eigenvector is LAPACK's choice
    values, vectors = np.linalg.eigh(smooth(every, every))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    count = len(curves) - 1
    drawn = random.standard_normal((count, len(every))) @ root  # without the level: it moves no optimum
    noise = _NUGGET * error
    own = noise * random.standard_normal((count, len(tried)))
    lines = np.concatenate([np.zeros((1, len(every))), drawn])
    known = np.stack([np.interp(tried, fractions, curve) for curve in curves])
    lacks = measured - known - lines[:, len(here) :]
    lacks[1:] -= own
    level = (_LEVEL * error) ** 2
    trusted = smooth(there, there) + level + noise**2 * np.eye(len(tried))
    moved = curves + lines[:, : len(here)] + lacks @ np.linalg.solve(trusted, smooth(there, here) + level)
    return moved[0], moved[1:]
