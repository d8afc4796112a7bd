"""Numbers as people write and read them: 1.3B parameters, 240e9 tokens, 3.4 h."""

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeVar

from splitray.errors import UserError

T = TypeVar("T")
_SUFFIXES = {"": 0, "K": 3, "M": 6, "B": 9, "G": 9, "T": 12, "Q": 15}  # powers of ten
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)"  # a comma only between thousands: elsewhere 1,3 is 1.3
_NUMBER = re.compile(rf"([+-]?(?:{_WHOLE}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{{1,6}})?)\s*([A-Za-z]?)")
_LEADING_ZERO = re.compile(r"[+-]?0[\d_,]")


def parse_count(text: str) -> int | float:
    """The number written in `text`, by the one rule for configurations, command lines and tables.

    `1.3e9`, `1.3B`, `240 B`, `20M`, `1_000` and `1,000` are numbers. A whole number comes back as an exact `int`.

    Raises:
        UserError: anything else, infinity and `nan`, and whole numbers with a leading zero (octal to some readers).
    """
    found = _NUMBER.fullmatch(text.strip())
    if not found or found[2].upper() not in _SUFFIXES:
        comma = "; a comma may only part thousands, as in 1,300,000" if "," in text else ""
        raise UserError(f"{text!r} is not a number such as 1.3e9, 1.3B or 20M (K, M, B or G, T, Q){comma}")
    if _LEADING_ZERO.match(found[1]):
        if "," in found[1]:  # 0,001 is 0.001 to whoever writes a decimal comma, and never a thousand
            raise UserError(f"{text!r} is not a number: write a decimal point instead of the comma")
        raise UserError(f"{text!r} is not a number: it begins with 0, which some read as octal; leave the 0 out")
    # in decimals: as doubles 1.001 * 1e6 is 1000999.9999999999
    number = Decimal(found[1].replace("_", "").replace(",", "")).scaleb(_SUFFIXES[found[2].upper()])
    if math.isinf(float(number)):
        raise UserError(f"{text!r} is not a number that fits: the largest is 1.8e308")
    return int(number) if number == number.to_integral_value() else float(number)


def human(number: float | None, digits: int = 3) -> str:
    """`number` to `digits` digits with a suffix: 1.3B, 240B; beyond Q as a power of ten."""
    if number is None:
        return "-"
    if math.isinf(number):
        return "∞"
    if number == 0:
        return "0"
    # Rounded first: 999.96B to three digits is 1T, not 1000B.
    rounded = float(f"{number:.{digits - 1}e}")
    power = max((p for p in _SUFFIXES.values() if 10.0**p <= abs(rounded)), default=0)
    scale = 10.0**power
    if abs(rounded) >= 1e18 or abs(rounded) < 1e-2:
        return f"{rounded:.{digits - 1}e}"
    suffix = next(name for name, value in _SUFFIXES.items() if value == power)
    whole = len(str(int(abs(rounded) / scale)))
    text = f"{rounded / scale:.{max(digits - whole, 0)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + suffix


def counted(count: int, word: str) -> str:
    """A count with its noun: 1 model size, 3 model sizes. For nouns that take an s."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def some_of(items: Sequence[T], most: int, show: Callable[[T], object] = str, what: str = "") -> str:
    """Items with commas, at most so many, and how many more there are of `what`: a, b and 3 more domains."""
    more = f" and {len(items) - most} more{what and ' '}{what}" if len(items) > most else ""
    return ", ".join(str(show(item)) for item in items[:most]) + more


def duration(seconds: float) -> str:
    """42 s, 12 min, 3.4 h, 2.1 days."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
