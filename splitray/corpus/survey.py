"""What a folder of text holds, by a sample: documents and bytes, before a corpus is built. Needs no Ray.

Every file is listed. Small sources are read whole. Of large ones, files and row groups are chosen by a hash of their
names, and each is read from its beginning up to its share. Totals are the sample's, by the bytes of the files.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.clean import Document, clean_documents, hash64
from splitray.corpus.columns import Columns, find_columns
from splitray.corpus.decompress import ENDINGS
from splitray.corpus.read import read_file
from splitray.corpus.records import Raw
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile, list_sources
from splitray.corpus.stream import Stored
from splitray.errors import UserError
from splitray.units import counted

_SAMPLE = 8 << 20  # bytes of source files: up to so many all is read, in some seconds of one core
_LEAST = 2 << 20  # bytes of a file: streams are read ahead by 1 MiB, so less could not be counted
_FILES = 1000  # opened at most
_TABLES = 32  # whose columns are looked at
_REASONS = 5


@dataclass(frozen=True)
class Survey:
    """What some sources hold: estimated from a sample, exact where all was read.

    Args:
        files: by kind.
        file_bytes: of all files together, as they lie there.
        rows: rows and text files with a document in them: what is held out as a whole.
        documents: clean ones, long rows in pieces, exact duplicates of the sample once.
        text_bytes: of these documents, UTF-8.
        columns: of the tables; None where there are none.
        texts: the sampled documents without exact duplicates, in the order of their ids' hashes.
        repeated: share of the sampled documents that repeat another one.
        seconds_per_byte: of reading and cleaning on one core, by bytes of the files.
        passed: what is no document, by reason: files that were passed over, and rows of the sample.
        whole: whether all was read.
    """

    files: Counter[str]
    file_bytes: int
    rows: int
    documents: int
    text_bytes: int
    columns: Columns | None
    texts: list[str]
    repeated: float
    seconds_per_byte: float
    passed: Counter[str]
    whole: bool


def survey(settings: CorpusSettings, text_column: str | None = None) -> Survey:
    """Survey the sources of some settings.

    Args:
        settings: how the sources are read, but for the column of the text.
        text_column: that column of the tables; found by their first rows where it is None.

    Raises:
        UserError: a source does not exist or holds no text, or it is not clear which column holds the text.
    """
    files, passed = list_sources(settings)
    files.sort(key=lambda file: hash64(file.name))
    columns = _columns(files, settings, text_column)
    if columns is not None:
        settings = settings.model_copy(update={"text_column": columns.text})
    strata: dict[tuple[str, str], list[SourceFile]] = {}
    for file in files:
        strata.setdefault(_stratum(file), []).append(file)
    total, sample, began = sum(file.size for file in files), _Sample(settings), time.perf_counter()
    read = rows = documents = size = 0.0
    for members in strata.values():
        held = sum(file.size for file in members)
        part = sample.read(members, max(_SAMPLE * held / max(total, _SAMPLE), _LEAST))
        scale = held / part.read if part.read else 1.0
        read, rows, documents, size = (
            before + value
            for before, value in zip(
                (read, rows, documents, size),
                (part.read, len(part.rows) * scale, part.documents * scale, part.bytes * scale),
                strict=True,
            )
        )
    passed += sample.passed
    if not sample.texts:
        raise UserError(_nothing(settings.sources, files, passed))
    return Survey(
        Counter(file.kind for file in files),
        total,
        round(rows),
        round(documents),
        round(size),
        columns,
        [text for _, text in sorted(sample.texts.items())],
        sample.repeated / (sample.repeated + len(sample.texts)),
        (time.perf_counter() - began) / max(read, 1.0),
        passed,
        round(read) >= total,
    )


def _columns(files: list[SourceFile], settings: CorpusSettings, text_column: str | None) -> Columns | None:
    """The columns of the tables among some files. JSON beside texts may be about anything: a run counts it."""
    tables = [file for file in files if file.kind != "text"]
    try:
        return find_columns(tables[:_TABLES], settings, text_column)
    except UserError:
        beside_texts = len(tables) < len(files) and all(file.kind in ("json", "jsonl") for file in tables)
        if text_column is not None or not beside_texts:
            raise
        return None


def _nothing(sources: list[str], files: list[SourceFile], passed: Counter[str]) -> str:
    reasons = ", ".join(f"{reason} ({count})" for reason, count in passed.most_common(_REASONS))
    found = f"{', '.join(sources)} holds no text that can be read in {counted(len(files), 'file')}"
    return f"{found}: {reasons}" if reasons else found


def _stratum(file: SourceFile) -> tuple[str, str]:
    """Files that are alike in how much text a byte of them is."""
    ending = Path(file.path).suffix.lower()
    return file.kind, ending if ending in ENDINGS else ""


@dataclass
class _Part:
    """What was read of a stratum: bytes of its files, hashes of rows, documents and their bytes."""

    read: float = 0.0
    rows: set[int] = field(default_factory=set)
    documents: int = 0
    bytes: int = 0


@dataclass
class _Sample:
    """The documents that were read, by the hashes of their ids; exact duplicates once."""

    settings: CorpusSettings
    texts: dict[int, str] = field(default_factory=dict)
    contents: set[tuple[int, int]] = field(default_factory=set)
    repeated: int = 0
    passed: Counter[str] = field(default_factory=Counter)

    def read(self, files: list[SourceFile], limit: float) -> _Part:
        """Read pieces of the files, in the order of a hash, until so many bytes are read."""
        part = _Part()
        pieces = [piece for file in files[:_FILES] for piece in _pieces(file)]
        pieces.sort(key=lambda piece: hash64(f"{piece.file.name}/{piece.first_row}"))
        for number, piece in enumerate(pieces[:_FILES]):
            if part.read >= limit:
                break
            share = (limit - part.read) / (min(len(pieces), _FILES) - number)  # small ones leave theirs to the later
            part.read += self._read_piece(piece, max(share, _LEAST), part)
        return part

    def _read_piece(self, piece: "_Piece", share: float, part: _Part) -> float:
        """Read documents of a piece until its share is read; the bytes that they stand for."""
        raw = piece.track(read_file(piece.file, self.settings, self.passed))
        settings = self.settings
        for document in clean_documents(raw, settings.min_characters, settings.max_characters, self.passed):
            if share <= piece.done < piece.size:
                return piece.done
            self._add(document, part)
        return piece.size

    def _add(self, document: Document, part: _Part) -> None:
        if document.content in self.contents:
            self.repeated += 1
            return
        self.contents.add(document.content)
        self.texts[document.order] = document.text
        part.rows.add(document.row)
        part.documents += 1
        part.bytes += len(document.text.encode())


@dataclass(frozen=True)
class _Tracked(SourceFile):
    """A file that remembers the streams in which it was opened."""

    opened: list[Stored] = field(default_factory=list, compare=False)

    def open(self) -> Stored:
        self.opened.append(super().open())
        return self.opened[-1]


@dataclass
class _Piece:
    """A file, or a row group of one: `size` bytes, of which the documents so far stand for `done`.

    Args:
        first_row: of a row group, within its file.
        row_count: of a row group; 0 for another file.
    """

    file: _Tracked
    size: float
    first_row: int = 0
    row_count: int = 0
    done: float = 0.0

    def track(self, raw: Iterator[Raw]) -> Iterator[Raw]:
        """The documents as they are read; each row, or each time that a stream was read further, counts."""
        ahead = 0.0
        for document in raw:
            if self.row_count:
                self.done = (int(document.id.rpartition(":")[2]) - self.first_row) / self.row_count * self.size
            elif (position := max((stream.tell() for stream in self.file.opened), default=0)) > ahead:
                self.done, ahead = ahead, float(position)  # what was read ahead before is used up now
            yield document


def _pieces(file: SourceFile) -> Iterator[_Piece]:
    """A file in pieces: Parquet by row groups. One that cannot be opened is one piece, which the reader counts."""
    try:
        groups = _row_groups(file) if file.kind == "parquet" else []
    except (OSError, pa.ArrowException):
        groups = []
    if not groups:
        yield _Piece(_tracked(file), float(file.size))
    total, first_row = sum(size for _, size in groups), 0
    for number, (row_count, size) in enumerate(groups):
        if row_count:
            piece = replace(_tracked(file), rows=(number,))
            yield _Piece(piece, file.size * size / max(total, 1), first_row, row_count)
        first_row += row_count


def _row_groups(file: SourceFile) -> list[tuple[int, int]]:
    """Rows and bytes of the row groups of a Parquet file."""
    with file.open() as stream:
        footer = pq.read_metadata(stream)
    found = (footer.row_group(number) for number in range(footer.num_row_groups))
    return [(group.num_rows, group.total_byte_size) for group in found]


def _tracked(file: SourceFile) -> _Tracked:
    return _Tracked(**file.plain())
