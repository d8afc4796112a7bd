"""What a mixture believes of a document before its first token."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from splitray.corpus.router import Router
from splitray.evaluate.mixture.weights import normalised


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

    def log_weights(self, texts: list[str]) -> np.ndarray:
        scores = self.router.scores([text[: self.characters] for text in texts]).astype(np.float64)
        domains = normalised(scores / self.temperature)
        if self.base_share is None:
            return domains
        base = np.full((len(texts), 1), np.log(self.base_share))
        return np.hstack([domains + np.log1p(-self.base_share), base])
