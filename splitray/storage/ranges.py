"""Byte ranges of an artifact's files, read without the rest of them.

A file's own SHA-256 says nothing before all of it is read. So its writer also records the SHA-256 of every chunk of a
fixed size. A range is cut out of whole chunks, each compared first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitray.errors import CorruptError
from splitray.storage.store import Published

CHUNK_BYTES = 1 << 24  # 16 MiB: a rank's share at 1.3B on 64 ranks is 250 MB, and four chunks stay in memory
_KEPT = 4  # chunks in memory: weights and both moments of a parameter lie apart in one file


@dataclass(frozen=True)
class Chunks:
    """SHA-256 of every `size` bytes of a file, the last chunk being what is left."""

    size: int
    sha256: tuple[str, ...]

    @staticmethod
    def of(path: Path, size: int) -> tuple["Chunks", str]:
        """The chunks of a local file, and the SHA-256 of all of it, by one pass."""
        whole, chunks = hashlib.sha256(), list[str]()
        with path.open("rb") as stream:
            while chunk := stream.read(size):
                whole.update(chunk)
                chunks.append(hashlib.sha256(chunk).hexdigest())
        return Chunks(size, tuple(chunks)), whole.hexdigest()


class Ranges:
    """Reads ranges of the files of one artifact.

    Args:
        chunks: by file.

    `bytes_read` counts what the storage was asked for.
    """

    def __init__(self, published: Published, chunks: Mapping[str, Chunks]) -> None:
        self._published, self._chunks = published, chunks
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self.bytes_read = 0

    def read(self, name: str, start: int, stop: int) -> bytearray:
        """Bytes `start` to `stop` of a file.

        Raises:
            CorruptError: a chunk is damaged or missing.
            StorageError: the storage does not give it.
        """
        found, size = bytearray(), self._size(name)
        for number in range(start // size, -(-stop // size)):
            chunk, begin = self._chunk(name, number), number * size
            found += memoryview(chunk)[max(0, start - begin) : stop - begin]
        if len(found) != stop - start:
            raise CorruptError(f"{self._where(name)} ends before byte {stop}")
        return found

    def _size(self, name: str) -> int:
        if name not in self._chunks:
            raise CorruptError(f"{self._published.key} records no chunks of {name}")
        return self._chunks[name].size

    def _chunk(self, name: str, number: int) -> bytes:
        if (name, number) in self._kept:
            self._kept.move_to_end((name, number))
            return self._kept[name, number]
        known, size = self._chunks[name].sha256, self._size(name)
        try:
            data = self._published.folder.read_range(name, number * size, size)
        except FileNotFoundError as error:
            raise CorruptError(f"{self._where(name)} is missing") from error
        if number >= len(known) or hashlib.sha256(data).hexdigest() != known[number]:
            raise CorruptError(f"{self._where(name)}: chunk {number} does not match its SHA-256")
        self.bytes_read += len(data)
        self._kept[name, number] = data
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return data

    def _where(self, name: str) -> str:
        return f"{self._published.folder.uri}/{name}"


def chunks_of(plain: Any) -> dict[str, Chunks]:
    """By file, from what `plain_of` made.

    Raises:
        KeyError, TypeError, ValueError: it is of another form.
    """
    return {str(name): Chunks(int(size), tuple(map(str, sums))) for name, (size, sums) in dict(plain).items()}


def plain_of(chunks: Mapping[str, Chunks]) -> dict[str, Any]:
    """As JSON types."""
    return {name: [c.size, list(c.sha256)] for name, c in chunks.items()}
