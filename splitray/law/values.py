"""Whether the numbers of a saved law can be those of a law: a checksum says that nobody changed them, not that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from splitray.law import forms
from splitray.law.arrays import Array
from splitray.law.forms import Form

if TYPE_CHECKING:
    from splitray.law.law import Component, Law

_STEEPEST = 10.0  # exponents beyond it are none that a table of runs could show: bounds of the forms end at 2
_HIGHEST = 1e6  # nats per token at the place below: random guessing among a million tokens costs 14
_PLACE = (np.array([1e9]), np.array([1e11]), np.array([0.0]))  # N, D, D'


def check(law: Law) -> None:
    """Refuse a law whose numbers no fit and no user could have meant.

    Raises:
        ValueError: naming the number.
    """
    if not law.components or not law.domains or len(set(law.domains)) < len(law.domains):
        raise ValueError("it has no form, no domain, or a domain twice")
    shares = [component.share for component in law.components]
    if not all(0.0 <= share <= 1.0 for share in shares) or not math.isclose(sum(shares), 1.0, rel_tol=1e-6):
        raise ValueError(f"the shares of its forms are {shares}: they lie between 0 and 1 and add up to 1")
    heldout = {} if law.heldout is None else {"heldout.noise": law.heldout.noise}
    _numbers({"noise": law.noise, "objective": law.objective, **heldout})
    _numbers({f"largest.{name}": value for name, value in (law.largest or {}).items()})
    for component in law.components:
        _component(component, law.domains)


def _numbers(named: Mapping[str, float | None]) -> None:
    for name, value in named.items():
        if value is not None and not 0.0 <= value < math.inf:
            raise ValueError(f"{name} = {value!r} must be finite and at least 0")


def _component(component: Component, domains: tuple[str, ...]) -> None:
    form = forms.find(component.form)
    for vector, domain in zip(component.vectors, domains):
        _constants(form, vector[None], f"of domain {domain!r}")
    _constants(form, component.draws.reshape(-1, len(form.names)), "in a bootstrap draw")
    with np.errstate(all="ignore"):
        losses = form.value(component.vectors, *_PLACE)[:, 0]
    for loss, domain in zip(losses, domains):
        if not 0.0 < loss < _HIGHEST:
            raise ValueError(f"form {form.name!r} says a loss of {loss:.3g} nats per token for domain {domain!r}")


def _constants(form: Form, vectors: Array, where: str) -> None:
    """Check searched vectors [rows, constants]: logarithms of coefficients (minus infinity for 0), exponents."""
    for column, constant in enumerate(form.constants):
        values = vectors[:, column]
        if constant.exponent:
            low = 0.0 if constant.low >= 0 else -_STEEPEST
            bad = ~((values >= low) & (values <= _STEEPEST))
            rule = f"an exponent between {low:g} and {_STEEPEST:g}"
        else:
            with np.errstate(over="ignore"):
                bad = ~(np.exp(values) < math.inf)
            rule = "the logarithm of a finite number"
        if bad.any():
            raise ValueError(
                f"form {form.name!r}: {constant.name} {where} is {float(values[bad][0])!r}, but should be {rule}"
            )
