"""Exams as files: JSON Lines or Parquet with a question, its choices and the place of the right one."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitray.errors import UserError

FIELDS = ("question", "choices", "answer")


@dataclass(frozen=True)
class Question:
    """A question, the texts that could answer it, and the place of the right one among them."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Exam:
    """A named set of questions.

    Args:
        questions: those that count.
        shots: how many solved questions stand before each; they are drawn from the others of the file.
    """

    name: str
    questions: tuple[Question, ...]
    shots: int = 0

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return sum(1 / len(question.choices) for question in self.questions) / len(self.questions)

    def context(self, place: int) -> str:
        """What a model reads before a choice of a question: the solved ones, then the question.

        The solved ones are those that follow it in the file, from the end on to the beginning: a pure function of the
        file, and never the question itself.
        """
        count = len(self.questions)
        solved = [self.questions[(place + step) % count] for step in range(1, min(self.shots, count - 1) + 1)]
        parts = [f"{q.question}\n{q.choices[q.answer]}\n\n" for q in solved]
        return "".join(parts) + self.questions[place].question + "\n"


def read_exam(path: Path, shots: int = 0, most: int | None = None) -> Exam:
    """Read an exam; it is named as its file.

    Args:
        path: `.jsonl` with an object a line, or `.parquet`. Each has `question` (text), `choices` (texts, at least
            two) and `answer` (the right one's place, from 0). Other fields are left alone.
        most: questions that are read, from the front.

    Raises:
        UserError: it is no exam; the message names the line and the field.
    """
    if not path.is_file():
        raise UserError(f"there is no exam {path}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"exam {path}: its name ends in neither .jsonl nor .parquet")
    rows = _parquet(path) if path.suffix == ".parquet" else _lines(path)
    questions: list[Question] = []
    for where, row in rows:
        if most is not None and len(questions) >= most:
            break
        questions.append(_question(row, where))
    if not questions:
        raise UserError(f"exam {path} has no question")
    return Exam(path.stem, tuple(questions), shots)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        # not splitlines: a text may hold U+2028 or U+0085, at which Python cuts and JSON does not
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"exam {path} is not UTF-8: {error.reason} at byte {error.start}") from error
    for number, line in enumerate(lines, 1):
        where = f"exam {path}, line {number}"
        if not line.strip():
            continue
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where} is no JSON: {error.msg} at column {error.colno}") from error


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"exam {path} is no Parquet file that can be read: {error}") from error
    if missing := [name for name in FIELDS if name not in file.schema_arrow.names]:
        raise UserError(f"exam {path} has no column {', '.join(missing)}")
    number = 0
    for batch in file.iter_batches(columns=list(FIELDS)):
        for row in batch.to_pylist():
            yield f"exam {path}, row {number}", row
            number += 1


def _question(row: Any, where: str) -> Question:
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a question is an object with {', '.join(FIELDS)}")
    if missing := [name for name in FIELDS if row.get(name) is None]:
        raise UserError(f"{where} has no {', '.join(missing)}")
    question, choices, answer = (row[name] for name in FIELDS)
    if not isinstance(question, str):
        raise UserError(f"{where}: question is no text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise UserError(f"{where}: choices are at least two texts, none of them empty")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise UserError(f"{where}: answer {answer!r} is no place among {len(choices)} choices (they count from 0)")
    return Question(question, tuple(choices), answer)
