"""What a form is: a candidate law L(N, D, D') in nats per token. The forms themselves are in `forms.py`.

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
from splitray.law.arrays import Array
from splitray.law.forms.dual import Dual
from splitray.law.forms.schedule import CONSTANT_RATE, RateSchedule

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
    """A candidate law. Subclasses give `name`, `source`, `constants` and `loss`.

    A form with `scheduled` has a fifth argument of `loss`: R, the learning-rate area of D' in tokens at the peak rate.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    formula: ClassVar[str]
    constants: ClassVar[tuple[Constant, ...]]
    linear: ClassVar[tuple[str, ...]] = ("E", "A", "B")  # coefficients that the loss is linear in
    splits: ClassVar[bool] = True  # whether D and D' play different parts
    added: ClassVar[tuple[str, ...]] = ()  # the last constants, which laws of earlier releases lack: 0 there
    scheduled: ClassVar[bool] = False  # whether `loss` is given the learning-rate area of D'

    def loss(self, k: Any, N: Any, D: Any, S: Any, *area: Any) -> Any:
        """Loss for constants `k` (attributes by name) at N, D, S; arrays or Duals, broadcast."""
        raise NotImplementedError

    def _loss(self, k: Any, N: Array, D: Array, S: Array, schedule: RateSchedule) -> Any:
        D = np.maximum(D, ZERO_TOKENS)
        if not self.scheduled:
            return self.loss(k, N, D, S)
        return self.loss(k, N, D, S, S if schedule is CONSTANT_RATE else schedule.area(D, S))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(constant.name for constant in self.constants)

    def pack(self, constants: Mapping[str, float]) -> Array:
        """The searched vector [constants] for named constants: logarithms of coefficients, exponents as they are."""
        constants = dict.fromkeys(self.added, 0.0) | dict(constants)
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

    def value(self, vectors: Array, N: Array, D: Array, S: Array, schedule: RateSchedule = CONSTANT_RATE) -> Array:
        """Loss [batch, rows] for searched vectors [batch, constants] at rows [rows], trained under `schedule`."""
        columns = np.moveaxis(np.asarray(vectors), -1, 0)[..., None]
        k = SimpleNamespace(**{c.name: v if c.exponent else np.exp(v) for c, v in zip(self.constants, columns)})
        return np.asarray(self._loss(k, N, D, S, schedule))

    def jacobian(
        self, vectors: Array, N: Array, D: Array, S: Array, schedule: RateSchedule = CONSTANT_RATE
    ) -> tuple[Array, Array]:
        """Loss [batch, rows] and its derivatives [batch, constants, rows] by the searched vector."""
        columns = np.moveaxis(np.asarray(vectors), -1, 0)[..., None]
        duals = {}
        for constant, column in zip(self.constants, columns):
            value = column if constant.exponent else np.exp(column)
            duals[constant.name] = Dual(value, {constant.name: 1.0 if constant.exponent else value})
        loss = self._loss(SimpleNamespace(**duals), N, D, S, schedule)
        slopes = np.empty((loss.value.shape[0], len(self.names), loss.value.shape[-1]))
        for index, name in enumerate(self.names):
            slopes[:, index] = loss.slopes.get(name, 0.0)
        return loss.value, slopes

    def gradient(
        self, vectors: Array, N: Array, D: Array, S: Array, schedule: RateSchedule = CONSTANT_RATE
    ) -> tuple[Array, Array]:
        """(dL/dD, dL/dD') [batch, rows], in nats per token; finite at D' = 0."""
        columns = np.moveaxis(np.asarray(vectors), -1, 0)[..., None]
        k = SimpleNamespace(**{c.name: v if c.exponent else np.exp(v) for c, v in zip(self.constants, columns)})
        D, S = np.maximum(D, ZERO_TOKENS), np.asarray(S)
        tokens = Dual(D, {"D": 1.0}), Dual(S, {"S": 1.0})
        loss = self.loss(k, N, *tokens, *((schedule.sloped_area(D, S),) if self.scheduled else ()))
        zero = np.zeros_like(loss.value)
        return zero + loss.slopes.get("D", 0.0), zero + loss.slopes.get("S", 0.0)


def coefficient(
    name: str,
    reading: str,
    units: str,
    typical: tuple[float, float] = (0.01, 10.0),
    prior: tuple[float, float] | None = None,
) -> Constant:
    """A positive constant, bounded to three decades around `typical`; `prior` is (value, spread of its logarithm)."""
    centred = None if prior is None else (float(np.log(prior[0])), prior[1])
    return Constant(name, reading, typical[0] * 1e-3, typical[1] * 1e3, units, typical, centred)


def exponent(
    name: str,
    reading: str,
    bounds: tuple[float, float] = (0.02, 2.0),
    typical: tuple[float, float] = (0.1, 0.8),
    prior: tuple[float, float] | None = None,
) -> Constant:
    """A constant that is searched as it is, inside `bounds`."""
    return Constant(name, reading, *bounds, None, typical, prior)
