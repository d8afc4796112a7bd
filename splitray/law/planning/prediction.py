"""What the law predicts of models that are then trained, with the interval of a single run."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import binom

from splitray.law.arrays import Array
from splitray.law.law import Law, LawWarning
from splitray.law.repetition import Text

_CHANCE = 0.05  # so rarely may a law that is right be contradicted


def predicted_losses(
    law: Law,
    params: float,
    pretrain_tokens: float,
    specialize_tokens: Mapping[str, float],
    weights: Mapping[str, float],
    noise: float,
    seed: int = 0,
    text: Text | None = None,
) -> Array:
    """The mean loss of a strategy's models [1 + draws]: as fitted, then by every draw with the noise of a run.

    The mean is over the domains that the law knows, by their weights. A run's noise is taken as common to all its
    domains, because they share the trunk and the seed: so the interval is rather too wide than too narrow.

    Args:
        specialize_tokens: D'_k by domain.
        noise: standard deviation of one run's log loss.
        seed: of that noise; another one for another run.
        text: how far each domain's text goes until it is read again; None where it is never.
    """
    known = {domain: weight for domain, weight in weights.items() if domain in law.domains}
    whole = sum(known.values())
    rows = np.zeros(1 + law.draws)
    for domain, weight in known.items():
        shared, special = worth_of(text, law, pretrain_tokens, specialize_tokens[domain], domain)
        rows[0] += weight / whole * float(law.predict(params, shared, special, domain))
        rows[1:] += weight / whole * law.predict_draws(params, shared, special, domain)
    rows[1:] *= np.exp(noise * np.random.default_rng(seed).standard_normal(law.draws))
    return rows


def worth_of(text: Text | None, law: Law, D: float, S: float, domain: str) -> tuple[float, float]:
    """(D, D') in the law's new tokens."""
    if text is None:
        return D, S
    shared, special = text.worth(law.repetition, D, S, domain)
    return float(shared), float(special)


def contradicted(outside: int, of: int, level: float) -> bool:
    """Whether more of some losses lie outside their intervals of mass `level` than a binomial test at 5 % allows.

    It counts every loss as independent. What a law misses is often common to all of them, so the test is a rough one.
    """
    return bool(of and binom.sf(outside - 1, of, 1 - level) < _CHANCE)


def trials_outside(outside: int, of: int, level: float) -> LawWarning | None:
    """A warning where the search's trials contradict the law that they were predicted with."""
    if not contradicted(outside, of, level):
        return None
    return LawWarning(
        "trials_contradict",
        "the search's trials contradict the law",
        f"{outside} of {of} lie outside the {level:.0%} intervals that the law gave them before the search, more than "
        "a binomial test at 5 % allows",
        "trust what was measured more than what is predicted, and add runs near the trials",
    )
