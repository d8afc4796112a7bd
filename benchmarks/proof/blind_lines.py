"""The lines of the blind test: budget lines that no fit and no choice of a form has seen."""

from dataclasses import dataclass

from benchmarks.proof.programme import Programme, Variant
from splitray.training.settings import ModelShape

HALF = 0.5  # where a team without a law would split
STAGE_HOURS = 2.0  # of training before the table is to be committed


@dataclass(frozen=True)
class BlindLine:
    """One budget line of one size, and what of it is otherwise than in the ladder.

    seed: added to the proof's. decay_fraction: None for the ladder's. corpus: None for the ladder's.
    """

    name: str
    shape: ModelShape
    budget: int
    seed: int = 0
    decay_fraction: float | None = None
    specialist_lr_multiplier: float = 1.0
    corpus: Variant | None = None


# Sources that neither of the proof's other corpora is made of.
_SIX = ("biomed", "code_c", "dict_computing", "math", "stackexchange", "techdocs")
_H40, _H56 = ModelShape(hidden=40, layers=3), ModelShape(hidden=56, layers=4)
_H80, _H96 = ModelShape(hidden=80, layers=4), ModelShape(hidden=96, layers=6)
# 3.4M parameters at the ladder's ratio of width to depth, 13 to 20
_H160 = ModelShape(hidden=160, layers=10)
_FULL = (
    BlindLine("other-corpus", _H40, 2_097_152, corpus=Variant("six", sources=_SIX)),
    BlindLine("seed-h40", _H40, 2_097_152, seed=21),
    BlindLine("size-h56-2m", _H56, 2_097_152),
    BlindLine("decay-h56", _H56, 2_097_152, decay_fraction=0.30),
    BlindLine("multiplier-h56", _H56, 2_097_152, specialist_lr_multiplier=0.5),
    BlindLine("size-h80-2m", _H80, 2_097_152),
    BlindLine("size-h56-4m", _H56, 4_194_304),
    BlindLine("budget-h40", _H40, 8_388_608),
    BlindLine("seed-h96", _H96, 2_097_152, seed=21),
    BlindLine("size-h80-4m", _H80, 4_194_304),
    BlindLine("budget-h96", _H96, 8_388_608),
    BlindLine("size-h160", _H160, 8_388_608),
)


def blind_lines(programme: Programme, quick: bool) -> tuple[BlindLine, ...]:
    """The lines, the cheapest first."""
    if not quick:
        return _FULL
    shape, budget = programme.config.ladder.shapes[-1], programme.budgets[0]
    return (
        BlindLine("seed", shape, budget, seed=21),
        BlindLine("decay", shape, budget, decay_fraction=0.30),
        BlindLine("multiplier", shape, budget, specialist_lr_multiplier=0.5),
    )
