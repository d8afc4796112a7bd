"""Settings of the law and of the plan."""

from typing import Literal

from pydantic import field_validator

from splitray.errors import UserError
from splitray.law import forms
from splitray.settings import Settings, operational, refit


class LawSettings(Settings):
    """How the law is fitted."""

    form: str = refit("auto", "A registered form, or auto: chosen by held-out extrapolation.")
    objective: str = refit("huber_log", "One of huber_log, huber_log:THRESHOLD and squared.")
    bootstrap: int = refit(200, "Refits behind every interval; 200 hold an 80 % interval to 3 points.", ge=0)

    @field_validator("form")
    @classmethod
    def _is_registered(cls, form: str) -> str:
        try:
            return form if form == "auto" else forms.find(form).name
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("objective")
    @classmethod
    def _is_an_objective(cls, objective: str) -> str:
        from splitray.law.fitting.objective import Objective

        try:
            Objective.parse(objective)
        except UserError as error:
            raise ValueError(str(error)) from None
        return objective


class PlanSettings(Settings):
    """Limits on the plan."""

    min_pretrain_tokens: int = refit(0, "Tokens of shared pretraining that the base must have.", ge=0)
    epochs: float = refit(
        4.0,
        "Passes over its domain's training text that a specialist may make after the split; up to 4 are nearly as good "
        "as new text (Muennighoff et al. 2023).",
        gt=0,
    )
    hours: float | None = operational(
        None,
        "Device-hours (of GPUs; of CPUs where the run trains on CPUs) that the plan at equal hours is for, beside the "
        "budget in tokens; default: what the unsplit model of the budget takes at the measured speed.",
        gt=0,
    )
    ladder_hours: Literal["outside", "inside"] = operational(
        "outside",
        "Whether ladder and search come out of these hours. The unsplit model needs neither, and keeps all of them.",
    )
