"""Several models in several exams."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from splitray.evaluate.exams.questions import Exam
from splitray.evaluate.exams.scoring import ExamScores, compare, grade, score_exam
from splitray.results.evaluation import UNSPLIT
from splitray.results.exams import ExamScore

if TYPE_CHECKING:
    from splitray.evaluate.mixture import Mixture


def examine(takers: Mapping[str, "Mixture"], exams: Sequence[Exam]) -> tuple[ExamScore, ...]:
    """Have every taker take every exam.

    Args:
        takers: mixtures, or single models as mixtures of one. The one named "unsplit" is compared with.
    """
    scores = []
    for exam in exams:
        graded = {name: grade(exam, score_exam(taker, exam)) for name, taker in takers.items()}
        scores += [_score(exam, name, own, graded.get(UNSPLIT)) for name, own in graded.items()]
    return tuple(scores)


def _score(exam: Exam, name: str, own: ExamScores, unsplit: ExamScores | None) -> ExamScore:
    difference = None if unsplit is None or unsplit is own else compare(own, unsplit)["accuracy"]
    return ExamScore(exam.name, name, **own.means(), accuracy_difference=difference)
