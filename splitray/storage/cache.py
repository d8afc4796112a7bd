"""Downloads of object stores on this machine's disk: named by checksum, the least recently used go first.

A file is touched when it is asked for. Processes share the cache without a lock: one that was touched within
`_GRACE` is spared, and who has opened or mapped a file keeps it, deleted or not.
"""

import math
import os
import shutil
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from splitray.errors import StorageError, UserError
from splitray.storage.checksum import sha256_file

LIMIT = "SPLITRAY_CACHE_GIGABYTES"
_SHARE = 0.5  # of the disk that is free but for the cache: the rest is for Ray's spilled blocks and checkpoints
_GRACE = 600.0  # seconds between being handed a path and opening it, with room to spare
_DRAFT_GRACE = 86_400.0  # drafts of running downloads; older ones were left by killed processes


def place(sha256: str) -> Path:
    """Where the file of that content lies, or would."""
    return _folder() / sha256


def checksum(path: Path) -> str | None:
    """The SHA-256 of a cached file, which counts as used now; None where there is no such file."""
    try:
        os.utime(path)
        return sha256_file(path)
    except FileNotFoundError:
        return None


def make_room(size: int) -> None:
    """Delete what was used longest ago until `size` more bytes keep the cache within its limit.

    The limit is SPLITRAY_CACHE_GIGABYTES (GB), by default half of what the disk has free beside the cache.
    """
    folder, now, files = _folder(), time.time(), []
    for entry in folder.iterdir():
        try:
            told = entry.stat()
        except FileNotFoundError:  # another process makes room too
            continue
        files.append((told.st_mtime, told.st_size, entry))
    held = sum(size for _, size, _ in files)
    limit = _limit(held, folder)
    for used, bytes_, path in sorted(files):
        if held + size <= limit:
            break
        if now - used > (_DRAFT_GRACE if path.suffix == ".draft" else _GRACE):
            path.unlink(missing_ok=True)
            held -= bytes_


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
    """A folder of this user's own in the temporary folder."""
    cache = Path(tempfile.gettempdir()) / f"splitray-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        raise StorageError(f"{cache} belongs to somebody else, and is not used: set TMPDIR to another place")
    return cache
