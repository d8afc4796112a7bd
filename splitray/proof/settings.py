"""Settings of the proof."""

from pydantic import field_validator

from splitray.settings import Settings, operational


class ProofSettings(Settings):
    """Which splits `splitray prove` measures. Nothing here changes a key: a proof may be measured more finely later."""

    fractions: list[float] = operational(
        [0.0, 0.25, 0.5, 0.75, 1.0],
        "Split fractions that are measured beside the planned one; 1 is unsplit and always measured.",
    )

    @field_validator("fractions")
    @classmethod
    def _shares(cls, fractions: list[float]) -> list[float]:
        if any(not 0 <= s <= 1 for s in fractions):
            raise ValueError(f"split fractions lie from 0 to 1, got {fractions}")
        return fractions
