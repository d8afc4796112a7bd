"""The loss matrix, routed loss and the equal-token comparison, all from per-document losses.

Intervals are over validation documents (a paired bootstrap within every domain): they say how sure the comparison of
these models is, not how another training seed would fare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from splitray.law.planning.estimate import Estimate
from splitray.results.stages import LossMatrix, RoutedLoss
from splitray.storage.store import Published

LN2 = float(np.log(2.0))


@dataclass(frozen=True)
class Scores:
    """One model on one domain: `nats` and `tokens` by document, float64 [documents], and the text's UTF-8 bytes."""

    nats: np.ndarray
    tokens: np.ndarray
    text_bytes: int

    @classmethod
    def of(cls, measured: Published) -> "Scores":
        """What a host has published of a model's losses on one domain."""
        nats, tokens = np.load(measured.fetch("documents.npy"), allow_pickle=False)
        return cls(nats, tokens, int(measured.recorded("bytes")))

    @property
    def loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def bits_per_byte(self) -> float:
        return float(self.nats.sum() / LN2 / self.text_bytes)


def mean(by_domain: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean over domains."""
    return float(sum(weights[d] * by_domain[d] for d in weights))


def difference(
    ours: Mapping[str, Scores], other: Mapping[str, Scores], weights: Mapping[str, float], draws: int = 1000
) -> Estimate:
    """Weighted mean loss of `ours` less `other` in nats per token, with its 95 % interval over documents."""
    generator = np.random.default_rng(0)
    value, spread = 0.0, np.zeros(draws)
    for domain, weight in weights.items():
        mine, theirs = ours[domain], other[domain]
        gap, tokens = mine.nats - theirs.nats, mine.tokens
        assert np.array_equal(tokens, theirs.tokens), domain
        picks = generator.integers(len(gap), size=(draws, len(gap)))
        value += weight * float(gap.sum() / tokens.sum())
        spread += weight * gap[picks].sum(axis=1) / np.maximum(tokens[picks].sum(axis=1), 1)
    return Estimate.resampled(value, spread)


def matrix(scores: Mapping[str, Mapping[str, Scores]], domains: Sequence[str]) -> LossMatrix:
    """Models x domains: loss in nats per token and bits per byte."""
    return LossMatrix(
        models=tuple(scores),
        domains=tuple(domains),
        loss=tuple(tuple(row[d].loss for d in domains) for row in scores.values()),
        bits_per_byte=tuple(tuple(row[d].bits_per_byte for d in domains) for row in scores.values()),
    )


def chosen(
    scores: Mapping[str, Mapping[str, Scores]], routes: Mapping[str, np.ndarray], domains: Sequence[str]
) -> dict[str, Scores]:
    """Each domain's documents, every one by the specialist that a router chose for it; arguments as of `routed`."""
    found = {}
    for home in domains:
        table = np.stack([scores[specialist][home].nats for specialist in domains])
        own = scores[home][home]
        found[home] = Scores(table[routes[home], np.arange(table.shape[1])], own.tokens, own.text_bytes)
    return found


def routed(
    scores: Mapping[str, Mapping[str, Scores]],
    routes: Mapping[str, np.ndarray],
    domains: Sequence[str],
    weights: Mapping[str, float],
) -> RoutedLoss:
    """Loss when every document goes to the specialist that a router chose.

    Args:
        scores: specialist (by its domain's name) x domain.
        routes: for every domain, the chosen domain's index for each of its documents, int [documents].
    """
    picked = chosen(scores, routes, domains)
    agree = sum(int((routes[home] == place).sum()) for place, home in enumerate(domains))
    return RoutedLoss(
        loss=mean({d: picked[d].loss for d in domains}, weights),
        bits_per_byte=mean({d: picked[d].bits_per_byte for d in domains}, weights),
        known_loss=mean({d: scores[d][d].loss for d in domains}, weights),
        agreement=agree / sum(len(routes[d]) for d in domains),
    )
