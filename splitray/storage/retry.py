"""Storage actions tried again: what passes by itself, and what lasts and ends in one clear message."""

import errno
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from splitray.errors import SplitrayError, StorageError
from splitray.storage.redact import without_query

T = TypeVar("T")
_log = logging.getLogger(__name__)

_ATTEMPTS = 8  # 13 to 25 s of waiting beside the client's own: stores throttle that long while they make room
_LATE = 10.0  # seconds without an answer of a storage that never gave one, after which it is said
_UNREACHED = 40.0  # seconds of trying, after which such a storage gets no new attempt: it is most likely misspelt
_REFUSED = re.compile(r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)")
_BUCKET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
_FINAL = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
    errno.EDQUOT: "the quota is used up",
}
_OURS = (SplitrayError, AssertionError, AttributeError, NameError, TypeError)  # no fault of a storage
_reached: set[str] = set()  # buckets that have answered this process


def retry(action: Callable[[], T], where: str, remote: bool) -> T:
    """Run a storage action: remote faults are tried again with back-off, lasting ones end in one clear message.

    A bucket that has never answered this process is given up earlier, and its silence is said before that.

    Raises:
        FileNotFoundError: as it is, for the caller to make sense of.
        StorageError: everything else that the storage refuses, naming `where`.
    """
    if not remote:
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{where}: {_reason(error)}") from error
    bucket = found.group() if (found := _BUCKET.match(where)) else None
    if bucket is None or bucket in _reached:
        return _try(action, where, None)
    with _silence_said(bucket):
        return _try(action, where, time.monotonic() + _UNREACHED)


def _try(action: Callable[[], T], where: str, until: float | None) -> T:
    """As `retry`, for a remote storage; no new attempt begins after `until` (monotonic seconds)."""
    for attempt in range(_ATTEMPTS):
        try:
            result = action()
        except FileNotFoundError:
            _answered(where)
            raise
        except _OURS:
            raise
        except Exception as error:  # every client has errors of its own: httpx's for hf://, Arrow's for abfs://
            told = _reason(error)
            lasting = _is_final(error) or _REFUSED.search(told)
            late = until is not None and time.monotonic() > until
            if lasting or late or attempt == _ATTEMPTS - 1:
                raise StorageError(f"{where}: {told}") from error
            time.sleep(0.1 * 2**attempt * (1 + random.random()))
        else:
            _answered(where)
            return result
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _FINAL


def _reason(error: Exception) -> str:
    number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    told = _FINAL.get(number or 0) or text or str(error) or type(error).__name__
    return f"{without_query(' '.join(told.split())):.500}"


def _answered(where: str) -> None:
    if found := _BUCKET.match(where):
        _reached.add(found.group())


@contextmanager
def _silence_said(bucket: str) -> Iterator[None]:
    """Say that a bucket does not answer, once the block has taken so long."""
    message = "cannot reach %s: no answer for %.0f s, trying for %.0f s"
    timer = threading.Timer(_LATE, _log.warning, (message, bucket, _LATE, _UNREACHED))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
