"""The bytes of one source file, however its storage behaves."""

import io
from collections.abc import Callable
from typing import Any, TypeVar

from pyarrow import fs

from splitray.errors import StorageError
from splitray.storage.retry import retry

T = TypeVar("T")


class Stored(io.RawIOBase):
    """A source file as a seekable stream of bytes.

    A read that the object store fails is tried again from where it stood. What fails for good is a `StorageError` and
    never an `OSError`, which is how decoders say that a file is corrupt: text that the storage did not give must not
    be counted as text that is not there.
    """

    def __init__(self, system: fs.FileSystem, path: str, name: str) -> None:
        self._system, self._path, self._name, self._at = system, path, name, 0
        self._file: Any = None
        self._size = int(self._try(lambda: self._opened().size()))

    def _opened(self) -> Any:
        if self._file is None:
            if isinstance(self._system, fs.LocalFileSystem):
                self._file = _Local(self._path)
            else:
                self._file = self._system.open_input_file(self._path)
        return self._file

    def _try(self, action: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return action()
            except OSError:
                self._file = None  # a connection that broke is not asked again
                raise

        try:
            return retry(once, self._name, remote=not isinstance(self._system, fs.LocalFileSystem))
        except FileNotFoundError as error:
            raise StorageError(f"{self._name} was listed as a source and is gone now: start again") from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        data = self._try(lambda: self._opened().read_at(count, self._at)) if count else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


class _Local:
    """A local file, also one whose name is no UTF-8, which pyarrow cannot open."""

    def __init__(self, path: str) -> None:
        self._stream = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 - names that are no UTF-8; closed by `close`

    def size(self) -> int:
        return self._stream.seek(0, io.SEEK_END)

    def read_at(self, count: int, offset: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(count)

    def close(self) -> None:
        self._stream.close()
