"""How much a router's scores mean."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp


def fit_temperature(scores: np.ndarray, domain: np.ndarray) -> float:
    """The temperature at which the softmax of scores gives the right domains the highest likelihood.

    Guo et al. 2017 ("On Calibration of Modern Neural Networks", arXiv 1706.04599) call it temperature scaling.

    Args:
        scores: [samples, domains]. The router's must be of the first part of documents: of whole ones the nearest
            centroid is the domain by construction, and every temperature near 0 would do.
        domain: the right domain of each sample, int [samples].
    """
    spread = float(np.std(scores)) or 1.0
    rows = np.arange(len(domain))

    def loss(log_temperature: float) -> float:
        scaled = scores / (spread * np.exp(log_temperature))
        return float((logsumexp(scaled, axis=1) - scaled[rows, domain]).mean())

    best = minimize_scalar(loss, bounds=(-12.0, 6.0), method="bounded")
    return spread * float(np.exp(best.x))
