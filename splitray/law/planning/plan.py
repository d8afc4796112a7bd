"""A plan as it is kept: its parts, each number with its interval, and its file."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from splitray.errors import SplitrayError
from splitray.law import saved
from splitray.law.forms.schedule import CONSTANT_RATE, RateSchedule
from splitray.law.law import LawWarning
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.question import Limits, Question, positive
from splitray.law.repetition import Text
from splitray.storage.checksum import Schema

SCHEMA = Schema("plan", 3, unnamed=None)
SMALL_LOSS = 0.003  # nats per token: what a good plan may lose, and less than this is no gain to speak of


@dataclass(frozen=True)
class DomainPlan:
    """One domain's part: D'_k, its losses, and the passes over its own tokens (None where these are not known)."""

    domain: str
    weight: float
    specialize_tokens: Estimate
    predicted_loss: Estimate
    unsplit_loss: Estimate
    epochs: float | None = None


@dataclass(frozen=True)
class FormPlan:
    """What one of the forms that share in a law says alone.

    regret: what the law's plan would lose (nats per token) if this form were the truth.
    """

    form: str
    share: float
    split_fraction: float
    predicted_loss: float
    regret: float


@dataclass(frozen=True)
class Plan:
    """The optimal division of `budget` tokens for K models of `params` parameters; made by `plan`.

    Losses are in nats per token, weighted means over the domains; `gain` is what the split saves. specialize_tokens
    is the mean D'_k (`per_domain` has each where domains are named). split_threshold is D_split(params) in tokens,
    compute_multiplier m(budget). heldout_error is the form's relative error on rows hidden from its fit, low and
    high its range over what was hidden. flops is 6 N D_T, without attention. epochs is the largest number of passes
    over a domain's own tokens after the split. repetition_cost is what reading text again costs the split models: their
    loss over that on as many new tokens. text is how far text goes until it is read again. level is the mass of the
    intervals, draws what they rest on. schedule is
    the learning-rate schedule that the models are to have.
    """

    form: str
    constants: dict[str, Any]
    heldout_error: Estimate | None
    params: float
    budget: float
    domains: int
    allocation: Literal["uniform", "per_domain"]
    split_fraction: Estimate
    pretrain_tokens: Estimate
    specialize_tokens: Estimate
    predicted_loss: Estimate
    unsplit_loss: Estimate
    gain: Estimate
    split_threshold: Estimate
    compute_multiplier: Estimate
    level: float
    draws: int
    flops: float
    epochs: float | None = None
    per_domain: tuple[DomainPlan, ...] = ()
    by_form: tuple[FormPlan, ...] = ()
    warnings: tuple[LawWarning, ...] = ()
    best_params: Estimate | None = None
    hours: float | None = None
    cost: float | None = None
    schedule: RateSchedule = CONSTANT_RATE
    repetition_cost: Estimate | None = None
    text: Text | None = None

    @property
    def splits(self) -> bool:
        """Whether the plan is to split at all."""
        return self.split_fraction.value < 1

    @property
    def worthwhile(self) -> bool:
        """Whether the gain is one to speak of. Else `compute_multiplier` means nothing, infinite as it may be: a floor
        that lies a hair above the split's loss is never reached."""
        return self.gain.value >= SMALL_LOSS

    @property
    def question(self) -> Question:
        """What the plan answers, without its limits; repeated text counts as it does in the plan."""
        limits = Limits(text=self.text)
        if not self.per_domain:
            return Question(self.params, self.budget, self.domains, limits=limits, schedule=self.schedule)
        names, weights = [part.domain for part in self.per_domain], [part.weight for part in self.per_domain]
        return Question(self.params, self.budget, names, weights, self.allocation, limits, self.schedule)

    def priced(self, tokens_per_second: float, price_per_hour: float | None = None) -> "Plan":
        """With the hours that the budget takes at a measured rate of the whole cluster, and what they cost."""
        hours = self.budget / positive("tokens_per_second", tokens_per_second) / 3600
        cost = None if price_per_hour is None else hours * positive("price_per_hour", price_per_hour)
        return replace(self, hours=hours, cost=cost)

    def plain(self) -> dict[str, Any]:
        """As JSON types: numbers with intervals as value, low and high, infinite ones as null."""
        return {"schema": str(SCHEMA)} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, whole or not at all, with its checksum."""
        saved.write(path, SCHEMA, self.plain())

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan that `save` wrote. Raises UserError naming a file that is missing, damaged or not a plan."""
        return saved.read(path, SCHEMA, cls._of)

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> "Plan":
        """The inverse of `plain`, of this schema or an earlier one.

        Raises:
            ValueError: for a record of another kind or of a newer splitray.
            KeyError, TypeError: for none at all.
        """
        try:
            SCHEMA.check(record, "the plan")
        except SplitrayError as error:
            raise ValueError(str(error)) from error
        return cls._of({name: value for name, value in record.items() if name != "schema"})

    @classmethod
    def _of(cls, record: Mapping[str, Any]) -> "Plan":
        known = _parse(dict(record), record["draws"] > 0)
        known["per_domain"] = tuple(DomainPlan(**part) for part in known["per_domain"])
        known["by_form"] = tuple(FormPlan(**part) for part in known["by_form"])
        known["schedule"] = RateSchedule.parse(record.get("schedule", CONSTANT_RATE.plain()))
        known["text"] = Text.parse(record.get("text"))
        known["warnings"] = tuple(LawWarning(**part) for part in known["warnings"])
        plan = cls(**known)
        if not (0 <= plan.split_fraction.value <= 1 and 0 < plan.budget < math.inf and 0 < plan.params < math.inf):
            raise ValueError(
                f"split_fraction = {plan.split_fraction.value!r}, budget = {plan.budget!r}, params = {plan.params!r}"
            )
        return plan


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate | RateSchedule | Text):
        return value.plain()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, DomainPlan | FormPlan):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return asdict(value) if isinstance(value, LawWarning) else value


def _parse(value: Any, drawn: bool) -> Any:
    if isinstance(value, dict):
        if {"value", "low", "high"} <= value.keys():
            return Estimate.parse(value, drawn)
        return {key: _parse(v, drawn) for key, v in value.items()}
    return [_parse(v, drawn) for v in value] if isinstance(value, list) else value
