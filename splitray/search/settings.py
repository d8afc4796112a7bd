"""Settings of the search."""

from typing import Literal

from pydantic import Field

from splitray.settings import Settings, operational


class SearchSettings(Settings):
    """Real trials around the planned split, proposed by the law."""

    at: Literal["off", "ladder", "target"] = Field(
        "ladder",
        description="With ladder: at the largest ladder shape, with its own budget. With target: the planned model.",
    )
    budget: int | None = Field(None, gt=0, description="D_T of a trial in tokens; default: the run's budget.")
    trials_per_round: int = Field(3, ge=1, description="Split fractions tried before the law is fitted again.")
    max_rounds: int = Field(3, ge=1, description="Rounds at most.")
    tolerance: float = Field(0.002, ge=0, description="Stop when the expected gain of a round is below this, in nats.")
    concurrent: int = operational(4, "Trials that wait for their leaves at once.", ge=1)
