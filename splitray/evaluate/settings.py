"""Settings of the evaluation."""

from pydantic import Field, model_validator

from splitray.settings import Settings


class EvaluateSettings(Settings):
    """What is compared, and on how much text."""

    validation_tokens: int = Field(
        65536, ge=256, description="Tokens of each domain's validation text that losses are measured on, at most."
    )
    baselines: list[float] = Field(
        [1.0, 0.0, 0.5], description="Split fractions trained at the same total tokens for comparison; 1 is unsplit."
    )
    prefix_characters: int = Field(
        200, ge=1, description="Characters of a new document that the router sees when it routes by a first part."
    )

    @model_validator(mode="after")
    def _fractions(self) -> "EvaluateSettings":
        if any(not 0 <= s <= 1 for s in self.baselines):
            raise ValueError(f"baselines are split fractions from 0 to 1, got {self.baselines}")
        return self
