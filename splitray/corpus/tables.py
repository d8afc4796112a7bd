"""Files of columns: Parquet, Arrow (files, streams and what `datasets.save_to_disk` writes) and CSV."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.records import Raw, columns_of, document
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile
from splitray.corpus.text_file import TextFile

_ARROW_FILE = b"ARROW1"
_FIELD = 256 << 20  # characters of one CSV cell: it is held in memory whole
_DELIMITERS = ",\t;|"
_BEHIND_QUOTE = "expected after"  # in the words of Python's reader
_SEPARATOR = re.compile(rb'"?sep=."?\s*', re.IGNORECASE)
_UNDECODED = re.compile("[\udc80-\udcff]")


def read_parquet(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with file.open() as stream, pq.ParquetFile(stream) as table:
        groups = range(table.num_row_groups) if file.rows is None else file.rows
        row = sum(table.metadata.row_group(g).num_rows for g in range(groups[0])) if groups else 0
        batches = table.iter_batches(1024, row_groups=list(groups), columns=columns_of(settings))
        yield from _documents(batches, row, file, settings, tally)


def read_arrow(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with file.open() as stream:
        batches = (batch.select(columns_of(settings)) for batch in arrow_batches(stream))
        yield from _documents(batches, 0, file, settings, tally)


def arrow_schema(file: SourceFile) -> pa.Schema:
    with file.open() as stream:
        return _reader(stream).schema


def _reader(stream: io.RawIOBase) -> Any:
    is_file = stream.read(len(_ARROW_FILE)) == _ARROW_FILE
    stream.seek(0)
    return pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)


def arrow_batches(stream: io.RawIOBase) -> Iterator[pa.RecordBatch]:
    reader = _reader(stream)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from reader


def _documents(
    batches: Iterator[pa.RecordBatch], row: int, file: SourceFile, settings: CorpusSettings, tally: Counter[str]
) -> Iterator[Raw]:
    for batch in batches:
        for record in _records(batch, tally):
            if record is not None:
                yield from document(record, row, file, settings, tally)
            row += 1


def _records(batch: pa.RecordBatch, tally: Counter[str]) -> Iterator[dict[str, object] | None]:
    """The rows of a batch, None for one that is no UTF-8 (Parquet does not check) or has no value in Python."""
    for start in range(0, len(batch), 1024):
        part = batch.slice(start, 1024)
        try:
            yield from part.to_pylist()
        except (ValueError, OverflowError):
            for row in range(len(part)):
                try:
                    yield part.slice(row, 1).to_pylist()[0]
                except (ValueError, OverflowError) as error:
                    tally["not UTF-8" if isinstance(error, UnicodeDecodeError) else "unreadable row"] += 1
                    yield None


def read_csv(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    """The rows below the header. A row of more or fewer cells than the header has was cut in the wrong places."""
    with TextFile(file) as source:
        if reason := source.no_text():
            tally[reason] += 1
            return
        rows = csv_rows(source, settings)
        header = csv_names(next(rows, []))
        number = -1
        for number, cells in enumerate(rows):
            if cells is None:
                tally["row with a broken quote"] += 1
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                if source.fault is None:  # else it is the row in which the file was cut
                    tally["row with another number of cells than the header"] += 1
                continue
            record = {name: cell or None for name, cell in zip(header, cells, strict=True)}
            if _UNDECODED.search(record[settings.text_column] or ""):
                tally["not UTF-8"] += 1
                continue
            yield from document(record, number, file, settings, tally)
        source.count(tally)
        if number < 0 and source.fault is None:
            tally["file without documents"] += 1


def csv_header(file: SourceFile, settings: CorpusSettings) -> list[str] | None:
    """The names of the columns; None where the file is no text."""
    with TextFile(file) as source:
        return None if source.no_text() else csv_names(next(csv_rows(source, settings), []))


def csv_names(header: list[str] | None) -> list[str]:
    """The names of the columns in the first row that `csv_rows` gives."""
    return [name.strip() for name in header or []]


def csv_rows(source: TextFile, settings: CorpusSettings) -> Iterator[list[str] | None]:
    """Cells by row, None for a row with text behind a closing quote. Bytes that are no UTF-8 come as lone surrogates.

    Raises:
        OSError: a quote is never closed, so that all that follows looks like one cell.
    """
    skipped = _skip_before_header(source)
    delimiter = _delimiter(source.head().decode("utf-8-sig", "replace"), settings.text_column)
    text = io.TextIOWrapper(source.stream, "utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        before = csv.field_size_limit(_FIELD)  # the limit is the whole process's
        try:
            began = skipped + reader.line_num + 1
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if _BEHIND_QUOTE not in str(error):
                unclosed = "unexpected end" in str(error)
                raise OSError(f"the quote of line {began} is not closed" if unclosed else str(error)) from error
            cells = None
            # every line that the quote swallowed was a row, most likely
            for _ in range(skipped + reader.line_num - began):
                yield None
        finally:
            csv.field_size_limit(before)
        yield cells


def _skip_before_header(source: TextFile) -> int:
    """Read over what stands before the header, and count its lines: empty ones, and the `sep=;` of spreadsheets."""
    count = 0
    while head := source.head():
        first = head.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf")
        if first.strip() and not _SEPARATOR.fullmatch(first):
            break
        source.stream.readline()
        count += 1
    return count


def _delimiter(head: str, text_column: str) -> str:
    """The delimiter at which the header falls into columns with the text column among them, else the comma."""
    lines = head.splitlines() or [""]
    for delimiter in _DELIMITERS:
        if text_column in csv_names(next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])):
            return delimiter
    return max(_DELIMITERS, key=lines[0].count)
