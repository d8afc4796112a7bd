"""Mixture inference: K specialists and their base as one model, for text whose domain nobody knows."""

from splitray.evaluate.mixture.load import Parts, alone, import_plugins, load_mixture, parts_of, specialists_of
from splitray.evaluate.mixture.model import Generated, Mixture, Scored, Step
from splitray.evaluate.mixture.prior import PrefixPrior, Prior, RouterPrior, TopPrior, UniformPrior, fit_prior
from splitray.evaluate.mixture.sampling import Sampling
from splitray.evaluate.mixture.weights import (
    BAYES,
    OPEN,
    STAY,
    Follow,
    Gate,
    Gated,
    Update,
    bound,
    exact_nats,
    gated_nats,
)

__all__ = [
    "BAYES",
    "OPEN",
    "STAY",
    "Follow",
    "Gate",
    "Gated",
    "Generated",
    "Mixture",
    "Parts",
    "PrefixPrior",
    "Prior",
    "RouterPrior",
    "Sampling",
    "Scored",
    "Step",
    "TopPrior",
    "UniformPrior",
    "Update",
    "alone",
    "bound",
    "exact_nats",
    "fit_prior",
    "gated_nats",
    "import_plugins",
    "load_mixture",
    "parts_of",
    "specialists_of",
]
