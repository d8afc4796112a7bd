"""What a plan is asked for, checked: the model, the budget, the domains and the limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.forms.schedule import RateSchedule
from splitray.law.law import Law
from splitray.law.planning.line import Line
from splitray.law.planning.surface import Surface
from splitray.law.repetition import Text

# Forms take tokens to powers of up to 2 and multiply several: far beyond any corpus, well inside a double.
_MOST = 1e36


@dataclass(frozen=True)
class Limits:
    """What a plan must respect.

    min_pretrain: tokens of shared pretraining that the general model needs at least.
    available: tokens that each domain has for training: one number for all, or by name (a domain left out has no
        limit). Further passes are worth what the law's `repetition` says.
    epochs: the most passes over them that D'_k may make; None for as many as the law can tell of, 4 or those that its
        runs show.
    text: how far each domain's text goes, before the split too; None to take it from `available`.
    """

    min_pretrain: float = 0.0
    available: float | Mapping[str, float] | None = None
    epochs: float | None = None
    text: Text | None = None


@dataclass(frozen=True)
class Question:
    """How should `budget` tokens be divided for K models of `params` parameters?

    domains: K, or the names of the law's domains; weights: one per named domain, adding up to 1.
    allocation: "uniform" gives every domain its weight's part of sum D'_k, "per_domain" the optimal part.
    schedule: learning-rate schedule of the models; None for that of the law's runs.
    traits: `width_to_depth` and peak `learning_rate` of the models, where they are known; for warnings alone.

    Raises UserError, when made, for numbers out of range; for domains and weights when a law is asked.
    """

    params: float
    budget: float
    domains: int | list[str] | tuple[str, ...]
    weights: Sequence[float] | None = None
    allocation: Literal["uniform", "per_domain"] = "uniform"
    limits: Limits = field(default_factory=Limits)
    schedule: RateSchedule | None = None
    traits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        positive("params", self.params)
        positive("budget", self.budget)
        if self.allocation not in ("uniform", "per_domain"):
            raise UserError(f"allocation={self.allocation!r}: must be 'uniform' or 'per_domain'")
        if isinstance(self.domains, np.integer):
            object.__setattr__(self, "domains", int(self.domains))
        if not isinstance(self.domains, int | list | tuple) or isinstance(self.domains, bool):
            raise UserError(f"domains={self.domains!r}: give a whole number, or a list of names")
        if self.allocation == "per_domain" and isinstance(self.domains, int):
            raise UserError("allocation='per_domain' needs named domains: with a number of them all are alike")
        if self.limits.epochs is not None:
            positive("limits.epochs", self.limits.epochs)
        if not (0 <= self.limits.min_pretrain <= self.budget):
            raise UserError(
                f"limits.min_pretrain={self.limits.min_pretrain!r} must be between 0 and the budget of {self.budget:g}"
            )

    @classmethod
    def weighing(
        cls,
        law: Law,
        params: float,
        budget: float,
        weights: Mapping[str, float],
        limits: Limits | None = None,
        schedule: RateSchedule | None = None,
    ) -> "Question":
        """The question for domains of these weights: by name where they differ and the law knows every one of them.

        Else the law's mean stands for each of the K, and all get the mean D': of `limits.available` by name the text
        that w_k sum D' uses up first counts then, as if every domain had K w_k of it. Of `limits.text` the mean passes
        count.
        """
        limits = limits or Limits()
        if len(set(weights.values())) > 1 and set(weights) <= set(law.domains):
            return cls(params, budget, list(weights), list(weights.values()), limits=limits, schedule=schedule)
        if isinstance(limits.available, Mapping):
            first = min((n / weights[d] for d, n in limits.available.items()), default=math.inf) / len(weights)
            limits = replace(limits, available=first if first < math.inf else None)
        if limits.text is not None:
            limits = replace(limits, text=limits.text.mean())
        return cls(params, budget, len(weights), limits=limits, schedule=schedule)

    def surface(self, law: Law, draws: int | None = None) -> Surface:
        """The law bound to these domains, with at most `draws` of its draws."""
        made = Surface(law, self.domains, self.weights, draws, self.schedule)
        if (text := self.text(made)) is not None:
            base, special = np.array([text.at(term) for term in made.terms]).T
            made.text = base, special
        made.stretch(self.params, self.budget)
        return made

    def text(self, surface: Surface) -> Text | None:
        """How far the text of each term goes; None where all text is new."""
        if self.limits.text is not None or self.limits.available is None:
            return self.limits.text
        special = self.available(surface)
        base = special / surface.shares
        if not surface.names:
            return Text(float(base[0]), float(special[0]))
        return Text(dict(zip(surface.names, base.tolist())), dict(zip(surface.names, special.tolist())))

    def available(self, surface: Surface) -> Array:
        """Tokens of each term of `surface` [terms], inf where unlimited."""
        given = self.limits.available
        if given is None:
            return np.full(len(surface.terms), math.inf)
        if not isinstance(given, Mapping):
            return np.full(len(surface.terms), positive("limits.available", given))
        unknown = sorted(set(given) - set(surface.names))
        if unknown:
            known = ", ".join(surface.names) or "none: domains is a number"
            raise UserError(f"limits.available names {', '.join(unknown)}, not among the plan's domains ({known})")
        numbers = {name: positive(f"limits.available[{name}]", value) for name, value in given.items()}
        return np.array([numbers.get(term, math.inf) for term in surface.terms])

    def line(self, surface: Surface, params: Any = None, budget: Any = None, exchange: float = 1.0) -> Line:
        """The budget line within the limits; `params` and `budget` [rows, 1] may stand in for the question's own.

        exchange: see `Line`.
        """
        params, budget = self.params if params is None else params, self.budget if budget is None else budget
        apart = self.allocation == "per_domain"
        epochs = surface.law.repetition.trusted if self.limits.epochs is None else self.limits.epochs
        caps = self.available(surface) * epochs
        # A uniform division is over when the first domain's tokens are.
        pool = caps.sum() if apart else (caps / surface.shares).min()
        least = np.minimum(np.maximum(self.limits.min_pretrain / budget, 1 - pool / (exchange * budget)), 1.0)
        return Line(surface, params, budget, least, 1.0, apart, caps, exchange)


def positive(name: str, value: Any) -> float:
    """`value` as a float; UserError unless it is a finite number above 0 that powers of it do not overflow."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}={value!r}: a number is needed") from error
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"{name}={value!r}: must be a finite number above 0")
    if number > _MOST:
        raise UserError(f"{name}={number:g}: no law reaches that far; at most {_MOST:g}")
    return number
