"""A tracker in a thread of its own, so that one that fails, hangs or is slow costs a run a warning and no more."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from splitray.tracking.registry import find_tracker
from splitray.tracking.tracker import TrackedRun, Tracker, TrackerSettings

_log = logging.getLogger(__name__)

_WAITING = 10_000  # calls that may wait: three hours of one worker's points
_COPY = 60.0  # seconds between copies to an object store: each puts a whole file again
_PATIENCE = 60.0  # seconds that the end of a run waits for a tracker; on a busy machine MLflow imports for 12

Call = Callable[[Tracker], object]


class Feed:
    """Gives calls to one tracker, in their order.

    Args:
        settings: the tracker's entry in the configuration.
        run: what it is told of the run.
        copy: brings what it has written to where it belongs, where that is no local folder.
    """

    def __init__(self, settings: TrackerSettings, run: TrackedRun, copy: Callable[[], object] | None = None) -> None:
        self._settings, self._run, self._copy = settings, run, copy
        self._calls: queue.Queue[Call | None] = queue.Queue(_WAITING)
        self._failed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"tracker {settings.name}")
        self._thread.start()

    def put(self, call: Call) -> None:
        """Have the tracker called when what came before is done. Returns at once."""
        if self._failed:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._fail(f"{_WAITING:,} numbers wait for it")

    def close(self, patience: float = _PATIENCE) -> None:
        """Have the tracker finish what waits and close; a tracker that takes too long is left behind."""
        if not self._failed:
            try:
                self._calls.put(None, timeout=patience)
            except queue.Full:
                self._fail(f"{_WAITING:,} numbers wait for it")
        self._thread.join(timeout=0.0 if self._failed else patience)
        if self._thread.is_alive() and not self._failed:
            self._fail(f"it did not finish within {patience:.0f} s")

    def _work(self) -> None:
        try:
            tracker = find_tracker(self._settings.name)(self._settings, self._run)
            copied = time.monotonic()
            while (call := self._calls.get()) is not None:
                if self._failed:
                    return
                call(tracker)
                if self._copy is not None and time.monotonic() - copied > _COPY:
                    self._copy()
                    copied = time.monotonic()
            tracker.close()
            if self._copy is not None:
                self._copy()
        except Exception as error:  # whatever the tracker's own code raises
            self._fail(f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            _log.warning("the tracker %s takes no more of this run, which goes on without it: %s", self.name, why)

    @property
    def name(self) -> str:
        return self._settings.name
