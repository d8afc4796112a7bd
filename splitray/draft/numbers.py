"""The numbers of a configuration that fit a budget: batch, models, ladder, warm-up."""

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from splitray.config import Config
from splitray.ladder.grid import cost
from splitray.pipeline.programme import Programme
from splitray.training.model import size
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import flops

TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022: with more parameters, a token teaches them less than it could
STEPS = 1024  # that a budget is worth: few teach a small model little, many cost time
_BATCHES = (512, 2**19)  # tokens a batch
_SEQUENCES = ((300_000, 64), (10_000_000, 128), (500_000_000, 256), (10_000_000_000, 512))  # budgets below, tokens
_LONGEST = 1024
_WARM_UP, _LEAST = 0.02, 16  # of the smallest D, and the batches that it has at least
# Of the budget, and of a domain's equal part of it. With three of each a law of 275,000 tokens had 15 % of beta and 4 %
# of gamma from its data; gamma wants a span of 30.
_PRETRAIN, _SPECIALIZE = (1 / 16, 1 / 7, 1 / 3, 0.6), (0.02, 0.07, 0.2, 0.7)
# Width over depth, layers of the ladder, layers of the target: of one family all have one ratio.
_FAMILIES = (
    (8, (1, 2, 3, 4, 5), 6),
    (12, (1, 2, 3, 4, 5), 6),
    (16, (1, 2, 3, 4, 5), 6),
    (16, (2, 3, 4, 5, 6), 8),
    (24, (2, 3, 4, 5, 6), 8),
    (32, (2, 3, 4, 5, 6), 8),
    (48, (2, 3, 4, 5, 6), 10),
    (64, (2, 3, 4, 5, 6), 10),
    (64, (3, 4, 5, 6, 8), 12),
    (64, (4, 5, 6, 8, 10), 16),
    (64, (4, 6, 8, 10, 12), 24),
    (96, (4, 6, 8, 10, 12), 24),
)


@dataclass(frozen=True)
class Place:
    """What does not depend on the budget.

    Args:
        corpus: the section of the configuration, as plain values.
        validation_tokens: of a domain that losses are measured on.
    """

    name: str
    corpus: dict[str, Any]
    domains: int
    vocabulary: int
    validation_tokens: int


def least_budget(domains: int) -> int:
    """Tokens below which nothing can be planned: every domain would get few batches, and the ladder fewer."""
    return max(128, 32 * domains) * _BATCHES[0]


def vocabulary(tokens: float) -> int:
    """Of the tokenizer, by the tokens that are trained on: each entry must be seen often, and costs a row of N."""
    steps = ((300_000, 512), (5_000_000, 1024), (50_000_000, 2048), (500_000_000, 4096), (5_000_000_000, 8192))
    return next((entries for most, entries in steps if tokens < most), 32768)


def config_of(place: Place, budget: float, tokens_per_second: int | None = None) -> Config:
    """A configuration whose budget is at most `budget`, in whole batches of every domain."""
    sequence = next((length for most, length in _SEQUENCES if budget < most), _LONGEST)
    batch = min(max(_power_of_two(budget / STEPS), _BATCHES[0]), _BATCHES[1])
    training = TrainingSettings(
        sequence_length=sequence,
        global_batch_size=batch // sequence,
        micro_batch_size=min(batch // sequence, max(1, 8192 // sequence)),
    )
    whole = int(budget // (place.domains * batch)) * place.domains * batch
    shapes, target = _family(budget, place.vocabulary, training)
    counts = [max(_LEAST, round(part * whole / batch)) * batch for part in _PRETRAIN]
    a_domain = whole / place.domains
    after = sorted({max(1, round(part * a_domain / batch)) * batch for part in _SPECIALIZE})
    warm_up = max(1, round(_WARM_UP * counts[0] / batch)) * batch
    values: dict[str, Any] = {
        "name": place.name,
        "budget": whole,
        "corpus": place.corpus,
        "model": target,
        "training": {
            **training.model_dump(include={"sequence_length", "global_batch_size", "micro_batch_size"}),
            "warmup_tokens": warm_up,
        },
        "ladder": {
            "shapes": shapes,
            "pretrain_tokens": counts,
            "specialize_tokens": after,
            "domains": min(2, place.domains),
            "seeds": 2,
        },
        "search": {"at": "target", "trials_per_round": 2, "max_rounds": 2, "tolerance": 0.004},
        "evaluate": {"validation_tokens": place.validation_tokens},
        "resources": {"tokens_per_second": tokens_per_second},
    }
    values["ladder"]["max_share"] = _share(Config(**values))
    return Config(**values)


def _share(config: Config) -> float:
    """What the ladder costs in budgets, with a tenth to spare."""
    programme = Programme.unbuilt(config)
    target = programme.size(config.model)
    ladder = cost([request.target for _, request in programme.ladder()], programme.training)["flops"]
    whole = flops(target.params, config.budget, target.layers, target.hidden, programme.training.sequence_length)
    return math.ceil(11 * ladder / whole) / 10


def _power_of_two(number: float) -> int:
    return int(2.0 ** round(math.log2(max(number, 1.0))))


def _family(budget: float, entries: int, training: TrainingSettings) -> tuple[list[ModelShape], ModelShape]:
    """The largest family whose target has enough tokens for its parameters; the smallest where none has."""

    def shape(ratio: int, layers: int) -> ModelShape:
        return ModelShape(hidden=ratio * layers, layers=layers)

    def fits(family: tuple[int, tuple[int, ...], int]) -> bool:
        params = size(shape(family[0], family[2]), entries, training).params
        return params * TOKENS_PER_PARAMETER <= budget

    ratio, ladder, target = ([*takewhile(fits, _FAMILIES)] or [_FAMILIES[0]])[-1]
    return [shape(ratio, layers) for layers in ladder], shape(ratio, target)
