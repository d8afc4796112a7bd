"""Files packed into units of work. The columns of every table are checked here, before any work is done."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.decompress import codec_of
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile
from splitray.corpus.tables import arrow_schema, csv_header
from splitray.corpus.text_file import TextFile
from splitray.errors import UserError

# Bytes of source text a task: below 4 MB the tasks cost more than the work, above 64 MB the memory of one hurts.
_UNIT_BYTES = (4 << 20, 64 << 20)
_UNITS = 2048
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def plan_units(files: list[SourceFile], settings: CorpusSettings, passed: Counter[str]) -> list[list[dict[str, Any]]]:
    """Files packed into units of like size, in order of name: small files together, row groups of Parquet apart.

    A pure function of the listing, so the blocks that follow never depend on the number of workers. A table that
    cannot be opened is counted in `passed`.

    Raises:
        UserError: a table lacks a column that the settings name, has it twice, or holds no text in it.
    """
    total = sum(f.size for f in files)
    target = min(max(total // _UNITS, _UNIT_BYTES[0]), _UNIT_BYTES[1])
    units: list[list[dict[str, Any]]] = []
    room = 0
    for part, size in (piece for file in files for piece in _pieces(file, target, settings, passed)):
        if size > room or not units:
            units.append([])
            room = target
        units[-1].append(part.plain())
        room -= size
    return units


def _pieces(
    file: SourceFile, target: int, settings: CorpusSettings, passed: Counter[str]
) -> Iterator[tuple[SourceFile, int]]:
    if file.kind in ("jsonl", "json", "text"):
        yield file, file.size
        return
    try:
        if file.kind == "parquet":
            yield from _row_groups(file, target, settings, passed)
            return
        if file.kind == "arrow":
            _check_schema(file, arrow_schema(file), settings)
        elif (header := csv_header(file, settings)) is not None:
            if not header:
                passed["file without documents"] += 1
                return
            _check_names(file, header, settings)
        yield file, file.size
    except (pa.ArrowException, OSError):
        passed[f"corrupt file: {file.name}{_hint(file)}"] += 1


def _hint(file: SourceFile) -> str:
    """What a file is that cannot be read as a table, where its first bytes tell; in brackets."""
    with file.open() as stream:
        packed = codec_of(stream.read(16))
    if packed:
        return f" ({packed} around a table: unpack it)"
    with TextFile(file) as source:
        head, what = source.head(), source.no_text()
    if head.startswith((b"PAR1", b"ARROW1")[file.kind == "arrow"]):  # it is what it is called, and damaged
        return ""
    if what is None and head.lstrip().startswith((b"{", b"[")):
        what = "JSON under another ending (rename it)"
    return f" ({what})" if what not in (None, "binary file") else ""


def _row_groups(
    file: SourceFile, target: int, settings: CorpusSettings, passed: Counter[str]
) -> Iterator[tuple[SourceFile, int]]:
    with file.open() as stream:
        footer = pq.read_metadata(stream)
    if footer.num_rows == 0:
        passed["file without documents"] += 1
        return
    _check_schema(file, footer.schema.to_arrow_schema(), settings)
    rows: list[int] = []
    size = 0
    for group in range(footer.num_row_groups):
        rows.append(group)
        size += footer.row_group(group).total_byte_size
        if size >= target or group == footer.num_row_groups - 1:
            yield replace(file, rows=tuple(rows)), size
            rows, size = [], 0


def _check_schema(file: SourceFile, schema: pa.Schema, settings: CorpusSettings) -> None:
    _check_names(file, schema.names, settings)
    kind = schema.field(settings.text_column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(is_text(kind) for is_text in _TEXT_TYPES):
        raise UserError(f"corpus.text_column: {settings.text_column!r} of {file.name} holds {kind}, not text")


def _check_names(file: SourceFile, names: list[str], settings: CorpusSettings) -> None:
    for field in ("text_column", "id_column", "group_column", "domain_column"):
        column = getattr(settings, field)
        if column is None or names.count(column) == 1:
            continue
        fault = "has two columns" if column in names else "has no column"
        listed = ", ".join(f"{name:.60}" for name in names[:20]) + (", ..." if len(names) > 20 else "")
        raise UserError(f"corpus.{field}: {file.name} {fault} {column!r}; its columns are {listed or 'none'}")
