"""Storage actions tried again: what passes by itself, and what lasts and ends in one clear message."""

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from splitray.errors import StorageError
from splitray.storage.redact import without_query

T = TypeVar("T")
_ATTEMPTS = 8  # 13 to 25 s of waiting beside the client's own: stores throttle that long while they make room
_REFUSED = re.compile(r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)")
_FINAL = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
    errno.EDQUOT: "the quota is used up",
}


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
