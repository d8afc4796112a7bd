"""A domain filter: a classifier of a topic, calibrated, with a threshold; fitted on labelled examples."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from splitray.corpus.clean import hash64
from splitray.corpus.holdout import mixed
from splitray.errors import CorruptError, UserError
from splitray.settings import Settings
from splitray.storage.checksum import Schema
from splitray.study.calibration import Calibration, calibration_error, precision_and_recall, threshold_by_precision
from splitray.study.classifiers import TopicClassifier, find_classifier, load_classifier
from splitray.study.contamination import ExamIndex

FILTER = Schema("filter", 1, unnamed=None)
_FEWEST = 20  # examples of a class on either side: a precision of fewer says nothing
_FILE = "filter.json"


class FilterSettings(Settings):
    """How a topic's filter is made from examples."""

    classifier: str = Field(
        "embedding",
        min_length=1,
        description="embedding (logistic regression on the corpus's embeddings), fasttext, or pretrained (a model by "
        "its path).",
    )
    options: dict[str, Any] = Field({}, description="Settings of the classifier.")
    precision: float = Field(
        0.9, gt=0, lt=1, description="Precision on held-out examples that decides the threshold; more keeps less."
    )
    held_out: float = Field(
        0.3, gt=0, lt=1, description="Share of the examples' groups that calibrate and set the threshold."
    )
    share: float | None = Field(
        None, gt=0, lt=1, description="Share of the topic in the corpus, where the examples have another; else theirs."
    )

    @model_validator(mode="after")
    def _known(self) -> "FilterSettings":
        try:
            find_classifier(self.classifier).settings_class(**self.options)
        except UserError as error:
            raise ValueError(str(error)) from error
        return self


@dataclass(frozen=True)
class Examples:
    """Labelled documents: texts, whether each is of the topic (bool [texts]), and the group of each (None: its own).

    A group, such as the pages of one book, is held out as a whole.
    """

    texts: Sequence[str]
    labels: np.ndarray
    groups: Sequence[str] | None = None

    def __post_init__(self) -> None:
        groups = self.groups if self.groups is not None else self.texts
        if not len(self.texts) == len(self.labels) == len(groups):
            raise UserError(
                f"examples: {len(self.texts)} texts, {len(self.labels)} labels and {len(groups)} groups; give as many"
            )

    @staticmethod
    def of(topic: Sequence[str], other: Sequence[str]) -> "Examples":
        """Examples of the topic, and of other text; each its own group."""
        return Examples([*topic, *other], np.array([True] * len(topic) + [False] * len(other)))

    def without(self, left_out: np.ndarray) -> "Examples":
        """The examples but for some, bool [texts]."""
        kept = np.flatnonzero(~left_out).tolist()
        groups = None if self.groups is None else [self.groups[row] for row in kept]
        return Examples([self.texts[row] for row in kept], np.asarray(self.labels)[kept], groups)

    def split(self, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the examples to fit on, and of those held out, by hash of the group."""
        names = self.groups if self.groups is not None else self.texts
        hashes = np.array([hash64(name) for name in names], dtype=np.uint64)
        held = mixed(hashes, seed, "filter") < np.uint64(int(share * 2**64))
        return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(frozen=True)
class FilterReport:
    """What held-out examples say of a filter.

    fitted, held_out: documents. topic: share of the topic among those held out, weighed to `FilterSettings.share`.
    mean: mean probability of the same. precision, recall: at the threshold. error: expected calibration error.
    contaminated: examples that were left out because they share text with exams.
    """

    fitted: int
    held_out: int
    topic: float
    mean: float
    precision: float
    recall: float
    error: float
    contaminated: int = 0


@dataclass(frozen=True)
class DomainFilter:
    """A fitted filter. A document is kept where its probability reaches the threshold."""

    classifier: TopicClassifier
    calibration: Calibration
    threshold: float
    report: FilterReport

    def probability(self, texts: list[str]) -> np.ndarray:
        """Calibrated probability that each text is of the topic, float64 [texts]."""
        return self.calibration.probability(self.classifier.log_odds(texts))

    @staticmethod
    def fit(
        examples: Examples, settings: FilterSettings, seed: int = 0, exams: ExamIndex | None = None
    ) -> "DomainFilter":
        """Fit a classifier on some examples; calibrate it and set its threshold on the others.

        Args:
            exams: examples that share text with these are left out, or the filter would look for the exam.

        Raises:
            UserError: there is one class alone, too few examples of one, or no threshold shows the precision.
        """
        leaked = np.zeros(len(examples.texts), dtype=bool) if exams is None else exams.find(examples.texts).any
        examples = examples.without(leaked)
        labels = np.asarray(examples.labels, dtype=bool)
        if labels.all() or not labels.any():
            raise UserError(
                f"filter: all {len(labels)} examples are {'of' if labels.all() else 'of other text than'} the topic; "
                "give examples of the topic and of other text"
            )
        fitted, held = examples.split(settings.held_out, seed)
        for side, rows in (("fit on", fitted), ("hold out", held)):
            for name, count in (("the topic", int(labels[rows].sum())), ("other text", int((~labels[rows]).sum()))):
                if count < _FEWEST:
                    raise UserError(
                        f"filter: {count} examples of {name} to {side}, and {_FEWEST} are needed; give more examples, "
                        "in more groups, or another held_out"
                    )
        kind = find_classifier(settings.classifier)
        texts = [examples.texts[row] for row in fitted]
        classifier = kind.fit(texts, labels[fitted], kind.settings_class(**settings.options), seed)
        log_odds, right = classifier.log_odds([examples.texts[row] for row in held]), labels[held]
        calibration, weights = Calibration.fit(log_odds, right), np.ones(len(held))
        if settings.share is not None:
            labelled = float(right.mean())
            calibration = calibration.shifted(labelled, settings.share)
            weights = np.where(right, settings.share / labelled, (1 - settings.share) / (1 - labelled))
        probability = calibration.probability(log_odds)
        threshold = threshold_by_precision(probability, right, settings.precision, weights)
        precision, recall = precision_and_recall(probability, right, threshold, weights)
        report = FilterReport(
            len(fitted),
            len(held),
            float(np.average(right, weights=weights)),
            float(np.average(probability, weights=weights)),
            precision,
            recall,
            calibration_error(probability, right, weights),
            int(leaked.sum()),
        )
        return DomainFilter(classifier, calibration, threshold, report)

    def save(self, folder: Path) -> None:
        """Write the filter: NumPy arrays and JSON (fastText's own format where it is that), no pickles."""
        self.classifier.save(folder / "classifier")
        values = {"calibration": asdict(self.calibration), "threshold": self.threshold, "report": asdict(self.report)}
        (folder / _FILE).write_text(json.dumps({"schema": str(FILTER), **values}, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> "DomainFilter":
        """Open what `save` wrote.

        Raises:
            CorruptError: it is no filter.
            UserError: a newer splitray wrote it.
        """
        try:
            values = json.loads((folder / _FILE).read_text())
            FILTER.check(values, f"the filter {folder}")
            calibration, report = Calibration(**values["calibration"]), FilterReport(**values["report"])
            threshold = float(values["threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{folder} holds no filter: {error}") from error
        return DomainFilter(load_classifier(folder / "classifier"), calibration, threshold, report)
