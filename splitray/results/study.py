"""What the runs of a study leave: two long tables, one of measures and one of answers, and their one way to disk.

`study.parquet` has a row for each measure of each finished model, `answers.parquet` one for each question that such a
model answered. A model is a base, or a given one, after `tokens` of continued training on the text of one arm.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.errors import CorruptError

GENERAL, FILTERED, QUALITY, MIX = ARMS = ("general", "filtered", "quality", "mix")
LOSS_DOMAIN, LOSS_GENERAL = LOSSES = ("loss/domain", "loss/general")  # nats per token of validation text
BITS_DOMAIN, BITS_GENERAL = BITS = ("bits/domain", "bits/general")  # bits per byte of the same text
OF_EXAMS = ("nats_per_byte", "accuracy", "margin")
Root = Literal["own", "given"]


def exam_measure(exam: str, measure: str) -> str:
    """The name of a measure in an exam, such as "exam/lsat/accuracy"; `measure` is one of `OF_EXAMS`."""
    return f"exam/{exam}/{measure}"


@dataclass(frozen=True)
class StudyRun:
    """One measure of one finished model.

    Args:
        model: its name, the same for all arms and seeds.
        root: "own" where the base was trained in the study, "given" where its weights came from outside.
        params: N.
        arm: the text that it was continued on; one of `ARMS`. Rows with 0 tokens are those of the model itself, once
            for each arm.
        tokens: of continued training, D; 0 is the model as it was.
        flops: those of the continued training.
        learning_rate: its peak.
        epochs: how often the arm's text was read; above 1 it was repeated.
        measure: one of `LOSSES` or `BITS`, or of an exam; see `exam_measure`.
        held_out: whether it is of the size whose results were forecast before it was trained.
    """

    model: str
    root: Root
    params: int
    arm: str
    seed: int
    tokens: int
    flops: float
    learning_rate: float
    epochs: float
    measure: str
    value: float
    held_out: bool


@dataclass(frozen=True)
class Answer:
    """How one finished model did in one question of an exam; the first fields are those of `StudyRun`.

    Args:
        question: its place in the exam, from 0.
        nats_per_byte: of the right choice.
        margin: nats per byte of the best wrong choice less those of the right one; above 0 where it is found.
        correct: 1 where the right choice is the likeliest; where n choices are equally likely, 1/n.
    """

    model: str
    arm: str
    seed: int
    tokens: int
    exam: str
    question: int
    nats_per_byte: float
    margin: float
    correct: float


Row = TypeVar("Row", StudyRun, Answer)
_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema(kind: type[StudyRun] | type[Answer]) -> pa.Schema:
    """The columns of a table of such rows."""
    return pa.schema([(f.name, _TYPES.get(cast(type, f.type), pa.string())) for f in fields(kind)])


def table(kind: type[Row], rows: Iterable[Row]) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema(kind))


def rows(kind: type[Row], held: pa.Table) -> list[Row]:
    """The inverse of `table`.

    Raises:
        CorruptError: the table has other columns.
    """
    wanted = schema(kind)
    if missing := [name for name in wanted.names if name not in held.column_names]:
        raise CorruptError(f"a table of the study has no column {', '.join(missing)}")
    return [kind(**row) for row in held.select(wanted.names).cast(wanted).to_pylist()]


def write(kind: type[Row], found: Iterable[Row], path: Path) -> None:
    """Write rows as Parquet."""
    pq.write_table(table(kind, found), path, write_page_checksum=True)


def read(kind: type[Row], path: Path) -> list[Row]:
    """Rows of a Parquet file that `write` wrote."""
    return rows(kind, pq.read_table(path))
