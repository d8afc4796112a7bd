"""What a mixture believes of a document before its first token."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splitray.corpus.calibration import fit_temperature
from splitray.corpus.router import Router
from splitray.corpus.tokenizer import Encoder
from splitray.evaluate.mixture.weights import normalised

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
