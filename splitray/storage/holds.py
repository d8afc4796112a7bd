"""Which cached files the processes of this machine hold, and the locks that they share.

Every process writes what it takes and releases into a file of its own, and keeps a lock on that file while it lives.
So a killed process holds nothing any more, and no list of processes is needed. The locks are `flock`s on files that
are never deleted, in a folder beside the cache.
"""

import fcntl
import os
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from splitray.errors import StorageError

_PREFIX = "held-"
_LONG = 1000  # lines of a list, after which it is written anew: a corpus that passes by takes and releases for days


def own_folder(purpose: str) -> Path:
    """A folder of this user's own in the temporary folder.

    Raises:
        StorageError: it belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"splitray-{purpose}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StorageError(f"{folder} belongs to somebody else, and is not used: set TMPDIR to another place")
    return folder


def folder() -> Path:
    """Where the locks, the marks of verified files and the lists of held ones are."""
    return own_folder("marks")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one thread of all processes of this user is in a block of one name."""
    with (folder() / f"lock-{name}").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back, and so does the end of the process


class _Own:
    """What this process holds, and its list."""

    def __init__(self) -> None:
        self.guard = threading.RLock()  # a finalizer may release while the same thread takes
        self.count: Counter[str] = Counter()
        self.lists: dict[Path, IO[str]] = {}
        self.lines, self.longest = 0, _LONG

    def write(self, line: str) -> None:
        self.lines += 1
        for stream in self.lists.values():
            stream.write(line)
            stream.flush()

    def shorten(self) -> None:
        """Leave what is held in the lists, and not how it came to be."""
        for sha256 in [sha256 for sha256, count in self.count.items() if count <= 0]:
            del self.count[sha256]
        held = list(self.count)
        self.lines, self.longest = len(held), 2 * len(held) + _LONG
        for stream in self.lists.values():
            stream.seek(0)
            stream.truncate()
            stream.write("".join(f"+{sha256}\n" for sha256 in held))
            stream.flush()
        for sha256 in held:  # a finalizer may have released it just now, in this thread
            if self.count[sha256] <= 0:
                self.write(f"-{sha256}\n")

    def open(self, place: Path) -> None:
        if place not in self.lists:
            stream = (place / f"{_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}").open("w")
            fcntl.flock(stream, fcntl.LOCK_EX)
            self.lists[place] = stream


_own = _Own()


def _forked() -> None:
    """A forked child has its parent's maps, and the parent's list with the lock on it: it begins one of its own."""
    global _inherited, _own
    _inherited, _own = _own, _Own()


_inherited: _Own | None = None
os.register_at_fork(after_in_child=_forked)


def take(sha256: str) -> None:
    """Hold a file. It may be taken several times, and is free once it was released as often.

    Call it, as `taken`, inside `locked("room")`.
    """
    with _own.guard:
        _own.open(folder())
        if _own.lines > _own.longest:  # here nobody reads it
            _own.shorten()
        _own.count[sha256] += 1
        if _own.count[sha256] == 1:
            _own.write(f"+{sha256}\n")


def release(sha256: str) -> None:
    """Give a file back."""
    with _own.guard:
        if _own.count[sha256] > 0:  # in a forked child the parent's files are the parent's
            _own.count[sha256] -= 1
            if _own.count[sha256] == 0:
                _own.write(f"-{sha256}\n")


def taken() -> set[str]:
    """The files that living processes hold; lists of dead ones are deleted."""
    found: set[str] = set()
    for path in folder().glob(f"{_PREFIX}*"):
        try:
            with path.open() as stream:
                if _is_locked(stream):  # also by this very process: a lock belongs to an opened file
                    found |= _held(stream.read())
                else:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
    return found


def _is_locked(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _held(text: str) -> set[str]:
    held: dict[str, bool] = {}
    for line in text.splitlines():
        held[line[1:]] = line[0] == "+"
    return {name for name, is_held in held.items() if is_held}
