"""Downloads of object stores on this machine's disk: named by checksum, the least recently used go first.

All processes of a user on one machine share the cache. A lock has each file downloaded and hashed by one of them, and
a mark keeps what was verified: size, modification time and inode of the file. A file that was changed since has
another mark, and is hashed again. What a process holds (see `holds`) is never deleted, so whatever is mapped is also
linked, and the sizes in the folder are what the disk has given. A path that was handed out without being held is spared
for `GRACE`. What was held may go as soon as it is released.
"""

import fcntl
import math
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from splitray.errors import StorageError, UserError
from splitray.storage import holds
from splitray.storage.checksum import fingerprint, sha256_file

LIMIT = "SPLITRAY_CACHE_GIGABYTES"
_SHARE = 0.5  # of the disk that is free but for the cache: the rest is for Ray's spilled blocks and checkpoints
GRACE = 600.0  # seconds between being handed a path and opening it, with room to spare
_DRAFT_GRACE = 86_400.0  # drafts that are written; a process that hangs for longer keeps none
_SETTLED = 2  # seconds since the last change, before which a clock tick might hide another one from the mark

_work: Counter[str] = Counter()
_counting = threading.Lock()


def work_done() -> dict[str, int]:
    """What this process has done since its start: files `downloaded`, and files `hashed` from their first byte."""
    with _counting:
        return {"downloaded": _work["downloaded"], "hashed": _work["hashed"]}


def _count(what: str) -> None:
    with _counting:
        _work[what] += 1


def obtain(sha256: str, size: int, download: Callable[[Path], str], trust: bool = False, hold: bool = False) -> Path:
    """The cached file of that content, downloaded where it is missing or has rotted.

    Args:
        size: bytes, to make room for.
        download: writes the file to a path and returns its SHA-256, in hex digits.
        trust: a file that was verified and is unchanged by its mark is not hashed again.
        hold: this process keeps the file until `holds.release(sha256)`; the limit is kept strictly for that.

    Raises:
        NoRoomError: `hold`, and what is in use leaves no room within the limit.
        Mismatch: the download has another checksum.
    """
    path = _folder() / sha256
    with holds.locked("room"):  # whoever makes room has either not looked yet, or sees this
        if hold:
            holds.take(sha256)
        else:
            _handed(sha256).touch()
    try:
        with holds.locked(sha256[:2]):
            if _whole(path, sha256, trust):
                return path
            with _draft(sha256, size, strict=hold) as draft:
                found = download(draft)
                _count("downloaded")
                _count("hashed")
                if found != sha256:
                    path.unlink(missing_ok=True)
                    raise Mismatch(found)
                past = int(time.time()) - 10 * _SETTLED  # so that any later change has another time
                os.utime(draft, (time.time(), past))
                if not hold:
                    _handed(sha256).touch()  # the download may have taken longer than the grace
                draft.replace(path)
                _mark(path, sha256)
    except BaseException:
        if hold:
            holds.release(sha256)
        raise
    return path


class NoRoomError(StorageError):
    """What is in use, or was a moment ago, leaves no room for a file that is to be held."""


class Mismatch(Exception):
    """A download that has another SHA-256 than it should, `found`."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


def verify(path: Path, sha256: str) -> bool:
    """Whether a file outside the cache has that content; hashed by one process of this machine while it is unchanged.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if _marked(path, sha256):
        return True
    with holds.locked(fingerprint(str(path))[:2]):
        if _marked(path, sha256):
            return True
        _count("hashed")
        whole = sha256_file(path) == sha256
        if whole and time.time() - path.stat().st_mtime > _SETTLED:
            _mark(path, sha256)
        return whole


def _whole(path: Path, sha256: str, trust: bool) -> bool:
    """Whether a cached file is there and has its content; it counts as used now."""
    try:
        os.utime(path, (time.time(), path.stat().st_mtime))
        if trust and _marked(path, sha256):
            return True
        _count("hashed")
        whole = sha256_file(path) == sha256
        if whole and not _marked(path, sha256) and time.time() - path.stat().st_mtime > _SETTLED:
            _mark(path, sha256)
        return whole
    except FileNotFoundError:
        return False


def _mark_of(path: Path, sha256: str) -> Path:
    return holds.folder() / fingerprint([str(path), sha256])


def _marked(path: Path, sha256: str) -> bool:
    try:
        return _mark_of(path, sha256).read_text() == _look(path)
    except FileNotFoundError:
        path.stat()  # the file's own absence is for the caller
        return False


def _mark(path: Path, sha256: str) -> None:
    mark = _mark_of(path, sha256)
    draft = mark.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    draft.write_text(_look(path))
    draft.replace(mark)


def _look(path: Path) -> str:
    told = path.stat()
    return f"{told.st_size} {told.st_mtime_ns} {told.st_ino}"


def limit() -> float:
    """Bytes that the cache may have: SPLITRAY_CACHE_GIGABYTES (GB), else half of what the disk has free beside it."""
    folder = _folder()
    return _limit(sum(size for _, size, _ in _files(folder)), folder)


@contextmanager
def _draft(sha256: str, size: int, strict: bool) -> Iterator[Path]:
    """A file of that size to download to, locked for the block and gone with it; room is made for it.

    It counts at once: of two processes that make room, the later one sees it.
    """
    folder = _folder()
    path = folder / f"{sha256}.{os.getpid()}-{threading.get_ident()}.draft"
    with ExitStack() as closing:
        with holds.locked("room"):
            _make_room(folder, size, strict)
            stream = closing.enter_context(path.open("wb"))
            fcntl.flock(stream, fcntl.LOCK_EX)  # while it lasts the draft is written; see `_is_written`
            stream.truncate(size)
        closing.callback(path.unlink, missing_ok=True)
        yield path


def _make_room(folder: Path, size: int, strict: bool) -> None:
    """Delete the files used longest ago, until the cache keeps its limit with so many bytes more."""
    files, now = sorted(_files(folder)), time.time()
    had, in_use = sum(size for _, size, _ in files), holds.taken()
    most, left = _limit(had, folder), had
    for used, bytes_, path in files:
        if left + size <= most:
            break
        if path.name not in in_use and not _is_spared(path, now - used):
            path.unlink(missing_ok=True)
            _handed(path.name).unlink(missing_ok=True)
            _mark_of(path, path.name).unlink(missing_ok=True)
            left -= bytes_
    if strict and left + size > most:
        raise NoRoomError(
            f"the cache {folder} has room for {most / 1e9:.3g} GB. {left / 1e9:.3g} GB of it are in use, and "
            f"{size / 1e9:.3g} GB more are needed: set {LIMIT} to more, or TMPDIR to a folder on a larger disk"
        )


def _handed(sha256: str) -> Path:
    """A file that says by its time when that path was handed out last without being held.

    The cached file's own time of use does not tell the two apart: Linux sets it anew when the file is mapped.
    """
    return holds.folder() / f"handed-{sha256}"


def _is_spared(path: Path, unused: float) -> bool:
    """Whether a file is spared that nobody holds, `unused` seconds after its last use."""
    if path.suffix == ".draft":
        return unused <= _DRAFT_GRACE and _is_written(path)
    try:
        return unused <= GRACE and time.time() - _handed(path.name).stat().st_mtime <= GRACE
    except FileNotFoundError:  # only ever held
        return False


def _is_written(draft: Path) -> bool:
    """Whether some process writes a download, or has just finished it. A killed one's is of no use to anybody."""
    try:
        with draft.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return not draft.exists()
    except (BlockingIOError, FileNotFoundError):
        return True


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """When a file was used last (seconds), its bytes, its path."""
    found = []
    for entry in folder.iterdir():
        try:
            told = entry.stat()
        except FileNotFoundError:  # a download that has ended
            continue
        found.append((told.st_atime, told.st_size, entry))
    return found


_temporary: list[tempfile.TemporaryDirectory[str]] = []  # each deletes its folder when the process ends


def temporary_folder(purpose: str) -> Path:
    """An empty folder that only this user can read, gone with the process; `purpose` is part of its name."""
    _temporary.append(tempfile.TemporaryDirectory(prefix=f"splitray-{purpose}-"))
    return Path(_temporary[-1].name)


@lru_cache(maxsize=1)
def unchecked() -> Path:
    """A folder for files of which no checksum is known, that must be fetched anew each time."""
    return temporary_folder("fetched")


def _limit(held: int, folder: Path) -> float:
    text = os.environ.get(LIMIT)
    if not text:
        return _SHARE * (shutil.disk_usage(folder).free + held)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise UserError(f"{LIMIT} = {text!r} is no number of gigabytes: give 0 or more")
    return gigabytes * 1e9


def _folder() -> Path:
    return holds.own_folder("cache")
