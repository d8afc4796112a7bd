"""How far long work is: log records that a display can show, with an estimate of the time left.

The library logs them at the level `PROGRESS`, below INFO, so that they are seen only where somebody asks for them.
"""

import logging
import time
from dataclasses import dataclass

PROGRESS = 15  # between DEBUG and INFO
_EVERY = 1.0  # seconds between two records of a `Task`
_QUICK = 3.0  # seconds: work that ends sooner shows no progress
_FIXED = 1e6  # parameters whose FLOPs cost about as much as what every token costs besides


@dataclass(frozen=True)
class Progress:
    """One look at a piece of work.

    Attributes:
        what: names the work; a display begins anew when it changes.
        text: how far it is, in words.
        detail: more for those who look closer, such as losses.
        share: done, from 0 to 1; None where nobody knows.
        left: seconds until it ends, estimated; None where nobody knows.
        rate: effort a second, see `effort`; 0 where there is none.
    """

    what: str
    text: str
    detail: str = ""
    share: float | None = None
    left: float | None = None
    rate: float = 0.0


def report(logger: logging.Logger, progress: Progress) -> None:
    """Log a look at the work."""
    logger.log(PROGRESS, "%s: %s", progress.what, progress.text, extra={"progress": progress})


def progress_of(record: logging.LogRecord) -> Progress | None:
    """What `report` logged with a record, if it did."""
    progress = getattr(record, "progress", None)
    return progress if isinstance(progress, Progress) else None


def effort(params: float, tokens: float) -> float:
    """What training costs, in parameters times tokens: comparable between models of different sizes.

    A million parameters are added. Below about that size a token costs the same whatever the model: its time goes
    into launching operations and reading batches.
    """
    return (params + _FIXED) * tokens


class Pace:
    """A smoothed rate from counts at given times.

    Work weighs by its time since the first work was seen, so that the later half counts for three quarters. A pause
    then lengthens the estimate in proportion to its square; an average that forgets exponentially announced 12 hours
    where two minutes of waiting for a worker were left. Time before the first work counts not at all: workers start.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._at = self._count = 0.0
        self._done = self._spent = 0.0

    def see(self, count: float, at: float) -> None:
        """Take in the count that was reached at a time in seconds."""
        passed, gained = at - self._at, count - self._count
        if gained < 0:  # counting began anew
            self._began, self._done, self._spent = None, 0.0, 0.0
        elif self._began is None and self._at and gained > 0:
            self._began = self._at  # the look before the first work, which counts: short work is little more
        if self._began is not None and passed > 0:
            weight = (at + self._at) / 2 - self._began
            self._done += weight * gained
            self._spent += weight * passed
        self._at, self._count = at, count

    @property
    def rate(self) -> float:
        """Counts a second; 0 until it is known."""
        return self._done / self._spent if self._spent else 0.0

    def left(self, rest: float) -> float | None:
        """Seconds that the rest takes at this rate; None while the rate is unknown."""
        if rest <= 0:
            return 0.0
        return rest / self.rate if self.rate > 0 else None


class Task:
    """Work of a known number of steps, reported once a second when it takes longer than a few seconds."""

    def __init__(self, logger: logging.Logger, what: str, total: float, unit: str = "") -> None:
        self._logger, self._what, self._total, self._unit = logger, what, total, unit
        self._began = self._reported = time.monotonic()

    def update(self, done: float) -> None:
        """Say how many steps are done."""
        now = time.monotonic()
        spent = now - self._began
        if spent < _QUICK or now - self._reported < _EVERY or not self._total:
            return
        self._reported = now
        share = min(1.0, done / self._total)
        text = f"{done:,.0f} of {self._total:,.0f} {self._unit}" if self._unit else f"{share:.0%}"
        left = spent * (1 - share) / share if share else None
        report(self._logger, Progress(self._what, text, share=share, left=left))
