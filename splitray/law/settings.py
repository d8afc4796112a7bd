"""Settings of the law and of the plan."""

from splitray.settings import Settings, refit


class LawSettings(Settings):
    """How the law is fitted."""

    form: str = refit("auto", "A registered form, or auto: chosen by held-out extrapolation.")
    objective: str = refit("huber_log", "huber_log or squared.")
    bootstrap: int = refit(200, "Refits behind every interval; 200 hold an 80 % interval to 3 points.", ge=0)


class PlanSettings(Settings):
    """Limits on the plan."""

    min_pretrain_tokens: int = refit(0, "Tokens of shared pretraining that the base must have.", ge=0)
    epochs: float = refit(
        4.0,
        "Passes over its domain's training text that a specialist may make after the split; up to 4 are nearly as good "
        "as new text (Muennighoff et al. 2023).",
        gt=0,
        allow_inf_nan=False,
    )
