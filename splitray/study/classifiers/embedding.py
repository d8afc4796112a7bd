"""Logistic regression on the corpus's embeddings, the default classifier."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from splitray.corpus.embedders import Embedder, find_embedder, load_embedder
from splitray.settings import Settings
from splitray.study.classifiers.classifier import TopicClassifier, register_classifier

_BATCH = 2000  # texts embedded at once


class EmbeddingSettings(Settings):
    """Logistic regression on vectors of the corpus's embedders."""

    embedder: str = Field("tfidf", min_length=1, description="What makes the vectors, as in corpus.embedder.")
    options: dict[str, bool | int | float | str] = Field(
        {"dimensions": 256}, description="Settings of the embedder, as in its section below corpus."
    )
    strength: float = Field(
        100.0, gt=0, description="Inverse of the L2 penalty, on vectors of unit length and the sum over documents."
    )


@register_classifier
class EmbeddingClassifier(TopicClassifier):
    """`weights` float64 [dimensions] and `offset` of the regression, on vectors of `embedder`."""

    name = "embedding"
    settings_class = EmbeddingSettings

    def __init__(self, settings: EmbeddingSettings, embedder: Embedder, weights: np.ndarray, offset: float) -> None:
        self.settings, self.embedder, self.weights, self.offset = settings, embedder, weights, offset

    @classmethod
    def fit(cls, texts: list[str], labels: np.ndarray, settings: EmbeddingSettings, seed: int) -> Self:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        kind = find_embedder(settings.embedder)
        embedder = kind.fit(texts if kind.needs_sample else [], kind.settings_class(**settings.options), seed)
        with threadpool_limits(1):  # the sums of several threads depend on how many there are
            model = LogisticRegression(C=settings.strength, max_iter=500)
            model.fit(_embedded(embedder, texts).astype(np.float64), labels)
        return cls(settings, embedder, model.coef_[0].astype(np.float64), float(model.intercept_[0]))

    def log_odds(self, texts: list[str]) -> np.ndarray:
        # summed row by row: a matrix product may round a row differently among others
        odds: np.ndarray = (_embedded(self.embedder, texts) * self.weights).sum(axis=1) + self.offset
        return odds

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.embedder.save(folder / "embedder")
        np.save(folder / "regression.npy", np.append(self.weights, self.offset), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, settings: Any) -> Self:
        values = np.load(folder / "regression.npy", allow_pickle=False)
        return cls(settings, load_embedder(folder / "embedder"), values[:-1], float(values[-1]))


def _embedded(embedder: Embedder, texts: list[str]) -> np.ndarray:
    parts = [embedder.embed(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
    return np.concatenate(parts)
