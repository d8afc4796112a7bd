"""Mixture inference: K specialists and their base as one model, for text whose domain nobody knows."""

from splitray.evaluate.mixture.load import alone, load_mixture, specialists_of
from splitray.evaluate.mixture.model import Generated, Mixture, Scored, Step
from splitray.evaluate.mixture.prior import Prior, RouterPrior, UniformPrior, fit_prior
from splitray.evaluate.mixture.sampling import Sampling
from splitray.evaluate.mixture.weights import OPEN, Gate, Gated, bound, exact_nats, gated_nats

__all__ = [
    "OPEN",
    "Gate",
    "Gated",
    "Generated",
    "Mixture",
    "Prior",
    "RouterPrior",
    "Sampling",
    "Scored",
    "Step",
    "UniformPrior",
    "alone",
    "bound",
    "exact_nats",
    "fit_prior",
    "gated_nats",
    "load_mixture",
    "specialists_of",
]
