"""Whether a ladder costs more than it may."""

from collections.abc import Sequence

from splitray.errors import UserError
from splitray.ladder.grid import cost
from splitray.ladder.settings import LadderSettings
from splitray.training.family import Size
from splitray.training.settings import TrainingSettings
from splitray.training.tree import Target, flops


def check_ladder(
    targets: Sequence[Target], training: TrainingSettings, model: Size, budget: int, ladder: LadderSettings
) -> None:
    """Refuse a ladder that costs more than its setting allows.

    Args:
        targets: the ladder's leaves.
        model: counts of the target model.
        budget: D_T in tokens.

    Raises:
        UserError: with both costs, and what to change.
    """
    ladder_flops = cost(targets, training)["flops"]
    whole = flops(model.params, budget, model.layers, model.hidden, training.sequence_length)
    if ladder_flops > ladder.max_share * whole:
        raise UserError(
            f"the ladder costs {ladder_flops:.3g} FLOPs, {ladder_flops / whole:.2f} times the budget's {whole:.3g} "
            f"({budget} tokens at {model.params} parameters); ladder.max_share = {ladder.max_share} "
            "allows less: shrink ladder.shapes or its token counts, raise budget, or raise ladder.max_share"
        )
