"""A source file as plain bytes: without its compression, with what its first bytes tell and what was wrong with it."""

from collections import Counter
from types import TracebackType

from splitray.corpus.decompress import ENDINGS, unpacked
from splitray.corpus.sources import SourceFile

_HEAD = 8192
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LFS = b"version https://git-lfs.github.com/spec/"


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

    def head(self) -> bytes:
        """The first bytes of the text, up to 8 KiB; nothing is consumed."""
        return self.stream.peek(_HEAD)[:_HEAD]

    def no_text(self) -> str | None:
        """Why the file is no text, as its first 8 KiB tell."""
        head = self.head()
        if head.startswith(_UTF16):
            return "not UTF-8 (UTF-16)"
        if head.startswith(_LFS):
            return "Git LFS pointer (git lfs pull fetches the file)"
        if head[257:262] == b"ustar":
            return "tar archive (unpack it)"
        if head.startswith(b"PAR1"):
            return "Parquet under another ending (rename it, or set corpus.format)"
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
