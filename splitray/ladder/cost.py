"""The ladder of a configuration and its cost, as far as they are known before anything ran."""

from collections.abc import Sequence
from typing import Any

from splitray.config import Config
from splitray.errors import UserError
from splitray.ladder.grid import Rung, cost, rungs, spread
from splitray.training.model import size
from splitray.training.recipe import recipe
from splitray.training.tree import Target, flops


def unbuilt(config: Config) -> dict[str, Any]:
    """What stands for a corpus before it is built: what a recipe holds of it, and names for its domains."""
    return {
        "content_hash": "not built yet",
        "vocab": config.corpus.tokenizer.vocabulary,
        "end_token": 0,
        "domains": [f"domain-{k}" for k in range(config.corpus.domains)],
    }


def ladder_steps(config: Config, domains: Sequence[str]) -> list[Rung]:
    """The ladder's leaves, in whole batches, over the domains of the corpus."""
    ladder, batch = config.ladder, config.training.round_tokens
    return rungs(
        ladder.shapes,
        [batch(d) for d in ladder.pretrain_tokens],
        [batch(d) for d in ladder.specialize_tokens],
        spread(domains, ladder.domains),
        range(ladder.seeds),
    )


def check_ladder(config: Config, targets: Sequence[Target], vocab: int) -> None:
    """Refuse a ladder that costs more than the setting allows."""
    ladder_flops = cost(targets, config.training)["flops"]
    counted = size(config.model, vocab, config.training)
    whole = flops(counted.params, config.budget, counted.layers, counted.hidden, config.training.sequence_length)
    if ladder_flops > config.ladder.max_share * whole:
        raise UserError(
            f"the ladder costs {ladder_flops:.3g} FLOPs, {ladder_flops / whole:.2f} times the budget's {whole:.3g} "
            f"({config.budget} tokens at {counted.params} parameters); ladder.max_share = {config.ladder.max_share} "
            "allows less: shrink ladder.shapes or its token counts, raise budget, or raise ladder.max_share"
        )


def check_before_corpus(config: Config) -> None:
    """Refuse such a ladder before hours go into its corpus; a tokenizer that is not trained here is not known yet."""
    if config.corpus.tokenizer.source != "bpe":
        return
    corpus, training = unbuilt(config), config.training.model_copy(update={"precision": "bf16"})  # costs the same
    steps = ladder_steps(config, corpus["domains"])
    recipes = {(s.shape.label, s.seed): recipe(s.shape, training, corpus, {}, s.seed) for s in steps}
    targets = [Target.leaf(recipes[s.shape.label, s.seed], s.leaf, training.schedule) for s in steps]
    check_ladder(config, targets, corpus["vocab"])
