"""Exams: choice tasks from local files, scored by a mixture of models or by one."""

from splitray.evaluate.exams.questions import Exam, Question, read_exam
from splitray.evaluate.exams.scoring import ExamScores, compare, grade, score_exam

__all__ = ["Exam", "ExamScores", "Question", "compare", "grade", "read_exam", "score_exam"]
