"""The ladder: its leaves, and the table of runs that the law is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from splitray.law.forms.schedule import SCHEDULE
from splitray.law.repetition import Text
from splitray.law.runs import REPLAY
from splitray.law.tables.repeats import EPOCHS
from splitray.training.model import size
from splitray.training.recipe import Recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import Leaf, Target, by_recipe, flops, grow

TABLE = pa.schema(
    [
        ("params", pa.int64()),
        ("pretrain_tokens", pa.int64()),
        ("specialize_tokens", pa.int64()),
        ("domain", pa.string()),
        ("loss", pa.float64()),
        ("seed", pa.int64()),
        ("run", pa.string()),
        ("trunk", pa.string()),
        ("branch", pa.string()),
        ("flops", pa.float64()),
        *((name, pa.float64()) for name in (*SCHEDULE, REPLAY)),
        ("width", pa.int64()),
        ("layers", pa.int64()),
        *((name, pa.float64()) for name in EPOCHS),
    ]
)


@dataclass(frozen=True)
class Rung:
    """One leaf of the ladder, and the domains it is scored on."""

    shape: ModelShape
    seed: int
    leaf: Leaf
    domains: tuple[str, ...]


def spread(names: Sequence[str], count: int) -> list[str]:
    """`count` of the names, evenly spread."""
    return [names[i * len(names) // count] for i in range(count)]


def rungs(
    shapes: Sequence[ModelShape],
    pretrain: Sequence[int],
    specialize: Sequence[int],
    domains: Sequence[str],
    seeds: Sequence[int],
) -> list[Rung]:
    """Every shape x D x D' x domain; further seeds at the first shape only. Token counts are whole batches."""
    result = []
    for place, shape in enumerate(shapes):
        for seed in seeds if place == 0 else seeds[:1]:
            for tokens in sorted(set(pretrain)):
                if tokens > 0:
                    result.append(Rung(shape, seed, Leaf(tokens), tuple(domains)))
                for after in sorted(set(specialize)):
                    result += [Rung(shape, seed, Leaf(tokens, after, name), (name,)) for name in domains]
    return result


def row(recipe: Recipe, leaf: Leaf, domain: str, loss: float, key: str, training: TrainingSettings) -> dict[str, Any]:
    """One row of the table of runs."""
    counted = size(recipe.shape, recipe.vocab, training)
    branch = f"{recipe.hash[:10]}/{leaf.pretrain_tokens}/{leaf.domain or 'mixture'}"
    return {
        "params": counted.params,
        "pretrain_tokens": leaf.pretrain_tokens,
        "specialize_tokens": leaf.specialize_tokens,
        "domain": domain,
        "loss": loss,
        "seed": recipe.seed,
        "run": key,
        "trunk": recipe.hash[:10],
        "branch": branch,
        "flops": flops(counted.params, leaf.tokens, counted.layers, counted.hidden, training.sequence_length),
        **{name: float(getattr(training, name)) for name in (*SCHEDULE, REPLAY)},
        "width": counted.hidden,
        "layers": counted.layers,
    }


def passes(text: Text | None, leaf: Leaf, domain: str) -> dict[str, float]:
    """The columns of a row that say how often a leaf has read the domain's text; none where that is not known."""
    if text is None:
        return {}
    base, special = text.at(domain)
    before = leaf.pretrain_tokens / base
    return dict(zip(EPOCHS, (before + leaf.specialize_tokens / special, before)))


def cost(targets: Sequence[Target], training: TrainingSettings) -> dict[str, float]:
    """What targets cost from an empty store: segments, tokens, FLOPs, and the tokens of training each from scratch."""
    total = {"segments": 0.0, "tokens": 0.0, "flops": 0.0, "from_scratch": float(sum(t.tokens for t in targets))}
    for group in by_recipe(targets, lambda t: t.recipe):
        counted = size(group[0].recipe.shape, group[0].recipe.vocab, training)
        segments = grow(group, lambda line: [])
        tokens = sum(s.tokens for s in segments)
        total["segments"] += len(segments)
        total["tokens"] += tokens
        total["flops"] += flops(counted.params, tokens, counted.layers, counted.hidden, training.sequence_length)
    return total
