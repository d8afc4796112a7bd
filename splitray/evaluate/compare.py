"""The loss matrix, routed loss and the equal-token comparison, all from per-document losses.

Intervals are over groups of validation documents, because documents of one book or one call are alike. Pairs are kept:
both models read the same documents. So intervals say how sure the comparison of these models is, not how another
training seed would fare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitray.law.planning.estimate import Estimate
from splitray.results.evaluation import Contrast, Forgetting, LossMatrix, Resampled, RoutedLoss
from splitray.storage.store import Published

LN2 = float(np.log(2.0))
_BLOCK = 1 << 22  # weights drawn at once: 32 MB


@dataclass(frozen=True)
class Scores:
    """One model on one domain: `nats` and `tokens` by document, float64 [documents], and the text's UTF-8 bytes.

    groups: the group of each document, strings [documents]; domains may share a group. None: each is its own.
    """

    nats: np.ndarray
    tokens: np.ndarray
    text_bytes: int
    groups: np.ndarray | None = None

    @classmethod
    def of(cls, measured: Published, groups: np.ndarray | None = None) -> "Scores":
        """What a host has published of a model's losses on one domain.

        Args:
            groups: of the domain's validation documents, at least as many as were measured.
        """
        nats, tokens = np.load(measured.fetch("documents.npy"), allow_pickle=False)
        return cls(nats, tokens, int(measured.recorded("bytes")), None if groups is None else groups[: len(nats)])

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
    """Weighted mean loss of `ours` less `other` in nats per token, with its 95 % interval over groups of documents.

    Every draw weighs each group by an exponential number, in all domains alike (the Bayesian bootstrap of Rubin 1981,
    over clusters). So a domain of few groups never stands empty, as it may where groups are drawn with replacement.
    """
    groups = _groups(ours, weights)
    names, code = np.unique(np.concatenate(list(groups.values())), return_inverse=True)
    ends = np.cumsum([len(some) for some in groups.values()])[:-1]
    gap, tokens = np.zeros((2, len(names), len(weights)))
    for place, (domain, mine) in enumerate(zip(weights, np.split(code, ends), strict=True)):
        one, two = ours[domain], other[domain]
        assert np.array_equal(one.tokens, two.tokens), domain
        gap[:, place] = np.bincount(mine, one.nats - two.nats, minlength=len(names))
        tokens[:, place] = np.bincount(mine, one.tokens, minlength=len(names))
    share, generator, spread = np.array(list(weights.values())), np.random.default_rng(0), []
    step = max(1, _BLOCK // len(names))
    for begin in range(0, draws, step):
        drawn = generator.standard_exponential((min(step, draws - begin), len(names)))
        spread.append((drawn @ gap) / (drawn @ tokens) @ share)
    value = float(gap.sum(axis=0) / tokens.sum(axis=0) @ share)
    return Estimate.resampled(value, np.concatenate(spread))


def resampled(scores: Mapping[str, Scores], weights: Mapping[str, float]) -> Resampled:
    """What `difference` resamples where it compares models on these documents."""
    groups = _groups(scores, weights)
    by_domain = {domain: len(np.unique(some)) for domain, some in groups.items()}
    every = np.concatenate(list(groups.values()))
    return Resampled(len(np.unique(every)), len(every), by_domain)


def contrasts(
    scores: Mapping[str, Mapping[str, Scores]], planned: str, weights: Mapping[str, float]
) -> tuple[Contrast, ...]:
    """The planned strategy less every other one of `scores`, which are by strategy and domain."""
    others = (name for name in scores if name != planned)
    return tuple(Contrast(name, difference(scores[planned], scores[name], weights)) for name in others)


def forgetting(
    specialists: Mapping[str, Mapping[str, Scores]], base: Mapping[str, Scores], weights: Mapping[str, float]
) -> tuple[Forgetting, ...]:
    """What each specialist forgot of the mixture that its base was trained on.

    Args:
        specialists: by their own domain, each on every domain. base: the finished base on every domain.
    """
    before, found = mean({d: base[d].loss for d in weights}, weights), []
    for domain, row in specialists.items():
        others = {d: weight for d, weight in weights.items() if d != domain}
        rest = sum(others.values())
        elsewhere = difference(row, base, {d: w / rest for d, w in others.items()}) if others else None
        after = mean({d: row[d].loss for d in weights}, weights)
        found.append(Forgetting(domain, before, after, difference(row, base, weights), elsewhere))
    return tuple(found)


def _groups(scores: Mapping[str, Scores], weights: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The group of each document by domain; a name of its own for each where groups are not known."""
    found = {}
    for domain in weights:
        own, count = scores[domain].groups, len(scores[domain].nats)
        found[domain] = np.array([f"{domain}/{place}" for place in range(count)]) if own is None else own
    return found


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
        found[home] = replace(own, nats=table[routes[home], np.arange(table.shape[1])])
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
