"""What tokens are worth that repeat text: a pass is worth the less, the more passes came before it.

Muennighoff et al. 2023 ("Scaling Data-Constrained Language Models", arXiv 2305.16264): D tokens that read U tokens of
text, R = D / U - 1 times again, are worth U + U R* (1 - exp(-R / R*)) new tokens. R* is 15.39 in their fit: four
passes are worth 3.7, sixteen 10.6, and any number at most 1 + R*. The larger R*, the more repeated text is worth.

Ours: D and D' of one model count the passes over its own domain's text together. D' tokens are worth what the passes
after D add. Where no text repeats, tokens are worth themselves, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from splitray.law.arrays import Array

PUBLISHED = 15.39  # R* for tokens, Muennighoff et al. 2023
# Passes up to which the term is trusted where no run shows more. At 4 it came within 0.01 nats in two of four measured
# cells, and 0.16 too low in two; at 16 it was 0.7 to 1.1 nats too low, because the small model overfitted
# (benchmarks/repetition.py). It says that further passes are worth little, never that they do harm.
TRUSTED = 4.0


@dataclass(frozen=True)
class Repetition:
    """How repeated text counts.

    constant: R*, passes after the first over which what a further pass is worth falls to 1/e.
    fitted: whether it comes from the runs, not from the publication or a setting. most: the most passes in the runs.
    """

    constant: float = PUBLISHED
    fitted: bool = False
    most: float = 1.0

    @property
    def trusted(self) -> float:
        """Passes that a plan may make where nothing else limits them: what runs have shown, at least 4."""
        return max(TRUSTED, self.most) if self.fitted else TRUSTED

    def worth(self, tokens: Array, before: Array, passes: Array) -> Array:
        """New tokens that `tokens` are worth, which make `passes` over a text that was read `before` times.

        All broadcast. `tokens` itself where before + passes is at most 1.
        """
        fresh = np.clip(1.0 - before, 0.0, passes)
        start, again = np.maximum(before - 1.0, 0.0), passes - fresh
        value = fresh - self.constant * np.exp(-start / self.constant) * np.expm1(-again / self.constant)
        none = passes <= 0
        share = np.where(none, self.slope(before), value / np.where(none, 1.0, passes))
        return np.asarray(tokens * share)

    def slope(self, passes: Array) -> Array:
        """What the next token is worth after so many passes: 1 during the first, then exp(-(passes - 1) / R*)."""
        return np.asarray(np.exp(-np.maximum(np.asarray(passes) - 1.0, 0.0) / self.constant))

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {"constant": self.constant, "fitted": self.fitted, "most": self.most}

    @classmethod
    def parse(cls, record: Mapping[str, Any] | None) -> Repetition:
        """The inverse of `plain`; a law of an earlier release has none.

        Raises:
            ValueError: numbers that no fit gives.
        """
        if record is None:
            return cls()
        found = cls(float(record["constant"]), bool(record["fitted"]), float(record["most"]))
        if not (0 < found.constant < math.inf and 1 <= found.most < math.inf):
            raise ValueError(f"repetition = {found.constant!r}, {found.most!r}")
        return found


@dataclass(frozen=True)
class Text:
    """How far each domain's text goes: by domain, or one number for all; infinite where no text repeats.

    base: tokens of D, of the mixture, in which the domain's text is read once: its tokens over its share of the
        mixture. special: the same of D': its tokens over the share of D' that is its own text.
    """

    base: float | Mapping[str, float]
    special: float | Mapping[str, float]

    @classmethod
    def of(cls, tokens: Mapping[str, float], weights: Mapping[str, float], own: Mapping[str, float]) -> Text:
        """From the tokens of every domain's text, its share of the mixture, and its own share of its D'."""
        return cls({d: n / weights[d] for d, n in tokens.items()}, {d: n / own[d] for d, n in tokens.items()})

    def at(self, domain: str) -> tuple[float, float]:
        """(base, special) of a domain."""
        base, special = (
            found.get(domain, math.inf) if isinstance(found, Mapping) else found for found in (self.base, self.special)
        )
        return float(base), float(special)

    def plain(self) -> dict[str, Any]:
        """As JSON types; without the domains that have no limit."""
        return {"base": _limited(self.base), "special": _limited(self.special)}

    @classmethod
    def parse(cls, record: Mapping[str, Any] | None) -> Text | None:
        """The inverse of `plain`; None of none."""
        return None if record is None else cls(record["base"], record["special"])

    def mean(self) -> Text:
        """One text that stands for every domain: at it the passes are the domains' mean."""
        base, special = (
            1.0 / float(np.mean([1.0 / n for n in found.values()])) if isinstance(found, Mapping) else found
            for found in (self.base, self.special)
        )
        return Text(base, special)

    def worth(self, how: Repetition, D: ArrayLike, S: ArrayLike, domain: str) -> tuple[Array, Array]:
        """(D, D') in new tokens of a model of this domain."""
        return worth(how, np.asarray(D, dtype=float), np.asarray(S, dtype=float), *self.at(domain))


def _limited(part: float | Mapping[str, float]) -> float | dict[str, float]:
    if isinstance(part, Mapping):
        return {domain: float(n) for domain, n in part.items() if math.isfinite(n)}
    return float(part)


def worth(how: Repetition, D: Array, S: Array, base: Any, special: Any) -> tuple[Array, Array]:
    """(D, D') in new tokens, of texts that last for `base` tokens of D and `special` of D'; all broadcast."""
    before, passes = D / base, S / special
    return how.worth(D, np.zeros_like(before), before), how.worth(S, before, passes)


def slopes(how: Repetition, D: Array, S: Array, base: float, special: float) -> tuple[Array, Array, Array]:
    """Of `worth`: the slope of D in new tokens by D, and of D' in new tokens by D and by D'."""
    before = D / base
    first, last = how.slope(before), how.slope(before + S / special)
    across = special / base if np.isfinite(special) and np.isfinite(base) else 0.0
    return first, across * (last - first), last
