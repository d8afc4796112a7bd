"""Read one unit of files into raw documents, row by row, and count what cannot be read with its reason."""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile

_LARGEST = 256 << 20  # bytes of one text file or one JSON line: it is held in memory whole
_FAULTS = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException)


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
        tally[f"corrupt file: {file.name} ({type(error).__name__})"] += 1


def _parquet(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    named = (settings.text_column, settings.id_column, settings.group_column)
    wanted = sorted({column for column in named if column is not None})
    system, path = file.opened()
    with pq.ParquetFile(path, filesystem=system) as table:
        groups = range(table.num_row_groups) if file.rows is None else file.rows
        row = sum(table.metadata.row_group(g).num_rows for g in range(groups[0])) if groups else 0
        for batch in table.iter_batches(1024, row_groups=list(groups), columns=wanted):
            for record in batch.to_pylist():
                yield from _record(record, row, file, settings, tally)
                row += 1


def _jsonl(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with _open(file) as stream:
        row = 0
        while line := stream.readline(_LARGEST):
            if line.isspace():
                continue
            row += 1
            try:
                record = json.loads(line)
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
            else:
                yield from _record(record, row - 1, file, settings, tally)


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
        data = stream.read(8192)
        if b"\0" in data:
            tally["binary file"] += 1
            return
        data += stream.read(_LARGEST)
    if len(data) > _LARGEST:
        tally["text file above 256 MB"] += 1
        return
    if file.path.endswith(".dist-info/METADATA"):
        # The header fields are the same for every package; the description below them is the package's README.
        data = message_from_bytes(data).get_payload(decode=False).encode("utf-8", "surrogateescape")  # type: ignore[union-attr]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        tally["not UTF-8"] += 1
        return
    yield Raw(file.name, file.name, text, file.container)


def _open(file: SourceFile) -> BinaryIO:
    """The decompressed bytes of a text or JSONL file."""
    system, path = file.opened()
    stream: Any = system.open_input_stream(path, compression=None)
    if path.endswith(".gz"):
        stream = gzip.GzipFile(fileobj=stream)
    elif path.endswith(".zst"):
        stream = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    return io.BufferedReader(stream)
