"""What a mixture believes of a document before its first token."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from splitray.corpus.calibration import fit_temperature
from splitray.corpus.router import Router
from splitray.corpus.tokenizer import Encoder
from splitray.evaluate.mixture.weights import normalised

if TYPE_CHECKING:
    from splitray.evaluate.mixture.model import Mixture

FILE = "prior.json"  # in the router's folder
_SAMPLE = 64  # training documents of each domain that a temperature is fitted on
_TOKENS = 4  # a character has at most, in all but the rarest scripts


class Prior(Protocol):
    """Log weights of the models for each text."""

    def log_weights(self, texts: list[str]) -> np.ndarray:
        """Float64 [texts, models], normalised. Models are the specialists in the router's order, then the base if the
        mixture has one."""
        ...


@dataclass(frozen=True)
class UniformPrior:
    """Every model alike: the text alone decides."""

    models: int

    def log_weights(self, texts: list[str]) -> np.ndarray:
        return np.full((len(texts), self.models), -np.log(self.models))


@dataclass(frozen=True)
class RouterPrior:
    """The router's softened distances: softmax over domains of (score / temperature).

    Args:
        temperature: see `fit_temperature` of the corpus. To 0 it is the nearest centroid, to infinity uniform.
        base_share: the share that the base has before anything was read; None where the mixture has no base.
        characters: of each text, how many the router sees.
    """

    router: Router
    temperature: float
    base_share: float | None = None
    characters: int = 200

    def save(self, folder: Path) -> None:
        """Write what the router lacks beside it."""
        told = {"temperature": self.temperature, "characters": self.characters}
        (folder / FILE).write_text(json.dumps(told) + "\n")

    def log_weights(self, texts: list[str]) -> np.ndarray:
        return self.weigh(self.router.scores([text[: self.characters] for text in texts]))

    def weigh(self, scores: np.ndarray) -> np.ndarray:
        """As `log_weights`, from the router's scores of the texts' first characters, [texts, domains]."""
        domains = normalised(scores.astype(np.float64) / self.temperature)
        if self.base_share is None:
            return domains
        base = np.full((len(domains), 1), np.log(self.base_share))
        return np.hstack([domains + np.log1p(-self.base_share), base])


@dataclass(frozen=True)
class TopPrior:
    """The heaviest models of another prior, and no base. With `STAY` it is one of the usual ways to choose a model.

    One model is the nearest centroid. Several are the sparse ensemble of c-BTM (Gururangan et al. 2023,
    arXiv:2303.14177): their shares are a softmax of the router's distances over a temperature.

    Args:
        inner: whose weights they are, as of a `RouterPrior` with the temperature that is wanted.
        count: how many models run.
        specialists: how many of the models are specialists; the others, which come last, get nothing.
    """

    inner: Prior
    count: int
    specialists: int

    def log_weights(self, texts: list[str]) -> np.ndarray:
        weights = self.inner.log_weights(texts)
        places = np.argsort(-weights[:, : self.specialists], axis=1, kind="stable")[:, : self.count]
        top = np.full_like(weights, -np.inf)
        np.put_along_axis(top, places, np.take_along_axis(weights, places, axis=1), axis=1)
        return normalised(top)


@dataclass(frozen=True)
class PrefixPrior:
    """One model: the one whose small relative holds the beginning of the text likeliest. Use it with `STAY`.

    The relatives are one small model for each specialist, such as the ladder's leaves, which are trained already. So
    SmallTalk LM chooses (Filippova et al. 2024, arXiv:2410.03529).

    Args:
        relatives: a mixture of one for each specialist, in their order.
        models: how many models there are to choose from, the base included; it is never chosen.
        tokens: of the beginning that are read.
    """

    relatives: Sequence["Mixture"]
    models: int
    tokens: int = 32

    def log_weights(self, texts: list[str]) -> np.ndarray:
        encoder = self.relatives[0].encoder
        rows = [np.append(encoder.end, tokens[: self.tokens]) for tokens in encoder.encode(texts)]
        nats = np.array([[s.nats.sum() for s in small.score_tokens(rows, texts)] for small in self.relatives])
        weights = np.full((len(texts), self.models), -np.inf)
        weights[np.arange(len(texts)), nats.argmin(axis=0)] = 0.0
        return weights


def fit_prior(corpus: Any, characters: int, base: bool = True) -> RouterPrior:
    """The prior of a corpus's router, its temperature fitted on the first characters of training documents.

    Args:
        corpus: a `splitray.corpus.Corpus`.
        base: whether the mixture has a base; its share is 1 / (domains + 1).
    """
    router, encoder = corpus.router(), Encoder(corpus.tokenizer_path())
    texts, homes = [], []
    for place, domain in enumerate(router.domains):
        first = corpus.tokens(domain, "train")[0]
        ends = np.cumsum(corpus.documents(domain, "train")["tokens"].to_numpy()[:_SAMPLE])
        ends = ends[ends <= len(first)]
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            tokens = np.append(first[begin : min(end - 1, begin + _TOKENS * characters)], encoder.end)
            texts.append(encoder.decode([tokens.astype(np.int64)])[0][:characters])
            homes.append(place)
    temperature = fit_temperature(router.scores(texts).astype(np.float64), np.array(homes))
    return RouterPrior(router, temperature, 1 / (len(router.domains) + 1) if base else None, characters)


def load_prior(router: Router, folder: Path, base: bool) -> RouterPrior | None:
    """The prior that `save` wrote beside a router; None where there is none."""
    if not (folder / FILE).is_file():
        return None
    told = json.loads((folder / FILE).read_text())
    share = 1 / (len(router.domains) + 1) if base else None
    return RouterPrior(router, float(told["temperature"]), share, int(told["characters"]))
