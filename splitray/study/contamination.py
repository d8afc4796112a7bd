"""Exams inside training text: shared 13-grams of words, and near-duplicates.

13-grams are those of Brown et al. 2020 (arXiv 2005.14165, appendix C): lower case, without punctuation. Near-duplicates
are found as the corpus finds those of its validation documents: by letters. That finds questions of fewer than 13 words
too, and text without blanks between words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from splitray.corpus.clean import hash64
from splitray.corpus.duplicates import ValidationIndex, shingles
from splitray.evaluate.exams import Exam

WINDOW = 13
_COMMON = 10  # what more questions of an exam share than this may be its own wording, such as its instructions
_LONGEST = 40  # words of instructions: formal logic of MMLU has 34; what is longer is a passage that is asked about
_NEAR = 0.8  # of a text's shingles, as corpus.near_duplicate
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_WORD = re.compile(r"\w+")
_ARRAYS = ("grams", "keys", "starts", "documents", "sizes")


@lru_cache(maxsize=1 << 18)
def _word(word: str) -> int:
    return hash64(word)


def grams(text: str) -> np.ndarray:
    """Hashes of the text's 13-grams of words, distinct and sorted, uint64; none where it has fewer words."""
    return np.unique(_windows(text))


def _windows(text: str) -> np.ndarray:
    """The same in their order in the text, with repeats."""
    words = np.array([_word(word) for word in _WORD.findall(text.lower())], dtype=np.uint64)
    if len(words) < WINDOW:
        return np.empty(0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        hashes = np.zeros(len(words) - WINDOW + 1, dtype=np.uint64)
        for place in range(WINDOW):
            hashes = hashes * _BASE + words[place : place + len(hashes)]
    return hashes


def exam_texts(exam: Exam) -> list[str]:
    """What a leak of each question would show: the question, and its right answer after it."""
    return [f"{question.question} {question.choices[question.answer]}" for question in exam.questions]


def _telling(texts: Sequence[str]) -> np.ndarray:
    """13-grams of one exam's texts that tell a question or its passage, without the exam's own short wording.

    A stretch of grams that equally many questions share is wording where those are more than `_COMMON`, and it has at
    most `_LONGEST` words. Where the number changes, one ends: instructions before a passage are told from the passage.
    """
    windows = [_windows(text) for text in dict.fromkeys(texts)]
    every, counts = np.unique(np.concatenate([*map(np.unique, windows), np.empty(0, np.uint64)]), return_counts=True)
    telling = np.zeros(len(every), dtype=bool)
    for own in windows:
        at = np.searchsorted(every, own)
        for stretch in np.split(at, np.flatnonzero(np.diff(counts[at])) + 1):
            shared = counts[stretch[:1]] > _COMMON
            telling[stretch] |= ~shared.any() or len(stretch) + WINDOW - 1 > _LONGEST
    return every[telling]


@dataclass(frozen=True)
class Contaminated:
    """Which documents share text with exams, bool [documents]: by 13-grams, and as near-duplicates."""

    grams: np.ndarray
    near: np.ndarray

    @property
    def any(self) -> np.ndarray:
        found: np.ndarray = self.grams | self.near
        return found


@dataclass(frozen=True)
class ExamIndex:
    """13-grams of exams, sorted, and their shingles.

    short: questions with fewer than 13 words, which only near-duplicates can find.
    """

    grams: np.ndarray
    shingles: ValidationIndex
    short: int = 0

    @staticmethod
    def build(exams: Sequence[Exam]) -> "ExamIndex":
        """The index of some exams."""
        by_exam = [exam_texts(exam) for exam in exams]
        texts = [text for own in by_exam for text in own]
        every = np.unique(np.concatenate([*map(_telling, by_exam), np.empty(0, np.uint64)]))
        index = ValidationIndex.build([shingles(text) for text in dict.fromkeys(texts)])
        return ExamIndex(every, index, sum(len(_WORD.findall(text)) < WINDOW for text in texts))

    def find(self, texts: Sequence[str]) -> Contaminated:
        """Which of some documents share text with the exams."""
        shared = np.zeros(len(texts), dtype=bool)
        if len(self.grams):
            for place, text in enumerate(texts):
                own = grams(text)
                at = np.minimum(np.searchsorted(self.grams, own), len(self.grams) - 1)
                shared[place] = bool((self.grams[at] == own).any())
        return Contaminated(shared, self.shingles.near_duplicates([shingles(text) for text in texts], _NEAR))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            array = self.grams if name == "grams" else getattr(self.shingles, name)
            np.save(folder / f"{name}.npy", array, allow_pickle=False)

    @staticmethod
    def load(folder: Path) -> "ExamIndex":
        words, *rest = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS)
        return ExamIndex(words, ValidationIndex(*rest))
