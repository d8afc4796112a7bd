"""Where the log of the package goes while a run lasts: the console, and the events of the run folder."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("splitray")


class _Lines(logging.Handler):
    """Gives every message to a function."""

    def __init__(self, take: Callable[[str], object]) -> None:
        super().__init__(logging.INFO)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())


@contextmanager
def logged_to(take: Callable[[str], object]) -> Iterator[None]:
    """Give every message of the package, from INFO up, to `take` as long as the block runs."""
    handler, before = _Lines(take), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
