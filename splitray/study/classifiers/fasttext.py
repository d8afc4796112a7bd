"""fastText (Joulin et al. 2017, arXiv 1607.01759), an optional classifier: `pip install 'splitray[fasttext]'`."""

import math
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from splitray.errors import UserError
from splitray.settings import Settings
from splitray.study.classifiers.classifier import TopicClassifier, register_classifier

_LABELS = ("__label__other", "__label__topic")
_MODEL = "model.bin"
_SURE = 40.0  # log odds beyond which doubles of a softmax say nothing


class FasttextSettings(Settings):
    """fastText's own settings; the defaults are those of its tutorial on text classification."""

    dimensions: int = Field(100, ge=2, le=1000, description="Length of word vectors.")
    epochs: int = Field(25, ge=1, description="Passes over the labelled documents.")
    learning_rate: float = Field(0.5, gt=0, description="Learning rate at the start; it falls to zero.")
    words: int = Field(2, ge=1, le=5, description="Longest n-gram of words.")
    buckets: int = Field(200_000, ge=1000, description="Hash buckets for n-grams; each costs 4 bytes a dimension.")


@register_classifier
class FasttextClassifier(TopicClassifier):
    """A model of fastText's own format, which holds numbers and words, and no code."""

    name = "fasttext"
    settings_class = FasttextSettings

    def __init__(self, settings: FasttextSettings, model: Any) -> None:
        self.settings, self._model = settings, model

    @classmethod
    def fit(cls, texts: list[str], labels: np.ndarray, settings: FasttextSettings, seed: int) -> Self:
        package = _package()
        with tempfile.TemporaryDirectory(prefix="splitray-fasttext-") as folder:
            path = Path(folder, "train.txt")
            lines = (f"{_LABELS[int(label)]} {_line(text)}\n" for text, label in zip(texts, labels, strict=True))
            path.write_text("".join(lines))
            model = package.train_supervised(
                input=str(path),
                dim=settings.dimensions,
                epoch=settings.epochs,
                lr=settings.learning_rate,
                wordNgrams=settings.words,
                bucket=settings.buckets,
                minCount=1,
                thread=1,  # several write into one table without locks, and no two runs are alike
                seed=seed,
                verbose=0,
            )
        return cls(settings, model)

    def log_odds(self, texts: list[str]) -> np.ndarray:
        odds = []
        for text in texts:
            names, shares = self._model.predict(_line(text), k=2)
            given = dict(zip(names, shares, strict=True))
            topic, other = (max(given.get(label, 0.0), 1e-300) for label in reversed(_LABELS))
            odds.append(min(max(math.log(topic) - math.log(other), -_SURE), _SURE))
        return np.array(odds, dtype=np.float64)

    def save(self, folder: Path) -> None:
        super().save(folder)
        self._model.save_model(str(folder / _MODEL))

    @classmethod
    def load(cls, folder: Path, settings: Any) -> Self:
        return cls(settings, _package().load_model(str(folder / _MODEL)))


def _line(text: str) -> str:
    """A text as one line: fastText takes a line end for the end of a document."""
    return " ".join(text.lower().split())


def _package() -> Any:
    try:
        import fasttext
    except ModuleNotFoundError as error:
        raise UserError(
            "the classifier 'fasttext' needs a package that is not installed: pip install 'splitray[fasttext]', or use "
            "the classifier 'embedding'"
        ) from error
    return fasttext
