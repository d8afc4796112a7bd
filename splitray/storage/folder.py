"""A folder on local disk, S3 or GCS through `pyarrow.fs`: the only place where splitray touches storage.

Writes are whole: a reader sees the old content, the new content or nothing. On local disk that is a temporary
file and a rename, on object stores a single put. A writer that is killed may leave its draft, which no listing shows.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage import cache
from splitray.storage.address import UNFIT, Address
from splitray.storage.checksum import Schema, checksummed, fingerprint, sha256_file, verified
from splitray.storage.drafts import DRAFT, draft_of, write_through
from splitray.storage.retry import retry

T = TypeVar("T")


class Folder:
    """A folder on any file system that `pyarrow.fs` reaches.

    Args:
        uri: a local path, `file://`, `s3://bucket/path` or `gs://bucket/path`; see `Address`. Object stores take their
            options as query parameters (`?endpoint_override=127.0.0.1:9000&scheme=http`), credentials from the
            environment.

    `uri` is fit for logs: options and credentials (`s3://key:secret@bucket`), if given, are only in `address`.
    """

    def __init__(self, uri: str | Path | Address) -> None:
        self._address = uri if isinstance(uri, Address) else Address.parse(uri)
        self._fs, self._path = self._address.open()
        self._path = self._path.rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self._fs, fs.LocalFileSystem)

    @property
    def uri(self) -> str:
        """The URI without options and credentials, or the local path."""
        return self._address.uri.rstrip("/")

    @property
    def address(self) -> str:
        """The URI with options and credentials, to open it again in another process. Not for logs: use `uri`."""
        return self._address.full

    @property
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow file system, for engines that take one together with `path`."""
        return self._fs

    @property
    def path(self) -> str:
        """The path on `filesystem`."""
        return self._path

    def __truediv__(self, name: str) -> "Folder":
        child = object.__new__(Folder)
        child._fs, child._path, child._address = self._fs, self._join(name), self._address / name
        return child

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self.address,)

    def _join(self, name: str) -> str:
        parts = name.split("/")
        if "\\" in name or UNFIT.search(name) or any(p in ("", ".", "..") for p in parts):
            raise UserError(f"{name!r} is not a name inside {self.uri}: relative, without '..' or empty parts")
        return f"{self._path}/{name}"

    def local_path(self, name: str | None = None) -> Path:
        """The path on this machine's disk; the folder must be local."""
        assert self.is_local, f"{self.uri} is not on a local disk"
        return Path(self._path if name is None else self._join(name))

    # reading

    def exists(self, name: str) -> bool:
        local: bool = self._try(lambda: self._fs.get_file_info(self._join(name)).type != fs.FileType.NotFound, name)
        return local

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none."""
        info = self._try(lambda: self._fs.get_file_info(self._join(name)), name)
        return int(info.size) if info.type == fs.FileType.File else None

    def names(self, recursive: bool = False) -> list[str]:
        """Names of the files below, sorted; empty where the folder does not exist. Drafts are not listed."""
        return list(self.sizes(recursive))

    def sizes(self, recursive: bool = False) -> dict[str, int]:
        """Bytes of the files below by their names, in the order of `names`, by one listing."""
        selector = fs.FileSelector(self._path, allow_not_found=True, recursive=recursive)
        infos = self._try(lambda: self._fs.get_file_info(selector), "")
        start = len(self._path) + 1
        files = (i for i in infos if i.type == fs.FileType.File and not DRAFT.search(i.path))
        return dict(sorted((i.path[start:], int(i.size)) for i in files))

    def folders(self, links: bool = True) -> list[str]:
        """Names of the folders directly below, sorted. Symbolic links count where `links` says so."""
        selector = fs.FileSelector(self._path, allow_not_found=True)
        infos = self._try(lambda: self._fs.get_file_info(selector), "")
        names = sorted(i.base_name for i in infos if i.type == fs.FileType.Directory)
        return names if links else [name for name in names if not self._is_link(name)]

    def read(self, name: str) -> bytes:
        def once() -> bytes:
            with self._fs.open_input_stream(self._join(name), compression=None) as stream:
                return bytes(stream.read())

        return self._try(once, name)

    def read_range(self, name: str, start: int, count: int) -> bytes:
        """Up to `count` bytes of a file from byte `start` on, as many as it has."""

        def once() -> bytes:
            with self._fs.open_input_file(self._join(name)) as file:
                return bytes(file.read_at(max(0, min(count, file.size() - start)), start))

        return self._try(once, name)

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise CorruptError(f"{self.uri}/{name} is not JSON ({error}): torn write or a foreign file") from error

    def read_checksummed(self, name: str, schema: Schema | None = None) -> dict[str, Any]:
        """A record that `write_checksummed` wrote under a schema, in this version or an earlier one.

        Raises:
            CorruptError: it does not match the checksum inside it, or is of another kind.
            UserError: it is of a newer version than this splitray knows.
        """
        record, where = self.read_json(name), f"{self.uri}/{name}"
        return verified(record, where) if schema is None else schema.open(record, where)

    # writing

    def write(self, name: str, data: bytes) -> None:
        def once() -> None:
            target = self._join(name)
            self._make_parent(target)
            if self.is_local:
                with draft_of(target) as draft:
                    write_through(draft, data)
                    draft.replace(target)
            else:
                with self._fs.open_output_stream(target, compression=None) as stream:
                    stream.write(data)

        self._try(once, name)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, _json(value))

    def write_checksummed(self, name: str, record: dict[str, Any], schema: Schema | None = None) -> None:
        """Write a record with its schema and a checksum of its content inside it."""
        self.write_json(name, checksummed(record) if schema is None else schema.close(record))

    def create_json(self, name: str, value: Any) -> bool:
        """Write a file that must not be there; False where one is. On object stores, that lack this, the last wins."""
        if not self.is_local:
            if self.exists(name):
                return False
            self.write_json(name, value)
            return True

        def once() -> bool:
            target = self._join(name)
            self._make_parent(target)
            with draft_of(target) as draft:
                write_through(draft, _json(value))
                try:
                    os.link(draft, target)  # unlike a rename, refuses to replace
                except FileExistsError:
                    return False
            return True

        return self._try(once, name)

    def _make_parent(self, target: str) -> None:
        """The folder of a file to be. On S3 names need none: publishing six files made 32 objects for folders there."""
        if not isinstance(self._fs, fs.S3FileSystem):
            self._fs.create_dir(target.rsplit("/", 1)[0], recursive=True)

    def put(self, source: Path, name: str) -> None:
        """Copy a local file here (a move where both are on the same local disk is the caller's affair)."""

        def once() -> None:
            target = self._join(name)
            self._make_parent(target)
            if self.is_local:
                with draft_of(target) as draft:
                    shutil.copyfile(source, draft)
                    draft.replace(target)
            else:
                with (
                    source.open("rb") as stream,
                    self._fs.open_output_stream(target, compression=None) as sink,
                ):
                    shutil.copyfileobj(stream, sink, 1 << 22)

        self._try(once, name)

    def fetch(
        self, name: str, sha256: str | None = None, size: int | None = None, trust: bool = False, hold: bool = False
    ) -> Path:
        """A local path with the file's content, to be opened at once: the file itself on local disk, else a download.

        With `sha256` the content is checked first; a mismatch, or no such file, raises `CorruptError`. A cached copy
        that has rotted is downloaded anew. Without it nothing is cached: the download goes with the process.

        Args:
            size: bytes, where they are known; asked for otherwise.
            trust: what a process of this machine has checked is not hashed again while it is unchanged.
            hold: a cached file stays until `holds.release(sha256)`. Nothing happens on local disk.
        """
        try:
            if sha256 is None:
                return self.local_path(name) if self.is_local else self._fetch_unchecked(name)
            if not self.is_local:
                known = size if size is not None else (self.size(name) or 0)
                return cache.obtain(sha256, known, lambda target: self._download(name, target), trust, hold)
            path = self.local_path(name)
            found = sha256_file(path) if not trust or not cache.verify(path, sha256) else sha256
        except cache.Mismatch as mismatch:
            found = mismatch.found
        except OSError as error:
            if sha256 is None:
                raise
            raise CorruptError(f"{self.uri}/{name} cannot be read: {error.strerror or error}") from error
        if found != sha256:
            raise CorruptError(f"{self.uri}/{name} has SHA-256 {found!s:.12}..., recorded is {sha256!s:.12}...")
        return path

    def _fetch_unchecked(self, name: str) -> Path:
        path = cache.unchecked() / fingerprint([self.uri, name])
        with draft_of(path) as draft:
            self._download(name, draft)
            draft.replace(path)
        return path

    def _download(self, name: str, target: Path) -> str:
        """Write a file of the store to a local path; its SHA-256, taken on the way."""

        def once() -> str:
            digest = hashlib.sha256()
            target.touch()
            # a draft of the cache keeps its size meanwhile: by it others know how much room is left
            with self._fs.open_input_stream(self._join(name), compression=None) as stream, target.open("r+b") as sink:
                while block := stream.read(1 << 22):
                    digest.update(block)
                    sink.write(block)
                sink.truncate()
            return digest.hexdigest()

        return self._try(once, name)

    def delete(self, name: str) -> None:
        """Delete a file or a whole folder below this one; nothing happens where there is none.

        A symbolic link is deleted itself, never what it points to.

        Raises:
            StorageError: a folder on the way to it is a symbolic link, behind which nothing of ours may be deleted.
        """

        def once() -> None:
            info = self._fs.get_file_info(self._join(name))
            if info.type == fs.FileType.Directory:
                self._fs.delete_dir(info.path)
            elif info.type == fs.FileType.File:
                self._fs.delete_file(info.path)

        self._try(self._delete_local(name) if self.is_local else once, name)

    def _delete_local(self, name: str) -> Callable[[], None]:
        target = Path(self._join(name))
        link = next((p for p in reversed(target.relative_to(self._path).parents[:-1]) if self._is_link(str(p))), None)
        if link is not None:
            raise StorageError(
                f"{self.uri}/{name} lies behind the symbolic link {link}, and is not deleted: delete it by hand, or "
                "replace the link by the folder"
            )

        def once() -> None:
            if target.is_dir() and not target.is_symlink():
                with suppress(FileNotFoundError):  # another process deletes it, too
                    shutil.rmtree(target)  # unlinks the links inside, follows none
            else:
                target.unlink(missing_ok=True)

        return once

    def _is_link(self, name: str) -> bool:
        return self.is_local and Path(self._join(name)).is_symlink()

    def _try(self, action: Callable[[], T], name: str) -> T:
        return retry(action, f"{self.uri}/{name}" if name else self.uri, remote=not self.is_local)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
