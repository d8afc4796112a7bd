"""A table from a CSV or Parquet file: whatever spreadsheet wrote it is read, or refused by what it is."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from splitray.errors import UserError
from splitray.law.tables.names import normalised

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_FOREIGN = {  # how files begin that are often given for tables
    b"PK\x03\x04": "a zip archive, such as an Excel workbook: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as CSV",
    b"ARROW1": "an Arrow file: write it as Parquet or CSV",
    b"SQLite format 3": "a database: export the table as CSV",
    b"<": "HTML or XML: save the table as CSV",
    b"\x93NUMPY": "a numpy array: write it as CSV or Parquet",
    b"\x80": "a pickle: write it as CSV or Parquet",
    b"\x89HDF": "HDF5: write it as CSV or Parquet",
    b"{": "JSON: write it as CSV or Parquet",
    b"[": "JSON: write it as CSV or Parquet",
}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_SEPARATOR = re.compile(r'\ufeff?"?sep=."?\s*', re.IGNORECASE)  # a line of spreadsheets above the header
_MARKS = {  # byte order marks, the longest first
    b"\xff\xfe\0\0": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def read_table(path: Path, names: Sequence[str] = ()) -> pa.Table:
    """The table in a CSV or Parquet file.

    Args:
        names: columns of names. In a CSV file they are text whatever they look like: `01` and `1` are two names, and
            so are `1e3` and `1000`. A `NA` or `nan` without quotes is missing there, as R and pandas write it.

    A CSV file may part its columns with commas, semicolons, tabs or bars, be UTF-8 or UTF-16, and be compressed
    with gzip, zstd or bzip2.

    Raises:
        UserError: the file cannot be read, or is neither: the message says what it is instead.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
        if head == b"PAR1":
            return pa.parquet.read_table(path, page_checksum_verification=True)
        packed = next((codec for magic, codec in _PACKED.items() if head.startswith(magic)), None)
        with pa.input_stream(path, compression=packed) as stream:
            data = stream.read()
    except OSError as error:  # a Parquet file whose pages do not match their checksums is one, too
        raise UserError(f"{path}: cannot be read ({error}); give a CSV or Parquet file of runs") from error
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a Parquet table ({error}); mend the file") from error
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise UserError(f"{path}: not a CSV or Parquet table but {what}")
    text = _decoded(path, data)
    first, _, below = text.partition("\n")
    text = below if _SEPARATOR.fullmatch(first) else text
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)  # a comma where nothing parts the names
    given = next(csv.reader([header], delimiter=delimiter), [])
    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in given if normalised(name) in names},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    options = pa.csv.ParseOptions(delimiter=delimiter)
    try:
        return pa.csv.read_csv(io.BytesIO(text.encode()), parse_options=options, convert_options=convert)
    except pa.ArrowInvalid as error:
        parted = f"its columns are taken to be parted by {_DELIMITERS[delimiter]}"
        raise UserError(f"{path}: not a CSV or Parquet table ({error}; {parted}); mend the file") from error


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\x00" in data[:200]:  # UTF-16 without its mark: every other byte of ASCII is zero
        encoding = "utf-16-le" if data[1:2] == b"\x00" else "utf-16-be"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: not {encoding.upper()} in line {line} (byte {data[error.start]:#04x}): the file has another "
            "encoding, such as Latin-1 or Windows-1252; save it as UTF-8"
        ) from error
