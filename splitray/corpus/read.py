"""Read one unit of files into raw documents, row by row, and count what cannot be read with its reason."""

import codecs
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from email import message_from_string
from typing import Any

import pyarrow as pa

from splitray.corpus.json_values import are_records, is_array_or_spread, is_lines, json_values
from splitray.corpus.records import Raw, document
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import Kind, SourceFile
from splitray.corpus.tables import read_arrow, read_csv, read_parquet
from splitray.corpus.text_file import TextFile
from splitray.errors import UserError

__all__ = ["Raw", "read_file"]

_LARGEST = 256 << 20  # bytes of one text file or one JSON line: it is held in memory whole
_RECORDS = 1 << 20  # bytes in which the first records are looked for: some have a whole book in a line
_FAULTS = (OSError, pa.ArrowException)  # what decoders raise; storage that fails is a StorageError


def read_file(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    """The documents of one file in their order. A file that breaks half-way gives what stood before the break."""
    try:
        yield from _READERS[file.kind](file, settings, tally)
    except _FAULTS as error:
        tally[f"corrupt file: {file.name} ({_reason(error)})"] += 1


def _reason(error: Exception) -> str:
    """The first line of a decoder's message, short enough for a table."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:80]


def _jsonl(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with TextFile(file) as source:
        if reason := _no_json(source):
            tally[reason] += 1
            return
        read = _json_values if is_array_or_spread(source.head()) else _json_lines
        yield from read(source, file, settings, tally)


def _json(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    """A `.json` file by its content: one object a line (C4, Dolma), an array of objects, or objects over lines."""
    with TextFile(file) as source:
        if reason := _no_json(source):
            tally[reason] += 1
            return
        read = _json_lines if is_lines(source.head()) else _json_values
        yield from read(source, file, settings, tally)


def _json_values(source: TextFile, file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    row = 0
    try:
        for row, value in enumerate(json_values(source.stream, _LARGEST), start=1):
            if not isinstance(value, dict):
                tally["not a JSON object"] += 1
            elif settings.text_column not in value:
                tally[f"no field {settings.text_column!r}"] += 1
            else:
                yield from document(value, row - 1, file, settings, tally)
    except UnicodeDecodeError as error:
        raise OSError("not UTF-8") from error
    except OSError:
        if source.fault is None:  # else the break follows from it
            raise
    source.count(tally)
    if row == 0 and source.fault is None:
        tally["file without documents"] += 1


def _no_json(source: TextFile) -> str | None:
    """Why a file is no JSON, as its first 8 KiB tell."""
    if reason := source.no_text():
        return reason
    head = source.head().removeprefix(codecs.BOM_UTF8).lstrip()
    if source.named_compressed and head and not head.startswith((b"{", b"[")):
        return f"corrupt file: {source.name} (not compressed as its ending says, and no JSON)"
    return None


def _json_lines(source: TextFile, file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    row, unread = 0, Counter[str]()
    for line in _lines(source.stream, tally):
        if line.isspace():
            continue
        row += 1
        try:
            # A mark stands where files were joined, a record separator before every line of RFC 7464.
            record = json.loads(line.lstrip(b"\x1e").decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            unread["not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"] += 1
            continue
        if not isinstance(record, dict):
            tally["not a JSON object"] += 1
        elif settings.text_column not in record:
            tally[f"no field {settings.text_column!r}"] += 1
        elif _twice(line, settings.text_column):
            tally[f"field {settings.text_column!r} given twice"] += 1
        else:
            yield from document(record, row - 1, file, settings, tally)
    source.count(tally)
    if source.fault is None:  # else they follow from it
        tally.update(unread or ({} if row else {"file without documents": 1}))


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


def _text(file: SourceFile, settings: CorpusSettings, tally: Counter[str]) -> Iterator[Raw]:
    with TextFile(file) as source:
        if reason := source.no_text():
            tally[reason] += 1
            return
        # Spark calls its output part-00000, others data.txt; who sets the format to text means it
        head = source.head(_RECORDS)
        if settings.format == "auto" and are_records(head, settings.text_column, len(head) < _RECORDS):
            yield from _json_lines(source, file, settings, tally)
            return
        data = source.stream.read(_LARGEST + 1)
        source.count(tally)
        cut = source.fault is not None
    if len(data) > _LARGEST:
        tally[f"text file above {_LARGEST >> 20} MB"] += 1
        return
    if cut and not data:
        return
    try:
        # A file that was cut may end inside a letter.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=not cut)
    except UnicodeDecodeError:
        tally["not UTF-8"] += 1
        return
    if file.path.endswith(".dist-info/METADATA"):
        # The header fields are the same for every package; the description below them is the package's README.
        described = message_from_string(text).get_payload(decode=False)
        text = described if isinstance(described, str) else text
    if settings.domain_column is not None:
        raise UserError(
            f"corpus.domain_column: {file.name} is plain text, which has no column {settings.domain_column!r}; give "
            "tables or JSON lines, or name sources as domains"
        )
    yield Raw(file.name, file.name, text, file.container, file.domain)


_Reader = Callable[[SourceFile, CorpusSettings, Counter[str]], Iterator[Raw]]
_READERS: dict[Kind, _Reader] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "csv": read_csv,
    "jsonl": _jsonl,
    "json": _json,
    "text": _text,
}
