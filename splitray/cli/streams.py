"""Standard output and error that nobody reads any more (`| head`, a dropped connection) end no command.

So is it for every thread that writes, Ray's and rich's included: none of them meets the error.
"""

import contextlib
import errno
import os
import sys
from typing import Any, TextIO

_READER_GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)  # EIO: a terminal that is gone


class Lasting:
    """A text stream whose reader may go. What is written afterwards is dropped; a run's events have it all.

    Characters that the stream's encoding lacks are written as `?`. `fault` is what else ended the output, such as a
    full disk: the command's exit code tells of it.
    """

    fault: OSError | None = None

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            self._drop(error)
            return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Let the descriptor lead nowhere, for this stream's buffer and for all others who write to it."""
        if error.errno not in _READER_GONE and self.fault is None:
            self.fault = error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def outlive_readers() -> None:
    """Replace the process's standard output and error by lasting ones."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Lasting):
            setattr(sys, name, Lasting(stream))


def output_fault() -> OSError | None:
    """What ended the output, other than its reader's going; flushes it first."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Lasting):
            stream.flush()
            if stream.fault is not None:
                return stream.fault
    return None
