"""Numbers as people write and read them: 1.3B parameters, 240e9 tokens, 3.4 h."""

import math
import re

from splitray.errors import UserError

_SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "Q": 1e15}
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)"  # a comma only between thousands: elsewhere 1,3 is 1.3
_NUMBER = re.compile(rf"([+-]?(?:{_WHOLE}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]?)")


def parse_count(text: str) -> float:
    """The number written in `text`: `1.3e9`, `1.3B`, `240 B`, `20M`, `1_000`, `1,000`. Raises UserError for anything
    else."""
    found = _NUMBER.fullmatch(text.strip())
    if not found or found[2].upper() not in _SUFFIXES:
        comma = "; a comma may only part thousands, as in 1,300,000" if "," in text else ""
        raise UserError(f"{text!r} is not a number such as 1.3e9, 1.3B or 20M (K, M, B or G, T, Q){comma}")
    return float(found[1].replace("_", "").replace(",", "")) * _SUFFIXES[found[2].upper()]


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
    scale = max((s for s in _SUFFIXES.values() if s <= abs(rounded)), default=1.0)
    if abs(rounded) >= 1e18 or abs(rounded) < 1e-2:
        return f"{rounded:.{digits - 1}e}"
    suffix = next(name for name, value in _SUFFIXES.items() if value == scale)
    whole = len(str(int(abs(rounded) / scale)))
    text = f"{rounded / scale:.{max(digits - whole, 0)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + suffix


def duration(seconds: float) -> str:
    """42 s, 12 min, 3.4 h, 2.1 days."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
