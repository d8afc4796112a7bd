"""Forms of one stage, which know one kind of token, and the constants that all forms share."""

from __future__ import annotations

from typing import Any

from splitray.law.forms.form import Form, coefficient, exponent
from splitray.law.forms.registry import register

FLOOR = coefficient("E", "loss that no size and no data removes", "nats", typical=(0.5, 5.0))
SIZE = coefficient("A", "what size N = 1 would add", "params^alpha")
ALPHA = exponent("alpha", "how fast size helps")
DATA = coefficient("B", "what training on D = 1 token would add", "tokens^beta")
BETA = exponent("beta", "how fast tokens help")


@register
class Chinchilla(Form):
    """One kind of token: the form in which a split never pays."""

    name = "chinchilla"
    source = "Hoffmann et al. 2022, approach 3"
    formula = "E + A N^-alpha + B (D + D')^-beta"
    constants = (FLOOR, SIZE, ALPHA, DATA, BETA)
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * (D + S) ** -k.beta
