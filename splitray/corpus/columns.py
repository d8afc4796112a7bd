"""Which column of some tables holds the text: decided from their first rows, before a configuration names one."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.json_values import is_lines, json_values
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile
from splitray.corpus.tables import arrow_batches, csv_names, csv_rows
from splitray.corpus.text_file import TextFile
from splitray.errors import UserError

_ROWS = 100  # of a file
_LARGEST = 64 << 20  # bytes of one JSON value
_DEFAULT = "text"
_FAULTS = (OSError, ValueError, pa.ArrowException, RecursionError)  # of a file that the corpus counts as corrupt


@dataclass(frozen=True)
class Columns:
    """The column of the text, and the others that every table has, in the order of their first file."""

    text: str
    others: tuple[str, ...]


def find_columns(files: list[SourceFile], settings: CorpusSettings, wanted: str | None) -> Columns | None:
    """The columns of some tables by their first rows; None where there is no row.

    Args:
        settings: with the shortest document, which tells text from labels.
        wanted: the column that somebody has named. Else it is `text` where every table has that, else the only one
            whose values are long enough.

    Raises:
        UserError: a table lacks the column, none holds text, or several do.
    """
    lengths: dict[str, dict[str, float]] = {}  # mean characters by column and file
    for file in files:
        if records := list(_first_records(file, settings)):
            lengths[file.name] = _lengths(records)
    if not lengths:
        return None
    first = next(iter(lengths.values()))
    shared = [name for name in first if all(name in found for found in lengths.values())]
    chosen = wanted or _chosen(lengths, shared, settings.min_characters)
    for name, found in lengths.items():
        if chosen not in found:
            listed = ", ".join(map(repr, found))
            raise UserError(
                f"{name} has no column {chosen!r}; its columns are {listed}. All tables need one column of text: give "
                "--text-column, rename the column, or give a folder of tables that have it"
            )
    return Columns(chosen, tuple(name for name in shared if name != chosen))


def _chosen(lengths: Mapping[str, Mapping[str, float]], shared: list[str], shortest: int) -> str:
    if _DEFAULT in shared:
        return _DEFAULT
    mean = {name: sum(found[name] for found in lengths.values()) / len(lengths) for name in shared}
    long = sorted((name for name in mean if mean[name] >= shortest), key=lambda name: -mean[name])
    if len(long) == 1:
        return long[0]
    if long:
        listed = ", ".join(f"{name!r} ({mean[name]:.0f} characters on average)" for name in long)
        raise UserError(f"several columns may hold the text: {listed}. Choose one with --text-column")
    if len(lengths) > 1 and not shared:
        one, other = list(lengths)[:2]
        raise UserError(
            f"the tables share no column: {one} has {', '.join(map(repr, lengths[one]))}, {other} has "
            f"{', '.join(map(repr, lengths[other]))}. Give --text-column, or folders of one kind"
        )
    found = ", ".join(map(repr, shared)) or "none"
    raise UserError(
        f"no column of the tables holds text of {shortest} characters or more on average (columns: {found}). Choose "
        "one with --text-column if one is meant"
    )


def _lengths(records: list[dict[str, object]]) -> dict[str, float]:
    """By column, the mean characters of its values; 0 where they are no text."""
    names = list(dict.fromkeys(name for record in records for name in record))
    return {name: sum(_length(record.get(name)) for record in records) / len(records) for name in names}


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def _first_records(file: SourceFile, settings: CorpusSettings) -> Iterator[dict[str, object]]:
    """The first rows of a table, all columns; those before the fault where it has one."""
    try:
        yield from islice(_records(file, settings), _ROWS)
    except _FAULTS:
        return


def _records(file: SourceFile, settings: CorpusSettings) -> Iterator[dict[str, object]]:
    if file.kind == "parquet":
        with file.open() as stream, pq.ParquetFile(stream) as table:
            yield from next(table.iter_batches(_ROWS), pa.RecordBatch.from_pylist([])).to_pylist()
    elif file.kind == "arrow":
        with file.open() as stream:
            for batch in arrow_batches(stream):
                yield from batch.slice(0, _ROWS).to_pylist()
    else:
        with TextFile(file) as source:
            if source.no_text() is None:
                yield from _of_text(source, file, settings)


def _of_text(source: TextFile, file: SourceFile, settings: CorpusSettings) -> Iterator[dict[str, object]]:
    if file.kind == "csv":
        rows = csv_rows(source, settings)
        header = csv_names(next(rows, None))
        for cells in rows:
            if cells:
                yield dict[str, object](zip(header, cells, strict=False))
    elif file.kind == "jsonl" or is_lines(source.head()):
        values = (json.loads(line) for line in source.stream if not line.isspace())
        yield from (value for value in values if isinstance(value, dict))
    else:
        yield from (value for value in json_values(source.stream, _LARGEST) if isinstance(value, dict))
