"""What stage exams leaves: who took which exam, and how."""

from dataclasses import dataclass

from splitray.law.planning.estimate import Estimate


@dataclass(frozen=True)
class ExamTaken:
    """One exam.

    Args:
        name: of its file, without the ending. file: as the configuration names it.
        sha256: of the file. questions: how many were asked. shots: solved questions before each.
        chance: accuracy of guessing. detectable: the smallest difference in accuracy that two independent takers near
            chance show in 19 exams of 20.
    """

    name: str
    file: str
    sha256: str
    questions: int
    shots: int
    chance: float
    detectable: float


@dataclass(frozen=True)
class ExamScore:
    """One taker of one exam: means over its questions with their 95 % intervals over questions.

    Args:
        taker: "mixture", "base", "unsplit", or a domain.
        accuracy: share of questions whose right choice is the likeliest. accuracy_norm: the same per byte.
        nats_per_byte: of the right choice. margin: nats per byte of the best wrong choice less that.
        accuracy_difference: accuracy less the unsplit model's, paired by question; None where that is not there, or is
            the taker itself.
    """

    exam: str
    taker: str
    accuracy: Estimate
    accuracy_norm: Estimate
    nats_per_byte: Estimate
    margin: Estimate
    accuracy_difference: Estimate | None = None


@dataclass(frozen=True)
class ExamsResult:
    """Stage exams. Scores are in the order of the exams, then of the takers."""

    exams: tuple[ExamTaken, ...]
    scores: tuple[ExamScore, ...]
