"""The routers of a merged model, trained as one more segment of the tree. No Ray.

Its root is the merged checkpoint by its content. Whoever merges the same specialists again has the same root, so what
stands in the store is not trained again.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitray.corpus import Corpus
from splitray.errors import UserError
from splitray.export.huggingface import lineage_of
from splitray.export.moe import idle
from splitray.pipeline.programme import Programme
from splitray.results.exported import Lineage
from splitray.results.merged import Tuning
from splitray.runtime.quiet import no_bars
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.data import Order
from splitray.training.feed import reach
from splitray.training.folder import folder_hash
from splitray.training.loop import Hooks, threads, train
from splitray.training.places import named_by_content
from splitray.training.recipe import Recipe
from splitray.training.state import load
from splitray.training.tree import MIXTURE, Target, frozen_flops, grow


@dataclass(frozen=True)
class Tuned:
    """What tuning leaves beside the model: its record, and the lineage of its segment."""

    record: Tuning
    lineage: Lineage


def check_tuning(programme: Programme, active: int, tokens: int) -> None:
    """Refuse what would train nothing, before anything is merged.

    Args:
        active: experts that a token passes.
        tokens: to tune for.

    Raises:
        UserError: it names the option.
    """
    batch = programme.training.batch_tokens
    if programme.training.round_tokens(tokens) < 1:
        raise UserError(f"--tune-tokens {tokens}: a batch of this run has {batch:,} tokens; give that many or more")
    if active == 1:
        raise UserError(
            "--tune-tokens with --active 1: a token's only expert has the weight 1 whatever its router says, so "
            "nothing can be learned; let a token pass 2 experts or more"
        )


def tune_routers(
    merged: Any, programme: Programme, corpus: Corpus, store: Store, tokens: int, hooks: Hooks | None = None
) -> Tuned:
    """Train the routers of a merged model on the mixture, and set them in it. Nothing else of it changes.

    The loss is the next token's alone. Stock architectures also have one that balances the experts' loads; it is off by
    default there, and is not used.

    Args:
        merged: as `splitray.export.moe.merge` gives it, fp32 on the CPU.
        tokens: of the mixture; the nearest number of whole batches is taken.
        hooks: of the loop. One that stops it leaves a checkpoint, from which the same call continues.

    Raises:
        Interrupted: `hooks.stop` said so.
    """
    from splitray.training.process import deepspeed_environment

    with tempfile.TemporaryDirectory(prefix="splitray-merged-") as name, no_bars():
        folder = Path(name)
        with deepspeed_environment():
            merged.save_pretrained(folder)
        with named_by_content(folder, folder_hash(folder)) as shape:
            target = programme.routers(shape, tokens)
            _train(target, programme, corpus, store, hooks or Hooks())
    published = store.find(target.key)
    assert published is not None, "it was just trained"
    with store.invalidating(published):
        state = load(published, moments=False)
    named = dict(merged.named_parameters())
    for router, weight in state.weights.items():
        named[router].data.copy_(weight)
    lineage, recipe = lineage_of(published), target.recipe
    assert lineage is not None and recipe.root is not None
    learned = sum(weight.numel() for weight in state.weights.values())
    cost = _flops(merged, recipe, target.tokens)
    return Tuned(Tuning(target.key, recipe.root, target.tokens, cost, learned, recipe.learning_rate), lineage)


def _train(target: Target, programme: Programme, corpus: Corpus, store: Store, hooks: Hooks) -> None:
    recipe = target.recipe
    shards = {domain: corpus.mapped(domain, "train") for domain in corpus.domains}
    order = Order(shards, recipe.weights, recipe.sequence_length, recipe.seed, recipe.shuffle_tokens)
    corpus.check_room(order.at_once([MIXTURE], **reach(recipe.global_batch_size)), "train")
    with threads(programme.training.threads):
        for segment in grow([target], lambda line: SegmentKey.ends(line, store.keys())):
            train(segment, order, store, programme.training, hooks)


def _flops(merged: Any, recipe: Recipe, tokens: int) -> float:
    """With the weights that a token meets, and not those of experts that it passes by."""
    config = merged.config
    active = recipe.params - idle(merged)
    return frozen_flops(active, tokens, config.num_hidden_layers, config.hidden_size, recipe.sequence_length)
