"""Settings of the law and of the plan."""

from pydantic import Field

from splitray.settings import Settings


class LawSettings(Settings):
    """How the law is fitted."""

    form: str = Field("auto", description="A registered form, or auto: chosen by held-out extrapolation.")
    objective: str = Field("huber_log", description="huber_log or squared.")
    bootstrap: int = Field(
        200, ge=0, description="Refits behind every interval; 200 hold an 80 % interval to 3 points."
    )


class PlanSettings(Settings):
    """Limits on the plan."""

    min_pretrain_tokens: int = Field(0, ge=0, description="Tokens of shared pretraining that the base must have.")
    epochs: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="Passes over its domain's training text that a specialist may make after the split; up to 4 are "
        "nearly as good as new text (Muennighoff et al. 2023).",
    )
