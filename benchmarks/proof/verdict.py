"""A claim as the page tells it, and the words of its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOLDS, PART, FAILS, OPEN = "holds", "holds in part", "does not hold here", "not yet measured"


@dataclass(frozen=True)
class Claim:
    """What is claimed, in a sentence; the verdict; the figure that decided it; how it came about.

    part: of `equal_compute.py`, that measures it; empty: phonebook.py.
    table: rows of words, the first its head; below `details`.
    """

    claim: str
    verdict: str
    figure: str
    part: str
    details: str = ""
    table: Sequence[Sequence[str]] = ()


def open_claim(claim: str, part: str) -> Claim:
    return Claim(claim, OPEN, "-", part)


def verdict(good: bool, fair: bool = False) -> str:
    return HOLDS if good else PART if fair else FAILS


def ends(told: Mapping[str, Any], digits: int = 3, sign: bool = True) -> str:
    """A value with its interval, in words."""
    s = "+" if sign else ""
    return f"{told['value']:{s}.{digits}f} ({told['low']:{s}.{digits}f} to {told['high']:{s}.{digits}f})"
