"""Settings of the evaluation."""

from typing import Any

from pydantic import Field, model_validator

from splitray.settings import Settings, operational


class ExamSettings(Settings):
    """One exam."""

    file: str = Field(
        min_length=1, description="JSON Lines or Parquet, with question, choices, and answer (a place from 0)."
    )
    shots: int = Field(0, ge=0, description="Solved questions of the same file before each.")
    questions: int | None = Field(None, ge=1, description="Questions that are asked, from the front; all where empty.")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, values: Any) -> Any:
        """A file alone is an exam without shots."""
        return {"file": values} if isinstance(values, str) else values


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
    exams: list[ExamSettings] = operational(
        [],
        "Choice tasks for all models: `[law.jsonl]` or `[{file: law.jsonl, shots: 2}]`; a finished run takes them too.",
    )

    @model_validator(mode="after")
    def _fractions(self) -> "EvaluateSettings":
        if any(not 0 <= s <= 1 for s in self.baselines):
            raise ValueError(f"baselines are split fractions from 0 to 1, got {self.baselines}")
        return self
