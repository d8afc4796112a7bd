"""Settings of the ladder."""

import math

from pydantic import Field, model_validator

from splitray.settings import Settings, later
from splitray.training.settings import ModelShape


class LadderSettings(Settings):
    """The small runs that the law is fitted on: every shape x D x D' x domain, from one tree for each shape."""

    shapes: list[ModelShape] = Field(
        min_length=1, description="Sizes to train, smallest first; five identify N's part."
    )
    pretrain_tokens: list[int] = Field(
        min_length=1, description="D values in tokens; 4 or more, 0 for from scratch on the domain."
    )
    specialize_tokens: list[int] = Field(
        min_length=1, description="D' values in tokens beside D' = 0; 4 spanning 30x, the least at most 0.05 D."
    )
    domains: int = Field(2, ge=1, description="How many of the K domains have D' leaves; evenly spread over them.")
    seeds: int = Field(1, ge=1, description="Trunk seeds at the smallest shape; 2 or more let noise be measured.")
    max_share: float = Field(
        1.0, gt=0, description="The ladder's FLOPs as a share of the budget's above which the run is refused."
    )

    rates: list[float] = later(
        [],
        "Multiples of training.learning_rate to sweep at the two smallest shapes, unsplit and split alike, such as "
        "[0.5, 1, 2]. Each strategy of the target then gets its own best rate. Empty: no sweep, one rate.",
    )

    @model_validator(mode="after")
    def _rates(self) -> "LadderSettings":
        if any(not 0 < rate < math.inf for rate in self.rates):
            raise ValueError(f"rates = {self.rates}: multiples of the learning rate must be above 0")
        if self.rates and len({*self.rates, 1.0}) < 3:
            raise ValueError(f"rates = {self.rates}: give two multiples or more beside 1, such as 0.5, 1, 2")
        return self

    @model_validator(mode="after")
    def _values(self) -> "LadderSettings":
        if any(d < 0 for d in self.pretrain_tokens) or any(d <= 0 for d in self.specialize_tokens):
            raise ValueError("pretrain_tokens must not be negative and specialize_tokens must be positive")
        if not any(self.pretrain_tokens):
            raise ValueError("pretrain_tokens needs a value above 0")
        return self
