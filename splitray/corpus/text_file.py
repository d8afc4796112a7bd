"""A source file as plain bytes: without its compression, with what its first bytes tell and what was wrong with it."""

import re
from collections import Counter
from types import TracebackType

from splitray.corpus.decompress import ENDINGS, unpacked
from splitray.corpus.sources import SourceFile

_HEAD = 8192
_MARKLESS_UTF16 = re.compile(rb"(?:[\t\n\r\x20-\x7e]\0){8}|(?:\0[\t\n\r\x20-\x7e]){8}")  # of Latin letters
_FOREIGN = {  # how files begin that are no text, and what to do with them; the first that fits
    b"\xff\xfe\0\0": "not UTF-8 (UTF-32)",
    b"\xff\xfe": "not UTF-8 (UTF-16)",
    b"\xfe\xff": "not UTF-8 (UTF-16)",
    b"version https://git-lfs.github.com/spec/": "Git LFS pointer (git lfs pull fetches the file)",
    b"PAR1": "Parquet under another ending (rename it, or set corpus.format)",
    b"PK\x03\x04": "zip archive or office document (unpack it, or save it as text)",
    b"7z\xbc\xaf\x27\x1c": "7z archive (unpack it)",
    b"Rar!\x1a\x07": "rar archive (unpack it)",
    b"\x04\x22\x4d\x18": "lz4 file (unpack it, or compress it with gzip or zstd)",
    b"\xff\x06\0\0sNaPpY": "snappy file (unpack it, or compress it with gzip or zstd)",
    b"\x1f\x9d": "file of compress (unpack it)",
    b"LZIP\x01": "lzip file (unpack it, or compress it with xz)",
    b"]\0\0": "lzma file (unpack it, or compress it with xz)",
    b"PK\x05\x06": "zip archive without files",
    b"ARROW1": "Arrow under another ending (rename it, or set corpus.format)",
    b"Obj\x01": "Avro (write it as Parquet or JSON lines)",
    b"\x89HDF": "HDF5 (write it as Parquet or JSON lines)",
    b"\xd0\xcf\x11\xe0": "old office document (save it as text)",
    b"WARC/1.": "WARC archive (extract its texts)",
    b"<mediawiki": "MediaWiki dump (extract its texts)",
    b"%PDF-": "PDF (extract its text)",
    b"{\\rtf": "RTF (save it as text)",
    b"SQLite format 3": "database (export its text)",
    b"\x93NUMPY": "numpy array (text is needed, not tokens)",
}


class TextFile:
    """Open for reading as `stream`. Whoever has read it to its end calls `count`."""

    def __init__(self, file: SourceFile) -> None:
        self.name, self._path = file.name, file.path
        self.stream, self._layers = unpacked(file.open())

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()

    def head(self, size: int = _HEAD) -> bytes:
        """The first bytes of the text, up to a size of at most 1 MiB; nothing is consumed."""
        return self.stream.peek(size)[:size]

    def no_text(self) -> str | None:
        """Why the file is no text, as its first 8 KiB tell."""
        head = self.head()
        if what := next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None):
            return what
        if head[257:262] == b"ustar":
            return "tar archive (unpack it)"
        if _MARKLESS_UTF16.match(head):
            return "not UTF-8 (UTF-16)"
        return "binary file" if b"\0" in head else None

    @property
    def named_compressed(self) -> bool:
        """Whether the name promises a compression that the content lacks."""
        return not self._layers and self._path.lower().endswith(ENDINGS)

    @property
    def fault(self) -> str | None:
        """Why the text ends before its end, known once it was read; None where it does not."""
        return next((layer.fault for layer in self._layers if layer.fault is not None), None)

    def count(self, tally: Counter[str]) -> None:
        """Add what was wrong with the compressed file."""
        if self.fault is not None:
            tally[f"corrupt file: {self.name} ({self.fault})"] += 1
        tally.update(layer.remark for layer in self._layers if layer.remark is not None)
