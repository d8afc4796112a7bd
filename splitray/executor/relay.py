"""How messages logged inside actors reach the driver's log.

Workers hand theirs to the coordinator, and the driver fetches them there. Without this they would come out as lines of
Ray's, with a process number before them, or not at all.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_LOGGER = logging.getLogger("splitray")
_MOST = 1000  # messages that wait for the driver; older ones are dropped


@dataclass(frozen=True)
class Message:
    """One message of the package's log, as it travels between processes."""

    logger: str
    level: int
    text: str


class Relay(logging.Handler):
    """Gives every message of this process's log, from INFO up, to a function."""

    def __init__(self, take: Callable[[Message], object]) -> None:
        super().__init__(logging.INFO)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(Message(record.name, record.levelno, record.getMessage()))


def relay(take: Callable[[Message], object]) -> None:
    """Send the log of this process, which must be an actor's own, to a function from now on."""
    for handler in [h for h in _LOGGER.handlers if isinstance(h, Relay)]:
        _LOGGER.removeHandler(handler)
    _LOGGER.addHandler(Relay(take))
    _LOGGER.setLevel(logging.INFO)


class Mailbox(Generic[T]):
    """Messages that wait to be fetched, the newest `most`."""

    def __init__(self, most: int = _MOST) -> None:
        self._messages: deque[T] = deque(maxlen=most)
        self.put = self._messages.append

    def fetch(self) -> list[T]:
        """Everything that waits; it waits no longer."""
        messages: list[T] = []
        while self._messages:
            messages.append(self._messages.popleft())
        return messages


def log_again(messages: Iterable[Message]) -> None:
    """Log messages of another process in this one."""
    for message in messages:
        logging.getLogger(message.logger).log(message.level, "%s", message.text)
