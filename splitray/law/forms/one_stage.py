"""Forms of one stage, which know one kind of token, and the constants that all forms share."""

from __future__ import annotations

from typing import Any

from splitray.law.forms.form import Constant, Form, coefficient, exponent
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


# Exponents of forms with more constants than Chinchilla's five carry the weak priors of two_stage.py.
ALPHA_1 = exponent("alpha", "how fast size helps", prior=(0.4, 0.3))
BETA_1 = exponent("beta", "how fast tokens help", prior=(0.4, 0.3))
SIZED_DATA = coefficient("B", "what training on D = 1 token would add at N = 1", "tokens^beta params^-c")
WITH_SIZE = exponent("c", "how the data term grows with N", (-0.6, 0.6), (-0.1, 0.3), prior=(0.05, 0.2))
# A model that knows nothing has ln(vocabulary), 6.9 nats for 1024 tokens and 12.5 for 262144. Without the prior, draws
# of a table that begins late put L0 anywhere.
FIRST = coefficient("L0", "loss before training, about ln of the vocabulary", "nats", (7.0, 12.0), prior=(9.5, 0.2))
CURVE = coefficient("w", "tokens that begin to lower the loss at N = 1", "tokens params^-u", (0.001, 1.0))
CURVE_WITH_SIZE = exponent("u", "how those tokens grow with N", (-1.0, 1.0), (-0.3, 0.5), prior=(0.0, 0.3))


@register
class SizedData(Form):
    """Chinchilla whose data term depends on the size: a larger model needs more, or fewer, tokens to come as near."""

    name = "sized_data"
    source = "ours; c = 0 is chinchilla"
    formula = "E + A N^-alpha + B N^c (D + D')^-beta"
    constants = (FLOOR, SIZE, ALPHA_1, SIZED_DATA, BETA_1, WITH_SIZE)
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * N**k.c * (D + S) ** -k.beta


@register
class Farseer(Form):
    """The exponent of the tokens changes with the size, as a power of N."""

    name = "farseer"
    source = "after Farseer, Li et al. 2025 (arXiv 2506.10972), its exponents to first order in log N"
    formula = "E + A N^-alpha + B N^c ((D + D') / 10^9)^-(beta N^h)"
    constants = (
        FLOOR,
        SIZE,
        ALPHA_1,
        coefficient("B", "what training on 10^9 tokens leaves at N = 1", "params^-c"),
        Constant("beta", "how fast tokens help at N = 1", 0.02, 2.0, "params^-h", (0.1, 0.8), (-0.9, 0.75)),
        WITH_SIZE,
        exponent("h", "how that exponent grows with N", (-0.2, 0.2), (-0.03, 0.03), prior=(0.0, 0.05)),
    )
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * N**k.c * ((D + S) * 1e-9) ** -(k.beta * N**k.h)


@register
class Kaplan(Form):
    """Size and data as one term: what a model lacks in size shows the more the more data it has."""

    name = "kaplan"
    source = "Kaplan et al. 2020, equation 1.5, with a floor"
    formula = "E + (A N^-alpha + B (D + D')^-1)^beta"
    linear = ("E",)
    constants = (
        FLOOR,
        coefficient("A", "the size's part at N = 1", "params^alpha", (1e-4, 1.0)),
        exponent("alpha", "how fast size helps, over beta", (0.05, 5.0), (0.3, 2.0), prior=(1.0, 0.5)),
        coefficient("B", "the data's part at D = 1 token", "tokens^1", (1e-4, 1.0)),
        BETA_1,
    )
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + (k.A * N**-k.alpha + k.B * (1.0 / (D + S))) ** k.beta


@register
class Bottleneck(Form):
    """Training time and size have exponents of their own, and the slower of both binds; h = 1 is `chinchilla`."""

    name = "bottleneck"
    source = "after Bordelon, Atanasov & Pehlevan 2024, a dynamical model of neural scaling laws (arXiv 2402.01092)"
    formula = "E + (A N^-alpha + B (D + D')^-beta)^h"
    linear = ("E",)
    constants = (
        FLOOR,
        SIZE,
        exponent("alpha", "how fast size helps, over h", (0.02, 4.0), (0.1, 1.0), prior=(0.5, 0.4)),
        DATA,
        exponent("beta", "how fast training time helps, over h", (0.02, 4.0), (0.1, 1.0), prior=(0.5, 0.4)),
        exponent("h", "how far the slower of both binds", (0.1, 2.0), (0.4, 1.2), prior=(1.0, 0.4)),
    )
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + (k.A * N**-k.alpha + k.B * (D + S) ** -k.beta) ** k.h


@register
class ComputeAlone(Form):
    """Nothing but compute counts, however it is divided between size and tokens."""

    name = "compute_alone"
    source = "after Guo 2024, More Compute Is What You Need (arXiv 2404.19484), with a floor"
    formula = "E + A (N (D + D'))^-alpha"
    linear = ("E", "A")
    constants = (
        FLOOR,
        coefficient("A", "what N D = 1 would add", "params^alpha tokens^alpha"),
        exponent("alpha", "how fast compute helps", prior=(0.2, 0.2)),
    )
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * (N * (D + S)) ** -k.alpha


@register
class LearningCurve(Form):
    """The loss starts at L0, whatever the size, and falls to the size's floor: finite from the first token on."""

    name = "learning_curve"
    source = "ours"
    formula = "F + (L0 - F) (1 + (D + D')/(w N^u))^-beta with F = E + A N^-alpha"
    linear = ("E", "A", "L0")
    constants = (FLOOR, SIZE, ALPHA_1, FIRST, CURVE, CURVE_WITH_SIZE, BETA_1)
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        left = (1.0 + (D + S) / (k.w * N**k.u)) ** -k.beta
        return (k.E + k.A * N**-k.alpha) * (1.0 - left) + k.L0 * left
