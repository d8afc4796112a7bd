"""Weights of the domains as a configuration gives them: a word, or a number for each domain by its name."""

import math
from collections.abc import Mapping, Sequence

from splitray.corpus.given import domain_name
from splitray.corpus.settings import DOMAIN
from splitray.errors import UserError, did_you_mean
from splitray.units import parse_count

_WORDS = ("uniform", "tokens")
_ROUNDED = 1e-3  # how far a sum of weights may be from 1: six sixths, written with four digits, are 1.0002


def parse_weights(given: object) -> str | dict[str, float]:
    """The word, or the numbers by domain. What is no name of a domain becomes one as a column's value does.

    Raises:
        ValueError: it is neither, a number is not above 0, or they do not sum up to 1.
    """
    if not isinstance(given, dict):
        if isinstance(given, str) and given in _WORDS:
            return given
        near = did_you_mean(given, _WORDS) if isinstance(given, str) else ""
        raise ValueError(f"choose {', '.join(_WORDS)}, or give a weight for each domain, {{law: 0.3, code: 0.7}}{near}")
    names = {str(name): name for name in given}
    weights = {
        name if DOMAIN.fullmatch(name) else domain_name(name): _number(name, given[key]) for name, key in names.items()
    }
    total = math.fsum(weights.values())
    if abs(total - 1) > _ROUNDED:
        raise ValueError(f"the weights of {', '.join(weights) or 'no domain'} sum up to {total:.4g}, not to 1")
    return weights


def check_weights(weights: Mapping[str, float], domains: Sequence[str]) -> None:
    """Compare the names of weights with those of the domains.

    Raises:
        ValueError: a domain has no weight, or a weight no domain.
    """
    if unknown := [name for name in weights if name not in domains]:
        near = did_you_mean(unknown[0], domains)
        raise ValueError(f"weights: there is no domain {unknown[0]!r}{near}; the domains are {', '.join(domains)}")
    if missing := [name for name in domains if name not in weights]:
        raise ValueError(f"weights: {', '.join(missing)} has no weight; give every domain one")


def check_budget(weights: Mapping[str, float], budget: int, batch: int) -> None:
    """Refuse a budget of which some domain's share is less than two batches: split at zero, it would train nothing.

    Args:
        weights: shares that sum up to 1. budget, batch: in tokens.

    Raises:
        ValueError: it names the lightest domain.
    """
    lightest = min(weights, key=lambda domain: weights[domain])
    if weights[lightest] * budget < 2 * batch:
        raise ValueError(
            f"budget = {budget:,} tokens leaves domain {lightest}, of weight {weights[lightest]:.3g}, "
            f"{int(weights[lightest] * budget):,} tokens: less than two batches of {batch:,}. Raise budget or the "
            "weight, lower training.global_batch_size or training.sequence_length, or merge the domain with another"
        )


def shares(weights: Mapping[str, float], domains: Sequence[str]) -> dict[str, float]:
    """The weights as shares that sum up to 1, in the order of the domains."""
    total = math.fsum(weights.values())
    return {domain: weights[domain] / total for domain in domains}


def _number(name: str, value: object) -> float:
    try:
        number = float(parse_count(value)) if isinstance(value, str) else value
    except UserError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        raise ValueError(f"the weight of {name} is {value!r}: give a number above 0, or leave the domain out")
    return float(number)
