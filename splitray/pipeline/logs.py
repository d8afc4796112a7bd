"""Where the log of the package goes while a run lasts."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from splitray.results.stages import StageRecord

LOGGER = logging.getLogger("splitray")
H = TypeVar("H", bound=logging.Handler)


def marked(record: logging.LogRecord) -> str:
    """The message of a record; warnings and errors say what they are."""
    mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
    return mark + record.getMessage()


def stage_of(record: logging.LogRecord) -> str | None:
    """The stage that begins with a record, if one does."""
    stage = getattr(record, "stage", None)
    return stage if isinstance(stage, str) else None


def ended_of(record: logging.LogRecord) -> StageRecord | None:
    """The record of the stage that ends with a record of the log, if one does."""
    ended = getattr(record, "ended", None)
    return ended if isinstance(ended, StageRecord) else None


@contextmanager
def attached(handler: H) -> Iterator[H]:
    """The package's log, from the handler's level up, goes to a handler as long as the block runs."""
    before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(min(handler.level, before or handler.level))
    try:
        yield handler
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
        handler.close()


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
    with attached(_Lines(take)):
        yield


class _Foreign(logging.Handler):
    """Errors of other libraries, as one line of ours; the rest is in their own log."""

    def emit(self, record: logging.LogRecord) -> None:
        first = (record.getMessage().strip().splitlines() or [""])[0]
        LOGGER.warning("%s: %s", record.name.partition(".")[0], first)


@contextmanager
def foreign_errors(*names: str) -> Iterator[None]:
    """What loggers of other libraries would write to the console comes as lines of ours, errors only."""
    handler, loggers = _Foreign(logging.ERROR), [logging.getLogger(name) for name in names]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, handlers, level, propagates in before:
            logger.handlers[:], logger.propagate = handlers, propagates
            logger.setLevel(level)
