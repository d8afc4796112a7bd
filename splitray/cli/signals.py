"""SIGTERM, SIGINT and SIGHUP to the driver: the first asks the run to stop, the second ends the process at once.

Python runs signal handlers in the main thread only, and there between two steps of the interpreter. A handler that
raises is no way to stop: inside Ray's waits, where a driver spends its life, the error comes out as a `SystemError`,
in a `__del__` it is dropped, and a search by Ray Tune catches SIGINT for itself. So the work runs in a thread of its
own, and the main thread does nothing but wait for it or for a signal, whatever code the work is in.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

_log = logging.getLogger(__name__)

_STOPPED = "stopped; the same command continues from what is published"
LINE = f"splitray: {_STOPPED}"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_UNWIND = 1.0  # seconds that the work has to return by itself, once the workers have stopped
_STOP = 30.0  # seconds until a stop counts as failed and the process ends anyway
_LEAVE = 2.0  # seconds to close what is open after a stop. `ray.shutdown` takes 8 to 12 s while workers are starting


class Stopped(KeyboardInterrupt):
    """A signal came, and what `stop` had to do is done."""


class Signals:
    """Handlers for the length of a `with` block, in the main thread."""

    def __init__(self) -> None:
        self._count = 0
        # not an Event: its `set` in a handler waits for ever where the signal came inside of its `wait`
        self._wake = SimpleQueue[None]()
        self._working = False
        self._leaving: threading.Timer | None = None

    def __enter__(self) -> "Signals":
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self.install()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers, again where Ray's start has put its own in their place. `nohup` stays what it is."""
        for number in _SIGNALS:
            if self._before[number] != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1 or not self._working:  # nothing to keep before the work begins
            end(LINE if self._count == 1 else "splitray: ended at the second signal")
        self._wake.put(None)

    def run(self, work: Callable[[], object], stop: Callable[[], None]) -> None:
        """Do some work in a thread. At a signal `stop` is called, and the work given up.

        Raises:
            Stopped: after a signal, once `stop` has returned and the work has ended. Work that does not end (a fit,
                a pass over the corpus) takes the process with it.
            BaseException: what the work raised.
        """
        raised: list[BaseException] = []

        def body() -> None:
            try:
                work()
            except BaseException as error:
                raised.append(error)
            finally:
                self._wake.put(None)

        thread = threading.Thread(target=body, name="run", daemon=True)
        self._working = True
        thread.start()
        self._wake.get()
        if self._count == 0:
            thread.join()
            self._working = False
            if raised:
                raise raised[0]
            return
        _log.info("stopping: the workers write their checkpoints; a second signal ends the job at once")
        stopping = threading.Thread(target=_suppressed(stop), name="stop", daemon=True)
        stopping.start()
        stopping.join(_STOP)
        thread.join(_UNWIND)
        if stopping.is_alive() or thread.is_alive():
            end(LINE)
        self._leaving = threading.Timer(_LEAVE, end, (LINE,))
        self._leaving.daemon = True
        self._leaving.start()
        raise Stopped(_STOPPED)


def _suppressed(action: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            action()
        except Exception as error:  # whatever a stop meets, the process is to end
            _log.warning("while stopping: %s", error)

    return run


def end(line: str) -> None:
    """Say a line and end the process at once, code 1. Ray's own processes of this driver end with it."""
    with contextlib.suppress(OSError, ValueError):
        os.write(2, f"{line}\n".encode())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(1)
