"""A filter by quality that knows no topic: the control beside a domain filter.

Its score is the mean of soft rules after Gopher (Rae et al. 2021, arXiv 2112.11446, table A1). Nothing is fitted, and
no word of any topic is named; the stop words of a language are not either, so that all languages are read alike.
"""

import re
import zlib

import numpy as np

_WORD = re.compile(r"\S+")
_LETTER = re.compile(r"[^\W\d_]")
_RULES = 6
_READ = 4000  # characters of a document that are looked at


def quality(texts: list[str]) -> np.ndarray:
    """A score for each text from 0 to 1, float64 [texts]; higher is more like prose that somebody has written."""
    return np.array([_score(text[:_READ]) for text in texts], dtype=np.float64)


def _score(text: str) -> float:
    words, lines = _WORD.findall(text), [line for line in text.splitlines() if line.strip()]
    if not words:
        return 0.0
    length = sum(map(len, words)) / len(words)
    lettered = sum(bool(_LETTER.search(word)) for word in words) / len(words)
    symbols = sum(word.count("#") + word.count("...") + word.count("…") for word in words) / len(words)
    bullets = sum(line.lstrip()[0] in "-*•#|>" for line in lines) / len(lines)
    ended = sum(line.rstrip()[-1] in ".!?:;,\"'”’)" for line in lines) / len(lines)
    raw = text.encode()
    packed = len(zlib.compress(raw, 6)) / len(raw)
    return (
        _inside(length, 3, 10, 2)
        + _inside(lettered, 0.8, 1, 0.2)
        + _inside(symbols, 0, 0.1, 0.1)
        + _inside(bullets, 0, 0.3, 0.3)
        + _inside(ended, 0.5, 1, 0.5)
        + _inside(packed, 0.3, 0.7, 0.2)
    ) / _RULES


def _inside(value: float, low: float, high: float, slack: float) -> float:
    """1 within the bounds, falling to 0 at `slack` outside of them."""
    return max(0.0, 1 - max(low - value, value - high, 0.0) / slack)
