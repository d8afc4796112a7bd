"""A folder on local disk, S3 or GCS through `pyarrow.fs`: the only place where splitray touches storage.

Writes are whole: a reader sees the old content, the new content or nothing. On local disk that is a temporary
file and a rename, on object stores a single put. A writer that is killed may leave its draft, which no listing shows.
"""

import errno
import json
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage import cache
from splitray.storage.checksum import checksummed, fingerprint, sha256_file, verified

T = TypeVar("T")
# A login has no slash, or a colon before its first one: keys hold slashes that some forget to escape.
_LOGIN = re.compile(r"(?<=://)(?:[^/@?\s]*|[^/@?\s:]+:[^@?\s'\"]*)@")
_OPTIONS = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*=[^\s'\"]*")
_DRAFT = re.compile(r"\.[0-9a-f]{8}\.draft$")
UNFIT = re.compile(r"[\x00-\x1f\x7f]")  # no file name of ours holds them, and file systems differ in what they take
_ATTEMPTS = 8  # 13 to 25 s of waiting beside the client's own: stores throttle that long while they make room
_REFUSED = re.compile(r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)")
_FINAL = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
    errno.EDQUOT: "the quota is used up",
}


class Folder:
    """A folder on any file system that `pyarrow.fs` reaches.

    Args:
        uri: a local path, `file://`, `s3://bucket/path` or `gs://bucket/path`. Object stores take their options as
            query parameters (`?endpoint_override=127.0.0.1:9000&scheme=http`), credentials from the environment.

    `uri` is fit for logs: options and credentials (`s3://key:secret@bucket`), if given, are only in `address`.
    """

    def __init__(self, uri: str | Path) -> None:
        text = str(uri)
        if not text or UNFIT.search(text):
            raise UserError(f"{text!r} names no folder: give a path or a URI without control characters")
        self._secret = ("", "")
        try:
            if "://" in text:
                self._fs, self._path = fs.FileSystem.from_uri(text)
                self.uri = without_query(text).rstrip("/")
                self._secret = (login.group() if (login := _LOGIN.search(text)) else "", text.partition("?")[2])
            else:
                self._fs, self._path = fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111
                self.uri = self._path
        except Exception as error:  # every client has errors of its own, some of them no OSError
            told = " ".join(str(error).replace(text, without_query(text)).split())
            # pyarrow quotes the URI in its own words: where that would tell a secret, its reason is left out
            safe = without_query(text) == text or not any(part in told for part in _secrets(text))
            raise UserError(f"cannot open the folder {without_query(text)}" + (f": {told}" if safe else "")) from None
        self._path = self._path.rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self._fs, fs.LocalFileSystem)

    @property
    def address(self) -> str:
        """The URI with options and credentials, to open it again in another process. Not for logs: use `uri`."""
        login, query = self._secret
        uri = self.uri.replace("://", f"://{login}", 1)
        return f"{uri}?{query}" if query else uri

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
        child._fs, child._path, child._secret = self._fs, self._join(name), self._secret
        child.uri = f"{self.uri}/{name}"
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
        return self._try(lambda: self._fs.get_file_info(self._join(name)).type != fs.FileType.NotFound, name)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none."""
        info = self._try(lambda: self._fs.get_file_info(self._join(name)), name)
        return int(info.size) if info.type == fs.FileType.File else None

    def names(self, recursive: bool = False) -> list[str]:
        """Names of the files below, sorted; empty where the folder does not exist. Drafts are not listed."""
        selector = fs.FileSelector(self._path, allow_not_found=True, recursive=recursive)
        infos = self._try(lambda: self._fs.get_file_info(selector), "")
        start = len(self._path) + 1
        return sorted(i.path[start:] for i in infos if i.type == fs.FileType.File and not _DRAFT.search(i.path))

    def folders(self) -> list[str]:
        """Names of the folders directly below, sorted."""
        selector = fs.FileSelector(self._path, allow_not_found=True)
        infos = self._try(lambda: self._fs.get_file_info(selector), "")
        return sorted(i.base_name for i in infos if i.type == fs.FileType.Directory)

    def read(self, name: str) -> bytes:
        def once() -> bytes:
            with self._fs.open_input_stream(self._join(name), compression=None) as stream:
                return bytes(stream.read())

        return self._try(once, name)

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise CorruptError(f"{self.uri}/{name} is not JSON ({error}): torn write or a foreign file") from error

    def read_checksummed(self, name: str) -> dict[str, Any]:
        """A record that `write_checksummed` wrote; `CorruptError` where it does not match the checksum inside it."""
        return verified(self.read_json(name), f"{self.uri}/{name}")

    # writing

    def write(self, name: str, data: bytes) -> None:
        def once() -> None:
            target = self._join(name)
            self._fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
            if self.is_local:
                with _draft(target) as draft:
                    _write_through(draft, data)
                    draft.replace(target)
            else:
                with self._fs.open_output_stream(target, compression=None) as stream:
                    stream.write(data)

        self._try(once, name)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, _json(value))

    def write_checksummed(self, name: str, record: dict[str, Any]) -> None:
        """Write a record with a checksum of its content inside it."""
        self.write_json(name, checksummed(record))

    def create_json(self, name: str, value: Any) -> bool:
        """Write a file that must not be there; False where one is. On object stores, that lack this, the last wins."""
        if not self.is_local:
            if self.exists(name):
                return False
            self.write_json(name, value)
            return True

        def once() -> bool:
            target = self._join(name)
            self._fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
            with _draft(target) as draft:
                _write_through(draft, _json(value))
                try:
                    os.link(draft, target)  # unlike a rename, refuses to replace
                except FileExistsError:
                    return False
            return True

        return self._try(once, name)

    def put(self, source: Path, name: str) -> None:
        """Copy a local file here (a move where both are on the same local disk is the caller's affair)."""

        def once() -> None:
            target = self._join(name)
            self._fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
            if self.is_local:
                with _draft(target) as draft:
                    shutil.copyfile(source, draft)
                    draft.replace(target)
            else:
                with (
                    source.open("rb") as stream,
                    self._fs.open_output_stream(target, compression=None) as sink,
                ):
                    shutil.copyfileobj(stream, sink, 1 << 22)

        self._try(once, name)

    def fetch(self, name: str, sha256: str | None = None) -> Path:
        """A local path with the file's content, to be opened at once: the file itself on local disk, else a download.

        With `sha256` the content is checked first; a mismatch, or no such file, raises `CorruptError`. A cached copy
        that has rotted is downloaded anew. Without it nothing is cached: the download goes with the process.
        """
        try:
            if self.is_local:
                path = self.local_path(name)
                found = sha256_file(path) if sha256 is not None else None
            elif sha256 is None:
                path, found = cache.unchecked() / fingerprint([self.uri, name]), None
                self._download(name, path)
            else:
                path = cache.place(sha256)
                found = cache.checksum(path)
                if found != sha256:
                    cache.make_room(self.size(name) or 0)
                    self._download(name, path)
                    found = sha256_file(path)
        except OSError as error:
            if sha256 is None:
                raise
            raise CorruptError(f"{self.uri}/{name} cannot be read: {error.strerror or error}") from error
        if found != sha256:
            if not self.is_local:
                path.unlink(missing_ok=True)
            raise CorruptError(f"{self.uri}/{name} has SHA-256 {found!s:.12}..., recorded is {sha256!s:.12}...")
        return path

    def _download(self, name: str, target: Path) -> None:
        def once() -> None:
            with _draft(target) as draft:
                with self._fs.open_input_stream(self._join(name), compression=None) as stream, draft.open("wb") as sink:
                    shutil.copyfileobj(stream, sink, 1 << 22)
                draft.replace(target)

        self._try(once, name)

    def delete(self, name: str) -> None:
        """Delete a file or a whole folder below this one; nothing happens where there is none."""

        def once() -> None:
            info = self._fs.get_file_info(self._join(name))
            if info.type == fs.FileType.Directory:
                self._fs.delete_dir(info.path)
            elif info.type == fs.FileType.File:
                self._fs.delete_file(info.path)

        self._try(once, name)

    def _try(self, action: Callable[[], T], name: str) -> T:
        return retry(action, f"{self.uri}/{name}" if name else self.uri, remote=not self.is_local)


def retry(action: Callable[[], T], where: str, remote: bool) -> T:
    """Run a storage action: remote faults are tried again with back-off, lasting ones end in one clear message.

    Raises:
        FileNotFoundError: as it is, for the caller to make sense of.
        StorageError: everything else that the storage refuses, naming `where`.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            told = without_query(_FINAL.get(error.errno or 0) or error.strerror or str(error))
            lasting = not remote or error.errno in _FINAL or _REFUSED.search(told)
            if lasting or attempt == _ATTEMPTS - 1:
                raise StorageError(f"{where}: {told}") from error
            time.sleep(0.1 * 2**attempt * (1 + random.random()))
    raise AssertionError("unreachable")


@contextmanager
def _draft(target: str | Path) -> Iterator[Path]:
    """A path beside a target, to write first and then to move; gone afterwards whatever happens."""
    draft = Path(f"{target}.{uuid.uuid4().hex[:8]}.draft")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def without_query(text: str | Path) -> str:
    """A URI, or a text with URIs in it, fit for logs: their options and logins, which may hold keys, are cut off.

    What follows a `?` without a `=` is no option but part of a pattern.
    """
    return _OPTIONS.sub(r"\1", _LOGIN.sub("", str(text)))


def _secrets(uri: str) -> list[str]:
    """The parts of a URI that no message may show."""
    login = match.group() if (match := _LOGIN.search(uri)) else ""
    return [part for part in (*login.rstrip("@").split(":"), *uri.partition("?")[2].split("&")) if part]
