"""Seconds since the epoch that pass evenly within a process, whatever becomes of the machine's clock meanwhile."""

import time

_AHEAD = time.time() - time.monotonic()  # of the epoch's clock, when this process began


def steady() -> float:
    """When this process began, by the machine's clock, and the seconds since. Differences of two are durations."""
    return _AHEAD + time.monotonic()
