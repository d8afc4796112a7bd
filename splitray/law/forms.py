"""The registry of forms: candidate laws L(N, D, D'), in nats per token.

A form is one class: its constants, and one expression that serves numpy arrays and `Dual` numbers alike.
N is `params`, D is `pretrain_tokens`, D' (here `S`) is `specialize_tokens`, all in units of 1. Coefficients are
positive and searched by their logarithm; exponents are searched as they are, inside their bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from splitray.errors import UserError
from splitray.law.dual import Array, Dual

# D = 0 is read as this many tokens: small enough that D**0.05 is 1e-3 of its value at 1 token, large enough that
# D**-2 and its slope stay inside a double.
ZERO_TOKENS = 1e-60


@dataclass(frozen=True)
class Constant:
    """One constant of a form.

    units: for a coefficient, the powers of `params` and `tokens` it carries, such as "tokens^beta params^-c".
        They document it, and they tell the fit how to express it at the centre of the data, where it is
        nearly independent of the exponents.
    low, high: bounds of an exponent; of a coefficient, at the centre of the data.
    typical: range that starts are drawn from, centred likewise.
    prior: (centre, spread) of a weak Gaussian on the searched value, for what few tables can identify.
    """

    name: str
    reading: str
    low: float
    high: float
    units: str | None = None
    typical: tuple[float, float] = (0.1, 0.8)
    prior: tuple[float, float] | None = None

    @property
    def exponent(self) -> bool:
        return self.units is None

    def powers(self) -> list[tuple[str, str | float, float]]:
        """`units` parsed to (axis, exponent name or number, sign)."""
        result: list[tuple[str, str | float, float]] = []
        for part in (self.units or "").split():
            axis, _, power = part.partition("^")
            if axis not in ("params", "tokens"):
                continue
            sign = -1.0 if power.startswith("-") else 1.0
            power = power.lstrip("-") or "1"
            result.append((axis, float(power) if power[0].isdigit() else power, sign))
        return result


class Form:
    """A candidate law. Subclasses give `name`, `source`, `constants` and `loss`."""

    name: ClassVar[str]
    source: ClassVar[str]
    formula: ClassVar[str]
    constants: ClassVar[tuple[Constant, ...]]
    linear: ClassVar[tuple[str, ...]] = ("E", "A", "B")  # coefficients that the loss is linear in
    splits: ClassVar[bool] = True  # whether D and D' play different parts

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        """Loss for constants `k` (attributes by name) at N, D, S; arrays or Duals, broadcast."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(constant.name for constant in self.constants)

    def pack(self, constants: Mapping[str, float]) -> Array:
        """The searched vector [constants] for named constants: logarithms of coefficients, exponents as they are."""
        missing, unknown = set(self.names) - set(constants), set(constants) - set(self.names)
        if missing or unknown:
            raise UserError(
                f"form {self.name!r} has the constants {', '.join(self.names)}"
                f" (missing: {sorted(missing) or 'none'}, unknown: {sorted(unknown) or 'none'})"
            )
        for constant in self.constants:
            value = constants[constant.name]
            if not np.isfinite(value) or (not constant.exponent and value < 0):
                raise UserError(f"form {self.name!r}: constant {constant.name} = {value!r} must be finite and >= 0")
        with np.errstate(divide="ignore"):
            return np.array([constants[c.name] if c.exponent else np.log(constants[c.name]) for c in self.constants])

    def unpack(self, vector: Array) -> dict[str, float]:
        """The inverse of `pack` for one vector."""
        return {c.name: float(v if c.exponent else np.exp(v)) for c, v in zip(self.constants, vector)}

    def value(self, vectors: Array, N: Array, D: Array, S: Array) -> Array:
        """Loss [batch, rows] for searched vectors [batch, constants] at rows [rows]."""
        columns = np.moveaxis(np.asarray(vectors), -1, 0)[..., None]
        k = SimpleNamespace(**{c.name: v if c.exponent else np.exp(v) for c, v in zip(self.constants, columns)})
        return np.asarray(self.loss(k, N, np.maximum(D, ZERO_TOKENS), S))

    def jacobian(self, vectors: Array, N: Array, D: Array, S: Array) -> tuple[Array, Array]:
        """Loss [batch, rows] and its derivatives [batch, constants, rows] by the searched vector."""
        columns = np.moveaxis(np.asarray(vectors), -1, 0)[..., None]
        duals = {}
        for constant, column in zip(self.constants, columns):
            value = column if constant.exponent else np.exp(column)
            duals[constant.name] = Dual(value, {constant.name: 1.0 if constant.exponent else value})
        loss = self.loss(SimpleNamespace(**duals), N, np.maximum(D, ZERO_TOKENS), S)
        slopes = np.empty((loss.value.shape[0], len(self.names), loss.value.shape[-1]))
        for index, name in enumerate(self.names):
            slopes[:, index] = loss.slopes.get(name, 0.0)
        return loss.value, slopes

    def gradient(self, vectors: Array, N: Array, D: Array, S: Array) -> tuple[Array, Array]:
        """(dL/dD, dL/dD') [batch, rows], in nats per token; finite at D' = 0."""
        columns = np.moveaxis(np.asarray(vectors), -1, 0)[..., None]
        k = SimpleNamespace(**{c.name: v if c.exponent else np.exp(v) for c, v in zip(self.constants, columns)})
        loss = self.loss(k, N, Dual(np.maximum(D, ZERO_TOKENS), {"D": 1.0}), Dual(np.asarray(S), {"S": 1.0}))
        zero = np.zeros_like(loss.value)
        return zero + loss.slopes.get("D", 0.0), zero + loss.slopes.get("S", 0.0)

    def floor(self, vectors: Array, N: Array) -> Array:
        """The unsplit model's loss as D grows without bound [batch, rows]."""
        return self.value(vectors, N, np.full_like(N, np.inf), np.zeros_like(N))


REGISTRY: dict[str, Form] = {}


def register(form: type[Form]) -> type[Form]:
    REGISTRY[form.name] = form()
    return form


def find(name: str) -> Form:
    if name not in REGISTRY:
        raise UserError(f"form {name!r} is not known; known forms: {', '.join(REGISTRY)}, or 'auto'")
    return REGISTRY[name]


E_ = Constant("E", "loss that no size and no data removes", 1e-4, 20.0, units="nats")
A_ = Constant("A", "what size N = 1 would add", 1e-5, 1e3, units="params^alpha")
ALPHA = Constant("alpha", "how fast size helps", 0.02, 2.0)
B_ = Constant("B", "what training on D = 1 token would add", 1e-5, 1e3, units="tokens^beta")
BETA = Constant("beta", "how fast tokens help", 0.02, 2.0)


@register
class Chinchilla(Form):
    """One kind of token: the form in which a split never pays."""

    name = "chinchilla"
    source = "Hoffmann et al. 2022, approach 3"
    formula = "E + A N^-alpha + B (D + D')^-beta"
    constants = (E_, A_, ALPHA, B_, BETA)
    splits = False

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * (D + S) ** -k.beta


@register
class Release(Form):
    """Chinchilla with a mixture penalty at D' = 0, which D' releases down to the domain's own floor."""

    name = "release"
    source = "ours"
    formula = "E + A N^-alpha + (lam A N^-alpha + B N^c D^-beta) (1 + D'/(delta D^p N^q))^-gamma"
    constants = (
        E_,
        A_,
        ALPHA,
        Constant("B", "what training on D = 1 token would add at N = 1", 1e-5, 1e3, units="tokens^beta params^-c"),
        BETA,
        Constant("c", "how the data term grows with N", -0.6, 0.6, typical=(-0.1, 0.3)),
        Constant(
            "lam",
            "mixture penalty as a share of the size term: K^(alpha eta) - 1",
            1e-4,
            30.0,
            units="",
            typical=(0.05, 2),
        ),
        Constant(
            "delta", "D' that releases, per D^p N^q", 1e-5, 1e3, units="tokens tokens^-p params^-q", typical=(0.01, 10)
        ),
        Constant("p", "how the releasing D' grows with D", 0.0, 2.0),
        Constant("q", "how the releasing D' grows with N", -1.0, 1.0, typical=(-0.3, 0.5)),
        Constant("gamma", "how fast D' releases", 0.02, 2.0),
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        size = k.A * N**-k.alpha
        released = (1.0 + S / (k.delta * D**k.p * N**k.q)) ** -k.gamma
        return k.E + size + (k.lam * size + k.B * N**k.c * D**-k.beta) * released


@register
class EffectiveTokens(Form):
    """Pretraining is worth a stock of domain tokens."""

    name = "effective_tokens"
    source = "after Hernandez et al. 2021 and Lin et al. 2024 (rectified law)"
    formula = "E + A N^-alpha + B (D' + kappa D^p N^q)^-beta"
    constants = (
        E_,
        A_,
        ALPHA,
        B_,
        BETA,
        Constant(
            "kappa",
            "domain tokens that D = 1, N = 1 is worth",
            1e-4,
            1e4,
            units="tokens tokens^-p params^-q",
            typical=(0.01, 10),
        ),
        Constant("p", "how the stock grows with D", 0.05, 2.0),
        Constant("q", "how the stock grows with N", -1.0, 1.0, typical=(-0.3, 0.5)),
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        return k.E + k.A * N**-k.alpha + k.B * (S + k.kappa * D**k.p * N**k.q) ** -k.beta


@register
class SharedSpecific(Form):
    """What all domains share is learned from every token, what is specific from the domain's own."""

    name = "shared_specific"
    source = "ours; nests the additive and the effective-token forms"
    formula = "E + A N^-alpha + B (D + rho D')^-beta + C (D' + kappa D^p N^q)^-gamma"
    linear = ("E", "A", "B", "C")
    constants = (
        E_,
        A_,
        ALPHA,
        B_,
        BETA,
        Constant("rho", "shared tokens that one token of D' is worth", 1e-3, 1e3, units="", typical=(0.1, 10)),
        Constant("C", "what is specific at D' = 1 token", 1e-5, 1e3, units="tokens^gamma"),
        Constant("gamma", "how fast specific tokens help", 0.02, 2.0),
        Constant(
            "kappa",
            "specific tokens that D = 1, N = 1 is worth",
            1e-4,
            1e4,
            units="tokens tokens^-p params^-q",
            typical=(0.01, 10),
        ),
        Constant("p", "how that grows with D", 0.05, 2.0),
        Constant("q", "how that grows with N", -1.0, 1.0, typical=(-0.3, 0.5)),
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        shared = k.B * (D + k.rho * S) ** -k.beta
        return k.E + k.A * N**-k.alpha + shared + k.C * (S + k.kappa * D**k.p * N**k.q) ** -k.gamma


@register
class CapacityRelease(Form):
    """The mixture costs capacity, which D' gives back; data count as effective tokens."""

    name = "capacity_release"
    source = "ours"
    formula = "E + A N^-alpha [1 + lam (1 + D'/(delta D^p))^-gamma] + B (D' + omega D)^-beta"
    constants = (
        E_,
        A_,
        ALPHA,
        B_,
        BETA,
        Constant("omega", "domain tokens that one token of D is worth", 1e-4, 1e3, units="", typical=(0.01, 2)),
        Constant("lam", "mixture penalty as a share of the size term", 1e-4, 30.0, units="", typical=(0.05, 2)),
        Constant("delta", "D' that releases, per D^p", 1e-5, 1e3, units="tokens tokens^-p", typical=(0.01, 10)),
        Constant("p", "how the releasing D' grows with D", 0.0, 2.0),
        Constant("gamma", "how fast D' releases", 0.02, 2.0),
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        penalty = 1.0 + k.lam * (1.0 + S / (k.delta * D**k.p)) ** -k.gamma
        return k.E + k.A * N**-k.alpha * penalty + k.B * (S + k.omega * D) ** -k.beta


@register
class Multiplicative(Form):
    """D' multiplies the data term down, less so the more the base has seen."""

    name = "multiplicative"
    source = "after Liew & Kato 2025; ours: D' shifted, a size term, a power instead of the logarithm's sign flip"
    formula = "E + A N^-alpha + B (D + rho D')^-beta (1 + D'/tau)^-(gamma (D + rho D')^-h)"
    constants = (
        E_,
        A_,
        ALPHA,
        B_,
        BETA,
        Constant("rho", "tokens of D that one token of D' is worth", 1e-3, 1e3, units="", typical=(0.1, 10)),
        Constant("tau", "D' at which specialization begins to tell", 1e-5, 1e3, units="tokens", typical=(0.001, 1)),
        Constant("gamma", "how fast D' helps a base of D = 1 token", 1e-3, 3.0, units="tokens^h", typical=(0.02, 1)),
        Constant("h", "how the help fades with D", 0.0, 0.5, typical=(0.0, 0.2)),
    )

    def loss(self, k: Any, N: Any, D: Any, S: Any) -> Any:
        seen = D + k.rho * S
        help_ = k.gamma * seen**-k.h
        return k.E + k.A * N**-k.alpha + k.B * seen**-k.beta * (1.0 + S / k.tau) ** -help_
