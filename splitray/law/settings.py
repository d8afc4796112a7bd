"""Settings of the law and of the plan."""

from pydantic import Field, field_validator

from splitray.errors import UserError
from splitray.law import forms
from splitray.settings import Settings


class LawSettings(Settings):
    """How the law is fitted."""

    form: str = Field("auto", description="A registered form, or auto: chosen by held-out extrapolation.")
    objective: str = Field("huber_log", description="One of huber_log, huber_log:THRESHOLD and squared.")
    bootstrap: int = Field(
        200, ge=0, description="Refits behind every interval; 200 hold an 80 % interval to 3 points."
    )

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

    min_pretrain_tokens: int = Field(0, ge=0, description="Tokens of shared pretraining that the base must have.")
    epochs: float = Field(
        4.0,
        gt=0,
        description="Passes over its domain's training text that a specialist may make after the split; up to 4 are "
        "nearly as good as new text (Muennighoff et al. 2023).",
    )
