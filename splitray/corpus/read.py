"""Read one unit of files into raw documents, row by row, and count what cannot be read with its reason."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile

_LARGEST = 256 << 20  # bytes of one text file or one JSON line: it is held in memory whole
_FAULTS = (OSError, pa.ArrowException)  # what decoders raise; storage that fails is a StorageError
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Raw:
    """A document as it stands in its file. `group` is what must not be torn apart by the split."""

    id: str
    group: str
    text: str
    container: str


def read_file(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    """The documents of one file in their order. A file that breaks half-way gives what stood before the break."""
    reader = {"parquet": _parquet, "jsonl": _jsonl, "text": _text}[file.kind]
    try:
        yield from reader(file, settings, tally)
    except _FAULTS as error:
        tally[f"corrupt file: {file.name} ({_reason(error)})"] += 1


def _reason(error: Exception) -> str:
    """The first line of a decoder's message, short enough for a table."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:80]


def _parquet(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    named = (settings.text_column, settings.id_column, settings.group_column)
    wanted = sorted({column for column in named if column is not None})
    with file.open() as stream, pq.ParquetFile(stream) as table:
        groups = range(table.num_row_groups) if file.rows is None else file.rows
        row = sum(table.metadata.row_group(g).num_rows for g in range(groups[0])) if groups else 0
        for batch in table.iter_batches(1024, row_groups=list(groups), columns=wanted):
            for record in _records(batch, tally):
                if record is not None:
                    yield from _record(record, row, file, settings, tally)
                row += 1


def _records(batch: pa.RecordBatch, tally: Counter[str]) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch, None for one that is no UTF-8 (Parquet does not check) or has no value in Python."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for row in range(len(batch)):
            try:
                yield batch.slice(row, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                tally["not UTF-8" if isinstance(error, UnicodeDecodeError) else "unreadable row"] += 1
                yield None


def _jsonl(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with _open(file) as stream:
        if reason := _no_text(stream):
            tally[reason] += 1
            return
        row = 0
        for line in _lines(stream, tally):
            if line.isspace():
                continue
            row += 1
            try:
                record = json.loads(line.decode("utf-8-sig" if row == 1 else "utf-8"))
            except UnicodeDecodeError:
                tally["not UTF-8"] += 1
                continue
            except (ValueError, RecursionError):
                tally["not JSON"] += 1
                continue
            if not isinstance(record, dict):
                tally["not a JSON object"] += 1
            elif settings.text_column not in record:
                tally[f"no field {settings.text_column!r}"] += 1
            elif _twice(line, settings.text_column):
                tally[f"field {settings.text_column!r} given twice"] += 1
            else:
                yield from _record(record, row - 1, file, settings, tally)
        if row == 0:
            tally["file without documents"] += 1


def _lines(stream: io.BufferedReader, tally: Counter[str]) -> Iterator[bytes]:
    """Lines of at most `_LARGEST` bytes; a longer one is counted once and passed over."""
    while line := stream.readline(_LARGEST):
        if len(line) < _LARGEST or line.endswith(b"\n"):
            yield line
            continue
        tally[f"line above {_LARGEST >> 20} MB"] += 1
        while (rest := stream.readline(_LARGEST)) and not rest.endswith(b"\n"):
            pass


def _twice(line: bytes, field: str) -> bool:
    """Whether a JSON object names a field twice at its top, where parsers keep one and say nothing."""
    if line.count(json.dumps(field).encode()) < 2:
        return False
    top: list[tuple[str, Any]] = []

    def keep_last(pairs: list[tuple[str, Any]]) -> None:
        top[:] = pairs  # the outermost object is closed last

    json.loads(line, object_pairs_hook=keep_last)
    return sum(name == field for name, _ in top) > 1


def _record(
    record: dict[str, Any], row: int, file: SourceFile, settings: CorpusSettings, tally: Counter[str]
) -> Iterator[Raw]:
    text = record[settings.text_column]
    if text is None:
        tally["empty"] += 1
        return
    if not isinstance(text, str):
        tally["text is not a string"] += 1
        return
    identity = record.get(settings.id_column) if settings.id_column else None
    group = record.get(settings.group_column) if settings.group_column else file.name
    own = f"{file.name}:{row}" if identity is None else str(identity)
    yield Raw(own, own if group is None else str(group), text, file.container)


def _text(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with _open(file) as stream:
        if reason := _no_text(stream):
            tally[reason] += 1
            return
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        tally[f"text file above {_LARGEST >> 20} MB"] += 1
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        tally["not UTF-8"] += 1
        return
    if file.path.endswith(".dist-info/METADATA"):
        # The header fields are the same for every package; the description below them is the package's README.
        described = message_from_string(text).get_payload(decode=False)
        text = described if isinstance(described, str) else text
    yield Raw(file.name, file.name, text, file.container)


def _no_text(stream: io.BufferedReader) -> str | None:
    """Why a file is no text, as its first 8 KiB tell."""
    head = stream.peek(8192)[:8192]
    if head.startswith(_UTF16):
        return "not UTF-8 (UTF-16)"
    return "binary file" if b"\0" in head else None


def _open(file: SourceFile) -> io.BufferedReader:
    """The decompressed bytes of a text or JSONL file; a truncated one ends in an `OSError`."""
    stream: Any = file.open()
    for ending, codec in ((".gz", "gzip"), (".zst", "zstd")):
        if file.path.endswith(ending):
            stream = pa.CompressedInputStream(stream, codec)
    return io.BufferedReader(stream, 1 << 20)
