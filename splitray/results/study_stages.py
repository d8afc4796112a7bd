"""What the stages of a study leave."""

from collections.abc import Mapping
from dataclasses import dataclass

from splitray.results.counts import DomainCounts
from splitray.results.exams import ExamTaken


@dataclass(frozen=True)
class FilterFacts:
    """What held-out examples say of the topic's filter; see `splitray.study.filter.FilterReport`."""

    classifier: str
    threshold: float
    fitted: int
    held_out: int
    topic: float
    precision: float
    recall: float
    calibration_error: float
    contaminated: int


@dataclass(frozen=True)
class ArmText:
    """What an arm kept of the corpus: documents, UTF-8 bytes, and the lowest score in it."""

    documents: int
    bytes: int
    threshold: float


@dataclass(frozen=True)
class FilterResult:
    """Stage filter.

    Args:
        documents, bytes: that were scored.
        share: of the topic by the corpus's own labels; None where only examples are labelled.
        mean: mean probability of the topic.
        arms: what `filtered` and `quality` kept.
        contaminated: documents that share text with exams and were left out, by how they were found.
        skipped: other documents that were left out, by reason.
        cells: documents of each cell. joined: by cell, the one that its documents went to.
        exams: those that the study's models take.
    """

    filter: FilterFacts
    documents: int
    bytes: int
    share: float | None
    mean: float
    arms: Mapping[str, ArmText]
    contaminated: Mapping[str, int]
    skipped: Mapping[str, int]
    cells: Mapping[str, int]
    joined: Mapping[str, str]
    exams: tuple[ExamTaken, ...] = ()


@dataclass(frozen=True)
class StudyCorpus:
    """The corpus by one tokenizer ("" for the bases of one's own, else a given model's folder): its key and cells."""

    tokenizer: str
    key: str
    cells: tuple[DomainCounts, ...]


@dataclass(frozen=True)
class CorporaResult:
    """Stage corpora: the filtered corpus, once for each tokenizer."""

    corpora: tuple[StudyCorpus, ...]


@dataclass(frozen=True)
class RateTrial:
    """One learning rate of a model: its multiplier and peak, and its loss on general text (nats a token)."""

    model: str
    multiplier: float
    learning_rate: float
    loss: float


@dataclass(frozen=True)
class SweepResult:
    """Stage sweep: learning rates that were tried, and by model the multiplier that is used."""

    tokens: int | None
    trials: tuple[RateTrial, ...]
    chosen: Mapping[str, float]


@dataclass(frozen=True)
class LinesResult:
    """Stage lines: finished models of all sizes but the one that is held out, and rows of the table of measures."""

    models: int
    rows: int


@dataclass(frozen=True)
class SealedResult:
    """Stage forecast: the sealed forecast's file and its SHA-256. None where no size is held out."""

    path: str | None
    sha256: str | None


@dataclass(frozen=True)
class HeldOutResult:
    """Stage held-out: finished models of the size that was forecast, and rows of the whole table."""

    models: int
    rows: int


@dataclass(frozen=True)
class AnalysisResult:
    """Stage analysis: its file in the run folder."""

    path: str
