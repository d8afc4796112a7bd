"""The split at equal hours: what the planner says for a budget of accelerator-hours, and what was measured."""

from dataclasses import dataclass
from typing import Literal

from splitray.law.planning.estimate import Estimate
from splitray.law.planning.hours import HoursPlan


@dataclass(frozen=True)
class AtHours:
    """One strategy of the comparison, brought to the hours of the planned split.

    Attributes:
        hours: device-hours of its tokens and starts, at the measured speeds; of the planned split with the ladder's,
            where those are inside.
        tokens: that it could have trained on in the hours of the planned split.
        loss: as measured, at equal tokens, in nats per token.
        loss_at_hours: the same, moved by what the law says of the other tokens.
        difference: the planned split's loss less `loss_at_hours`, with the 95 % interval of the measured difference;
            None for the planned split itself.
    """

    strategy: str
    hours: float
    tokens: float
    loss: float
    loss_at_hours: float
    difference: Estimate | None = None


@dataclass(frozen=True)
class EqualHours:
    """The verdict at equal hours.

    Attributes:
        device: "GPU" or "CPU", whose hours are counted.
        asked: whether `plan.hours` set the hours; else they are those of the unsplit model of the budget.
        ladder: whether ladder and search are paid from the same hours, which the unsplit model keeps.
        finding_hours: device-hours that workers of ladder and search have held.
        plan: by the law that was carried out. Its sizes are those of the ladder and the target.
        comparison: of the strategies that were trained; empty before stage evaluate.
    """

    device: str
    asked: bool
    ladder: Literal["outside", "inside"]
    finding_hours: float
    plan: HoursPlan
    comparison: tuple[AtHours, ...] = ()
