"""Exams inside documents: found word for word, found with other wording, and not found where there are none."""

import random
from pathlib import Path

import numpy as np
import pytest

from splitray.evaluate.exams import Exam, Question
from splitray.study.contamination import ExamIndex, grams

DRAW = random.Random(0)
WORDS = ["".join(DRAW.choices("abcdefghijklmnopqrstuvwxyz", k=DRAW.randint(3, 9))) for _ in range(2000)]


def text(words: int) -> str:
    return " ".join(DRAW.choices(WORDS, k=words))


QUESTIONS = tuple(Question(f"{text(30)}?", (text(4), text(4)), n % 2) for n in range(40))
SHORT = Question("Who was it?", ("she", "he"), 0)
EXAM = Exam("bar", (*QUESTIONS, SHORT))
INDEX = ExamIndex.build([EXAM])


def test_grams_are_those_of_the_words() -> None:
    """As many as windows of distinct words, whatever case and punctuation; by brute force over tuples."""
    words = text(50).split()
    windows = {tuple(words[at : at + 13]) for at in range(len(words) - 12)}
    assert len(grams(" ".join(words))) == len(windows)
    assert np.array_equal(grams(" ".join(words)), grams(", ".join(w.upper() for w in words) + "!"))
    assert len(grams(" ".join(words[:12]))) == 0 and len(grams(" ".join(words[:13]))) == 1
    assert not np.isin(grams(" ".join(reversed(words))), grams(" ".join(words))).any()


def test_documents_with_questions_in_them_are_found() -> None:
    clean = [text(200) for _ in range(100)]
    leaks = [f"{text(80)}. {q.question} {q.choices[q.answer]} {text(80)}" for q in QUESTIONS]
    parts = [f"{text(80)} {' '.join(q.question.split()[5:18])} {text(80)}" for q in QUESTIONS]
    found = INDEX.find([*clean, *leaks, *parts])
    assert not found.any[:100].any(), "no false alarm"
    assert found.grams[100:].all(), "13 words of a question are enough"
    assert found.near[100:140].all() and not found.near[140:].any()


def test_questions_shorter_than_13_words_are_found_as_near_duplicates() -> None:
    """Eleven words with the answer, of some 130 letters: no 13-gram, but text enough to be told."""
    words = ["".join(DRAW.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(10)]
    index = ExamIndex.build([Exam("short", (Question(" ".join(words), ("certainly", "never"), 0),))])
    leak = f"{text(80)} {' '.join(words)} certainly {text(80)}"
    found = index.find([leak, text(160), " ".join(words[:3])])
    assert index.short == 1 and not found.grams.any() and found.near.tolist() == [True, False, False]


def test_an_exam_s_own_instructions_contaminate_nothing() -> None:
    preamble = text(40)
    exam = Exam("told", tuple(Question(f"{preamble} {q.question}", q.choices, q.answer) for q in QUESTIONS))
    index = ExamIndex.build([exam])
    assert not index.find([f"{text(50)} {preamble} {text(50)}"]).any.any()
    assert index.find([f"{text(50)} {QUESTIONS[3].question} {text(50)}"]).grams.all()


@pytest.mark.parametrize("questions", [11, 40])
def test_a_passage_that_many_questions_share_is_found(questions: int) -> None:
    """Reading comprehension: instructions, a passage, and many questions about it. The passage is a leak."""
    told, passage = text(20), text(120)
    asked = tuple(Question(f"{told} {passage} {text(12)}?", (text(4), text(4)), 0) for _ in range(questions))
    others = tuple(Question(f"{told} {text(120)} {text(12)}?", (text(4), text(4)), 0) for _ in range(3))
    index = ExamIndex.build([Exam("read", (*asked, *others))])
    documents = [passage, f"{text(80)} {passage} {text(80)}", f"{text(80)} {told} {text(80)}", text(200)]
    assert index.find(documents).grams.tolist() == [True, True, False, False]


def test_what_is_common_is_so_within_an_exam() -> None:
    """An exam in eleven files, and a question that stands in one of them eleven times."""
    part = Exam("one", QUESTIONS[:3])
    documents = [f"{text(50)} {q.question} {text(50)}" for q in QUESTIONS[:3]]
    assert ExamIndex.build([part] * 11).find(documents).grams.all()
    assert ExamIndex.build([part] * 40).find([f"{q.question} {q.choices[q.answer]}" for q in QUESTIONS[:3]]).near.all()
    assert ExamIndex.build([Exam("often", QUESTIONS[:3] * 11)]).find(documents).grams.all()


def test_short_questions_are_counted_and_the_index_comes_back(tmp_path: Path) -> None:
    assert INDEX.short == 1
    INDEX.save(tmp_path)
    documents = [text(100), f"{text(40)} {QUESTIONS[0].question}"]
    ours, again = INDEX.find(documents), ExamIndex.load(tmp_path).find(documents)
    assert ours.any.tolist() == again.any.tolist() == [False, True]


@pytest.mark.parametrize("exams", [[], [Exam("short", (SHORT,))]])
def test_exams_with_nothing_to_find_find_nothing(exams: list[Exam]) -> None:
    assert not ExamIndex.build(exams).find([text(100), "Who was it? she"]).grams.any()
