"""Writes one thing at a time beside the training that goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """A thread that runs one action at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._last: Future[object] | None = None

    def begin(self, action: Callable[[], object]) -> None:
        """Start an action once the one before it is done; raises what that one raised."""
        self.wait()
        self._last = self._thread.submit(action)

    def wait(self) -> None:
        """Until nothing is being written; raises what the last action raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Wait for what is being written; its error, which nobody waits for any more, is dropped."""
        self._thread.shutdown()
