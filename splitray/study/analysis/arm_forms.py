"""Forms of the loss of own bases continued on an arm: L(N, D', arm), in nats per token.

All arms start from one base, so that at D' = 0 every form gives one loss whatever the arm. The general arm is the
measure: its tokens count as they are. `S` is D', effective where text is repeated; N and S are in units of the table's
middle, so that constants are those of a middle-sized model.

The law's own forms tell domains apart by constants that need not agree at D' = 0, and know D, which is one number for
all bases here. So these are forms of their own, fitted by the law's machinery.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from splitray.law.arrays import Array
from splitray.law.forms.form import Constant, Form, coefficient, exponent
from splitray.law.forms.one_stage import ALPHA_1, BETA_1, FLOOR

REPEATS = 15.4  # passes whose worth has fallen to 1/e: R*_D of Muennighoff et al. 2023 (arXiv 2305.16264)

_SIZE = coefficient("A", "what a middle-sized model lacks in size", "", (0.05, 5.0))
_DATA = coefficient("B", "what the middle number of tokens leaves", "", (0.05, 5.0))
_STOCK = coefficient("d0", "what the base is worth, in units of the middle D'", "", (0.05, 20.0), prior=(1.0, 2.0))
_STOCK_WITH_SIZE = exponent("s", "how that stock grows with N", (-1.0, 2.0), (-0.2, 1.0), prior=(0.3, 0.5))


class ArmForm(Form):
    """own: constants of an arm; `general`: their value for the general arm, as it is searched."""

    general: ClassVar[dict[str, float]] = {}


class Worth(ArmForm):
    """A token of an arm is worth `rho` general ones, a power of N: data transferred, as Hernandez et al. 2021 count it.

    The effective compute multiplier is rho N^q at every level, so q is the slope of SGER.
    """

    name = "worth"
    source = "after Hernandez et al. 2021 (arXiv 2102.01293), effective data transferred"
    formula = "E + A N^-alpha + B (d0 N^s + rho N^q D')^-beta"
    constants = (
        FLOOR,
        _SIZE,
        ALPHA_1,
        _DATA,
        BETA_1,
        _STOCK,
        _STOCK_WITH_SIZE,
        coefficient("rho", "general tokens that a token of the arm is worth", "", (0.1, 20.0), prior=(1.5, 1.5)),
        exponent("q", "how that worth grows with N", (-1.5, 1.5), (-0.3, 0.5), prior=(0.0, 0.4)),
    )
    general: ClassVar[dict[str, float]] = {"rho": 0.0, "q": 0.0}

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * (k.d0 * N**k.s + k.rho * N**k.q * S) ** -k.beta


class Closing(ArmForm):
    """An arm closes a gap that the general text leaves open; all tokens feed one data term beside it.

    General training never reaches what lies below its own floor, so that the multiplier can be infinite. See
    `mixture_gap` of the law. With rho below 1 an arm can be worse than the general one: without it draws of an arm that
    is worth as much all said that it is better.
    """

    name = "closing"
    source = "ours, after the law's mixture_gap"
    formula = "E + A N^-alpha + B (d0 N^s + rho D')^-beta - G N^g (1 - (1 + D'/tau)^-gamma)"
    linear = ("E", "A", "B")
    constants: ClassVar[tuple[Constant, ...]] = (
        FLOOR,
        _SIZE,
        ALPHA_1,
        _DATA,
        BETA_1,
        _STOCK,
        _STOCK_WITH_SIZE,
        coefficient(
            "rho", "general tokens that a token of the arm is worth beside that", "", (0.3, 3.0), prior=(1.0, 0.5)
        ),
        coefficient("G", "the gap that the arm can close", "nats", (0.02, 1.0), prior=(0.2, 2.0)),
        exponent("g", "how the gap grows with N", (-1.0, 1.0), (-0.2, 0.3), prior=(0.0, 0.2)),
        coefficient("tau", "D' that begins to close it", "", (0.01, 5.0), prior=(0.3, 1.5)),
        exponent("gamma", "how fast it closes", (0.05, 2.0), (0.2, 1.0), prior=(0.5, 0.3)),
    )
    general: ClassVar[dict[str, float]] = {"rho": 0.0, "G": float(np.log(2e-5)), "g": 0.0, "tau": 0.0, "gamma": 0.5}

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        closed = 1.0 - (1.0 + S / k.tau) ** -k.gamma
        return k.E + k.A * N**-k.alpha + k.B * (k.d0 * N**k.s + k.rho * S) ** -k.beta - k.G * N**k.g * closed


FORMS: tuple[ArmForm, ...] = (Worth(), Closing())


def effective(tokens: Array | float, unique: Array | float) -> Array:
    """What `tokens` are worth where only `unique` of them are different: U + U R* (1 - exp(-(D/U - 1) / R*)).

    Muennighoff et al. 2023, equation 5, with their constant for repeated data. Up to one pass it is the tokens.
    """
    tokens, unique = np.asarray(tokens, float), np.asarray(unique, float)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        again = np.maximum(tokens / unique - 1.0, 0.0)
        worth = unique * (1.0 + REPEATS * -np.expm1(-again / REPEATS))
    return np.where(tokens <= unique, tokens, worth)
