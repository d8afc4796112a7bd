"""Forms of two stages, which tell D from D'. Adding one is adding one class here.

A form that a later release gave a further constant names it in `added`, last; laws saved before have it at 0.

Priors are weak Gaussians, of one row's weight at a distance of one spread: they decide only what a table leaves open
(on a 60-row ladder with 0.3 % noise, exponents of D' and of N inside a release scale). Their centres are the middle
of what such exponents were measured at, not fitted to any table here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from splitray.law.forms.form import Constant, Form, coefficient, exponent
from splitray.law.forms.one_stage import (
    ALPHA_1,
    BETA_1,
    CURVE,
    CURVE_WITH_SIZE,
    FIRST,
    FLOOR,
    SIZE,
    SIZED_DATA,
    WITH_SIZE,
)
from splitray.law.forms.registry import register

# The same constants where a second stage shares the rows with them.
ALPHA_2, BETA_2 = ALPHA_1, BETA_1
GAMMA = exponent("gamma", "how fast D' helps", prior=(0.4, 0.3))
WITH_D = exponent("p", "how that scale grows with D", bounds=(0.0, 2.0), prior=(0.5, 0.4))
WITH_N = exponent("q", "how that scale grows with N", bounds=(-1.0, 1.0), typical=(-0.3, 0.5), prior=(0.0, 0.3))
PENALTY = coefficient("lam", "mixture penalty as a share of the size term", "", (0.05, 2.0), prior=(0.3, 1.5))
WORTH = coefficient("rho", "tokens of D that one token of D' is worth", "", (0.1, 10.0), prior=(1.0, 1.5))


@register
class Release(Form):
    """Chinchilla with a mixture penalty at D' = 0, which D' releases down to the domain's own floor.

    lam = K^(alpha eta) - 1 says that N on K domains acts like N / K^eta on one. At D = 0 the loss is finite if
    p gamma >= beta, else a base is needed.
    """

    name = "release"
    scheduled = True
    source = "ours"
    formula = "E + A N^-alpha + (lam A N^-alpha + B N^c D^-beta) (1 + D'/(delta D^p N^q))^-gamma"
    constants = (
        FLOOR,
        SIZE,
        ALPHA_2,
        SIZED_DATA,
        BETA_2,
        WITH_SIZE,
        PENALTY,
        coefficient("delta", "D' that releases at D = 1, N = 1", "tokens tokens^-p params^-q", prior=(0.3, 2.5)),
        WITH_D,
        WITH_N,
        GAMMA,
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        size = k.A * N**-k.alpha
        released = (1.0 + R / (k.delta * D**k.p * N**k.q)) ** -k.gamma
        return k.E + size + (k.lam * size + k.B * N**k.c * D**-k.beta) * released


@register
class MixtureGap(Form):
    """The mixture's model is a gap G above a domain's own, which D' closes; all tokens feed one data term.

    Falls in D and D' and is finite at D = 0 and D' = 0 whatever the constants. The optimal fraction falls with the
    budget where gamma < beta, and D_split grows with N where c + r > 0.
    """

    name = "mixture_gap"
    scheduled = True
    source = "ours"
    formula = "E + A N^-alpha + G (1 + D'/(tau N^r))^-gamma + B N^c (D + rho D')^-beta"
    linear = ("E", "A", "B", "G")
    constants: ClassVar[tuple[Constant, ...]] = (
        FLOOR,
        SIZE,
        ALPHA_2,
        SIZED_DATA,
        BETA_2,
        WITH_SIZE,
        WORTH,
        coefficient("G", "loss of a domain for living in the mixture's model", "nats", (0.01, 1.0)),
        coefficient(
            "tau", "D' that begins to close the gap at N = 1", "tokens params^-r", (0.001, 1.0), prior=(0.03, 2.5)
        ),
        exponent("r", "how that D' grows with N", (-1.0, 1.0), (-0.3, 0.5), prior=(0.0, 0.3)),
        GAMMA,
    )

    def scale(self, k: Any, N: Any, D: Any) -> Any:
        """D' that begins to close the gap, in tokens."""
        return k.tau * N**k.r

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        gap = k.G * (1.0 + R / self.scale(k, N, D)) ** -k.gamma
        return k.E + k.A * N**-k.alpha + gap + k.B * N**k.c * (D + k.rho * S) ** -k.beta


@register
class OssifyingGap(MixtureGap):
    """The mixture's gap, which takes the more D' to close the longer the base was trained; sigma = 0: `mixture_gap`.

    Hernandez et al. 2021 call it ossification. On the proof's 444 rows (docs/law.md) sigma is 0.02 to 0.05: D' of a few
    per cent of D close half of the gap.
    """

    name = "ossifying_gap"
    source = "ours"
    formula = "E + A N^-alpha + G (1 + D'/(tau N^r + sigma D))^-gamma + B N^c (D + rho D')^-beta"
    constants = (
        *MixtureGap.constants,
        coefficient("sigma", "D' that every token of D adds to it", "", (0.001, 1.0), prior=(0.03, 2.5)),
    )

    def scale(self, k: Any, N: Any, D: Any) -> Any:
        return super().scale(k, N, D) + k.sigma * D


@register
class LearningGap(MixtureGap):
    """The mixture's gap over a learning curve, which starts from a finite first loss; see `learning_curve`."""

    name = "learning_gap"
    source = "ours"
    formula = "F + (L0 - F) (1 + (D + rho D')/(w N^u))^-beta + G (1 + D'/(tau N^r))^-gamma with F = E + A N^-alpha"
    linear = ("E", "A", "L0", "G")
    constants = (
        FLOOR,
        SIZE,
        ALPHA_2,
        FIRST,
        CURVE,
        CURVE_WITH_SIZE,
        BETA_2,
        *(constant for constant in MixtureGap.constants if constant.name in ("rho", "G", "tau", "r", "gamma")),
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        left = (1.0 + (D + k.rho * S) / (k.w * N**k.u)) ** -k.beta
        gap = k.G * (1.0 + R / self.scale(k, N, D)) ** -k.gamma
        return (k.E + k.A * N**-k.alpha) * (1.0 - left) + k.L0 * left + gap


@register
class EffectiveTokens(Form):
    """Pretraining is worth a stock of domain tokens."""

    name = "effective_tokens"
    scheduled = True
    source = "after Hernandez et al. 2021 and Lin et al. 2024 (rectified law)"
    formula = "E + A N^-alpha + B N^c (D' + kappa D^p N^q)^-beta"
    added = ("c",)
    constants = (
        FLOOR,
        SIZE,
        ALPHA_2,
        SIZED_DATA,
        BETA_2,
        coefficient("kappa", "D' that D = 1, N = 1 is worth", "tokens tokens^-p params^-q", prior=(0.3, 2.5)),
        WITH_D,
        WITH_N,
        WITH_SIZE,
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * N**k.c * (R + k.kappa * D**k.p * N**k.q) ** -k.beta


@register
class SharedSpecific(Form):
    """What all domains share is learned from every token, what is specific from the domain's own."""

    name = "shared_specific"
    scheduled = True
    source = "ours; nests the additive and the effective-token forms"
    added = ("c",)
    formula = "E + A N^-alpha + B N^c (D + rho D')^-beta + C (D' + kappa D^p N^q)^-gamma"
    linear = ("E", "A", "B", "C")
    constants = (
        FLOOR,
        SIZE,
        ALPHA_2,
        SIZED_DATA,
        BETA_2,
        WORTH,
        coefficient("C", "what is specific at D' = 1 token", "tokens^gamma"),
        GAMMA,
        coefficient("kappa", "specific D' that D = 1, N = 1 is worth", "tokens tokens^-p params^-q", prior=(0.3, 2.5)),
        WITH_D,
        WITH_N,
        WITH_SIZE,
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        shared = k.B * N**k.c * (D + k.rho * S) ** -k.beta
        return k.E + k.A * N**-k.alpha + shared + k.C * (R + k.kappa * D**k.p * N**k.q) ** -k.gamma


@register
class CapacityRelease(Form):
    """The mixture costs capacity, which D' gives back; data count as effective tokens."""

    name = "capacity_release"
    scheduled = True
    source = "ours"
    formula = "E + A N^-alpha [1 + lam (1 + D'/(delta D^p))^-gamma] + B N^c (D' + omega D)^-beta"
    added = ("c",)
    constants = (
        FLOOR,
        SIZE,
        ALPHA_2,
        SIZED_DATA,
        BETA_2,
        coefficient("omega", "D' that one token of D is worth", "", (0.01, 2.0), prior=(0.3, 1.5)),
        PENALTY,
        coefficient("delta", "D' that releases at D = 1", "tokens tokens^-p", prior=(0.3, 2.5)),
        WITH_D,
        GAMMA,
        WITH_SIZE,
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        penalty = 1.0 + k.lam * (1.0 + R / (k.delta * D**k.p)) ** -k.gamma
        return k.E + k.A * N**-k.alpha * penalty + k.B * N**k.c * (S + k.omega * D) ** -k.beta


@register
class Multiplicative(Form):
    """D' multiplies the data term down, less so the more the base has seen."""

    name = "multiplicative"
    scheduled = True
    source = "after Liew & Kato 2025; ours: D' shifted, a size term, a power instead of the logarithm's sign flip"
    formula = "E + A N^-alpha + B N^c (D + rho D')^-beta (1 + D'/tau)^-(gamma (D + rho D')^-h)"
    added = ("c",)
    constants = (
        FLOOR,
        SIZE,
        ALPHA_2,
        SIZED_DATA,
        BETA_2,
        WORTH,
        coefficient("tau", "D' at which specialization begins to tell", "tokens", (0.001, 1.0), prior=(0.03, 2.5)),
        coefficient("gamma", "how fast D' helps a base of D = 1 token", "tokens^h", (0.02, 1.0), prior=(0.2, 1.0)),
        exponent("h", "how the help fades with D", (0.0, 0.5), (0.0, 0.2), prior=(0.05, 0.1)),
        WITH_SIZE,
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any, R: Any) -> Any:
        seen = D + k.rho * S
        rate = k.gamma * seen**-k.h
        return k.E + k.A * N**-k.alpha + k.B * N**k.c * seen**-k.beta * (1.0 + R / k.tau) ** -rate
