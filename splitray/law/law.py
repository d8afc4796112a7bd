"""`Law`: a form with its constants, its uncertainty, and what there is to say against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from splitray.errors import UserError
from splitray.law import forms, saved, values
from splitray.law.arrays import Array
from splitray.law.forms import Form
from splitray.law.forms.schedule import CONSTANT_RATE, RateSchedule
from splitray.law.reach import Reach
from splitray.law.repetition import Repetition
from splitray.storage.checksum import Schema

SCHEMA = Schema("law", 3, unnamed=None)
# Points times draws evaluated at once: a few arrays of 8 MB stay in cache reach and bound the memory.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class LawWarning:
    """Something that the data do not support: what, why, and the run that would cure it."""

    code: str
    message: str
    reason: str
    cure: str

    def __str__(self) -> str:
        return f"{self.message}: {self.reason}; {self.cure}"


@dataclass(frozen=True)
class HeldOut:
    """Errors of the forms on rows hidden from the fit.

    rows: one dict per form and protocol: `form`, `protocol` (what was hidden: "each" row in turn, or the largest
        "size", "tokens", "specialize"), `rows` (how many), `loss` (root mean square error of log loss), `difference`
        (that of log loss differences along budget lines; None without pairs), `noise` (below it errors are not told
        apart), `reason` (why the form was refused, or None).
    scores: mean logarithm of the errors by form, lower is better; refused forms have none.
    noise: standard deviation of log loss that errors are compared with.
    """

    rows: tuple[dict[str, Any], ...]
    scores: dict[str, float]
    noise: float


@dataclass(frozen=True, eq=False)
class Component:
    """One form's share in a law: vectors [domains, constants] and its bootstrap draws [draws, domains, constants]."""

    form: str
    share: float
    vectors: Array
    draws: Array

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Component)
            and (self.form, self.share) == (other.form, other.share)
            and all(
                np.array_equal(mine, theirs)
                for mine, theirs in ((self.vectors, other.vectors), (self.draws, other.draws))
            )
        )


@dataclass(frozen=True)
class Law:
    """A fitted (or given) law L(N, D, D') for one or more domains; made by `splitray.law.fit` or `Law.known`.

    largest: the largest `params`, `pretrain_tokens` and `specialize_tokens` among the runs it was fitted to; None for a
        given law, and for one saved before this was kept. runs: their table, which is not saved.
    traits: least and largest `width_to_depth` and peak `learning_rate` of the runs, where their table has them.
    reach: how much wider than its draws the law's errors are outside the table.
    schedules: the learning-rate schedules of those runs, the commonest first. It is what the law predicts for where
        none is named.
    repetition: how repeated text counts. D and D' of `predict` are new tokens; a plan counts the passes by itself.
    """

    components: tuple[Component, ...]
    domains: tuple[str, ...] = ("",)
    objective: float | None = None
    warnings: tuple[LawWarning, ...] = ()
    heldout: HeldOut | None = None
    noise: float | None = None
    largest: dict[str, float] | None = None
    schedules: tuple[RateSchedule, ...] = (CONSTANT_RATE,)
    traits: dict[str, tuple[float, float]] = field(default_factory=dict)
    reach: Reach = field(default=Reach(), compare=False)
    repetition: Repetition = field(default=Repetition())
    runs: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def known(cls, form: str, constants: Mapping[str, float] | Mapping[str, Mapping[str, float]]) -> Law:
        """A law from given constants, one set or one per domain, in units of 1 parameter and 1 token; no data.

        Raises UserError for an unknown form or for constants that are missing, unknown or out of range.
        """
        found = forms.find(form)
        nested = {k: v for k, v in constants.items() if isinstance(v, Mapping)}
        if nested and len(nested) != len(constants):
            raise UserError(f"constants of form {form!r} mix numbers and domains: give one set, or one per domain")
        sets: Mapping[str, Any] = nested or {"": constants}
        vectors = np.stack([found.pack(values) for values in sets.values()])
        draws = np.empty((0, *vectors.shape))
        return cls(components=(Component(form, 1.0, vectors, draws),), domains=tuple(sets))

    @property
    def best(self) -> Component:
        return max(self.components, key=lambda component: component.share)

    @property
    def form(self) -> str:
        return self.best.form

    @property
    def mixture(self) -> dict[str, float]:
        """The share of every form in the law's predictions; they add up to 1."""
        return {component.form: component.share for component in self.components}

    @property
    def constants(self) -> dict[str, Any]:
        """Constants of the best form by name, in units of 1; with several domains a dict of them by domain."""
        found = forms.find(self.form)
        sets = {name: found.unpack(vector) for name, vector in zip(self.domains, self.best.vectors)}
        return sets if len(sets) > 1 else next(iter(sets.values()))

    @property
    def schedule(self) -> RateSchedule:
        """The commonest schedule of the runs."""
        return self.schedules[0]

    @property
    def draws(self) -> int:
        return sum(len(component.draws) for component in self.components)

    def predict(
        self,
        params: ArrayLike,
        pretrain_tokens: ArrayLike,
        specialize_tokens: ArrayLike = 0.0,
        domain: str | None = None,
        interval: float | None = None,
        schedule: RateSchedule | None = None,
    ) -> Any:
        """Loss in nats per token at N, D, D' (broadcast against each other); `domain=None` is the mean of domains.

        `schedule` is that of the runs to predict; None for the law's own.
        With `interval` (such as 0.8) the result is (value, low, high) from the bootstrap draws.
        Raises UserError for points that are not finite or negative, for an unknown domain, and for an interval
        without draws.
        """
        shape, points = _points(params, pretrain_tokens, specialize_tokens)
        under = schedule or self.schedule
        value = self._mean(lambda form, v: form.value(v, *points, under), domain).reshape(shape)
        if interval is None:
            return value
        if not 0.0 < interval < 1.0:
            raise UserError(f"interval={interval!r} must lie between 0 and 1")
        if not self.draws:
            raise UserError("this law has no bootstrap draws: fit it with bootstrap=200 or more")
        draws = self.predict_draws(params, pretrain_tokens, specialize_tokens, domain, under)
        low, high = np.quantile(draws, [(1 - interval) / 2, (1 + interval) / 2], axis=0)
        return value, low, high

    def predict_draws(
        self,
        params: ArrayLike,
        pretrain_tokens: ArrayLike,
        specialize_tokens: ArrayLike = 0.0,
        domain: str | None = None,
        schedule: RateSchedule | None = None,
    ) -> Array:
        """Loss of every bootstrap draw [draws, *shape], stretched outside the table as `reach` says."""
        shape, points = _points(params, pretrain_tokens, specialize_tokens)
        under = schedule or self.schedule
        draws = sum(self._draws(points, under, row) for row in self._select(domain)) / len(self._select(domain))
        return np.asarray(draws).reshape(-1, *shape)

    def save(self, path: str | Path) -> None:
        """Write the law as JSON, whole or not at all, with its checksum; `Law.load` gives back the same bits."""
        record = {
            "form": self.form,
            "constants": self.constants,
            "domains": list(self.domains),
            "objective": self.objective,
            "noise": self.noise,
            "largest": self.largest,
            "traits": self.traits,
            "reach": self.reach.plain(),
            "repetition": self.repetition.plain(),
            "schedules": [schedule.plain() for schedule in self.schedules],
            "warnings": [asdict(warning) for warning in self.warnings],
            "heldout": asdict(self.heldout) if self.heldout else None,
            "components": [
                {"form": c.form, "share": c.share, "vectors": c.vectors.tolist(), "draws": c.draws.tolist()}
                for c in self.components
            ],
        }
        saved.write(path, SCHEMA, _plain(record))

    @classmethod
    def load(cls, path: str | Path) -> Law:
        """Read a law that `save` wrote. Raises UserError naming a file that is missing, damaged or not a law."""
        return saved.read(path, SCHEMA, cls._of)

    @classmethod
    def _of(cls, record: dict[str, Any]) -> Law:
        heldout = record["heldout"]
        law = cls(
            components=tuple(_component(c, len(record["domains"])) for c in record["components"]),
            domains=tuple(record["domains"]),
            objective=record["objective"],
            noise=record["noise"],
            largest=record.get("largest"),
            traits={name: (float(low), float(high)) for name, (low, high) in record.get("traits", {}).items()},
            reach=Reach.parse(record.get("reach")),
            repetition=Repetition.parse(record.get("repetition")),
            schedules=tuple(map(RateSchedule.parse, record.get("schedules", [CONSTANT_RATE.plain()]))),
            warnings=tuple(LawWarning(**w) for w in record["warnings"]),
            heldout=heldout and HeldOut(tuple(heldout["rows"]), heldout["scores"], heldout["noise"]),
        )
        values.check(law)
        return law

    def _select(self, domain: str | None) -> list[int]:
        if domain is None:
            return list(range(len(self.domains)))
        if domain not in self.domains:
            raise UserError(f"domain {domain!r} is not in the law; it knows {', '.join(map(repr, self.domains))}")
        return [self.domains.index(domain)]

    def _mean(self, of: Callable[[Form, Array], Array], domain: str | None) -> Array:
        rows = self._select(domain)
        with np.errstate(all="ignore"):
            mean: Array = sum(c.share * of(forms.find(c.form), c.vectors[rows]).mean(axis=0) for c in self.components)
            return mean

    def _draws(self, points: tuple[Array, Array, Array], under: RateSchedule, domain: int) -> Array:
        """Losses [draws, points] of one domain by every draw."""
        result, fitted = (np.empty((self.draws, points[0].size)) for _ in range(2))
        start = 0
        with np.errstate(all="ignore"):
            for component in self.components:
                form, count = forms.find(component.form), len(component.draws)
                rows = slice(start, start + count)
                fitted[rows] = form.value(component.vectors[domain][None], *points, under)
                step = max(1, _BLOCK // max(count, 1))
                for low in range(0, points[0].size if count else 0, step):
                    part = slice(low, low + step)
                    N, D, S = (p[part] for p in points)
                    result[rows, part] = form.value(component.draws[:, domain], N, D, S, under)
                start += count
            if self.reach.idle or not self.draws:
                return result
            spread = np.log(result / fitted).std(axis=0)
            common = self.reach.common(self.draws)[:, None]
            return self.reach.apply(result, fitted, self.reach.weight(*points), spread, common)


def _points(
    params: ArrayLike, pretrain_tokens: ArrayLike, specialize_tokens: ArrayLike
) -> tuple[tuple[int, ...], tuple[Array, Array, Array]]:
    named = {"params": params, "pretrain_tokens": pretrain_tokens, "specialize_tokens": specialize_tokens}
    arrays: list[Array] = []
    for name, given in named.items():
        try:
            array = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: numbers are needed, not {given!r}") from error
        bad = ~(np.isfinite(array) & ((array > 0) if name == "params" else (array >= 0)))
        if bad.any():
            rule = "finite and above 0" if name == "params" else "finite and at least 0"
            raise UserError(f"{name} = {float(array[bad].flat[0])!r}: must be {rule}")
        arrays.append(array)
    try:
        wide = np.broadcast_arrays(*arrays)
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(named, arrays))
        raise UserError(f"shapes do not broadcast: {shapes}") from error
    N, D, S = (np.ascontiguousarray(array).ravel() for array in wide)
    return wide[0].shape, (N, D, S)


def _component(record: Mapping[str, Any], domains: int) -> Component:
    form = forms.find(record["form"])
    vectors, draws = _numbers(record["vectors"]), _numbers(record["draws"])
    width = vectors.shape[-1] if len(form.names) - len(form.added) <= vectors.shape[-1] else len(form.names)
    vectors, draws = (_with_added(v.reshape(-1, domains, width), len(form.names)) for v in (vectors, draws))
    vectors = vectors.reshape(domains, len(form.names))
    return Component(record["form"], float(record["share"]), vectors, draws)


def _with_added(vectors: Array, width: int) -> Array:
    """Vectors [..., constants] of an earlier release with the constants that its form has got since, at 0."""
    return np.concatenate([vectors, np.zeros((*vectors.shape[:-1], width - vectors.shape[-1]))], axis=-1)


# JSON has no infinity; the logarithm of a coefficient that is exactly zero is one.
def _numbers(nested: Sequence[Any]) -> Array:
    return np.array(nested, dtype=np.float64)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else repr(float(value))
    return int(value) if isinstance(value, np.integer) else value
