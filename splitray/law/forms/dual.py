"""Forward-mode differentiation of numpy expressions, with slopes kept only where they are not zero.

A form is written once, as plain arithmetic. On numpy arrays it gives the loss; on `Dual` numbers it gives the
loss and its exact derivatives, batched by broadcasting: constants are [batch, 1], rows are [rows].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

import numpy as np

from splitray.law.arrays import Array

Number = Union[float, Array, "Dual"]


class Dual:
    """A value and its derivatives by name; a name that is absent has derivative zero."""

    __array_ufunc__ = None  # ndarray op Dual must reach the reflected methods below
    __slots__ = ("slopes", "value")

    def __init__(self, value: Any, slopes: Mapping[str, Any]) -> None:
        self.value = value
        self.slopes = slopes

    def _chain(self, value: Any, factor: Any) -> Dual:
        return Dual(value, {name: factor * slope for name, slope in self.slopes.items()})

    def __add__(self, other: Number) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value + other, self.slopes)
        return Dual(self.value + other.value, _merge(self.slopes, other.slopes))

    def __mul__(self, other: Number) -> Dual:
        if not isinstance(other, Dual):
            return self._chain(self.value * other, other)
        left, right = self._chain(None, other.value), other._chain(None, self.value)
        return Dual(self.value * other.value, _merge(left.slopes, right.slopes))

    def __pow__(self, exponent: Number) -> Dual:
        if not isinstance(exponent, Dual):
            value = self.value**exponent
            return self._chain(value, exponent * value / self.value)
        log = np.log(self.value)
        value = np.exp(exponent.value * log)
        base = self._chain(None, exponent.value * value / self.value)
        return Dual(value, _merge(base.slopes, exponent._chain(None, value * log).slopes))

    def __rpow__(self, base: Any) -> Dual:
        log = np.log(base)
        value = np.exp(self.value * log)
        return self._chain(value, value * log)

    def __neg__(self) -> Dual:
        return self._chain(-self.value, -1.0)

    def __sub__(self, other: Number) -> Dual:
        return self + -other

    def __rsub__(self, other: Number) -> Dual:
        return -self + other

    def __truediv__(self, other: Number) -> Dual:
        return self * (1.0 / other)

    def __rtruediv__(self, other: Number) -> Dual:
        value = 1.0 / self.value
        return self._chain(value, -value * value) * other

    __radd__ = __add__
    __rmul__ = __mul__


def _merge(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(left)
    for name, slope in right.items():
        merged[name] = merged[name] + slope if name in merged else slope
    return merged
