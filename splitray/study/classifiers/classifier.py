"""What a classifier of a topic is: documents to log odds, fitted on labelled ones. And the registry of them."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from splitray.errors import CorruptError
from splitray.runtime.plugins import find_class, register_class
from splitray.settings import Settings

GROUP = "splitray.classifiers"  # the entry points by which an installed package offers its classifiers
REGISTRY: dict[str, type["TopicClassifier"]] = {}
_DESCRIPTION = "classifier.json"


class TopicClassifier(ABC):
    """Base of all classifiers.

    name: the value of `classifier` that means it. settings_class: the class of its settings.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[Settings]]
    settings: Any  # an object of `settings_class`

    @classmethod
    @abstractmethod
    def fit(cls, texts: list[str], labels: np.ndarray, settings: Any, seed: int) -> Self:
        """A classifier fitted on texts and their labels, bool [texts]. Both classes are there."""

    @abstractmethod
    def log_odds(self, texts: list[str]) -> np.ndarray:
        """Log odds of the topic, float64 [texts]. They need not be calibrated; a text's does not depend on others."""

    def save(self, folder: Path) -> None:
        """Write all that `load` reads, without pickles."""
        folder.mkdir(parents=True, exist_ok=True)
        described = {"kind": self.name, "settings": self.settings.model_dump(mode="json")}
        (folder / _DESCRIPTION).write_text(json.dumps(described) + "\n")

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, settings: Any) -> Self:
        """Open what `save` wrote."""


def register_classifier(classifier: type[TopicClassifier]) -> type[TopicClassifier]:
    """Make `classifier: NAME` mean this class."""
    return register_class(REGISTRY, "classifier", classifier)


def find_classifier(name: str) -> type[TopicClassifier]:
    """The classifier of that name; errors as of `find_class`."""
    return find_class(REGISTRY, "classifier", GROUP, name)


def load_classifier(folder: Path) -> TopicClassifier:
    """Open what `save` wrote.

    Raises:
        CorruptError: there is no classifier.
    """
    try:
        described = json.loads((folder / _DESCRIPTION).read_text())
        kind, settings = described["kind"], described["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{folder}/{_DESCRIPTION} names no classifier: {error}") from error
    found = find_classifier(kind)
    return found.load(folder, found.settings_class(**settings))
