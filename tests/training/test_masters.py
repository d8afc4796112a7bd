"""bf16 weights with an fp32 master: what it learns, what is kept of it, and that an interruption changes nothing."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from splitray.storage.store import Store
from splitray.training.engine import Engine, join_world
from splitray.training.loop import load_weights
from splitray.training.model import build
from splitray.training.recipe import Recipe
from splitray.training.state import load
from tests.support import tiny, worlds

SETTINGS = tiny.training(precision="bf16_master")
RECIPE = tiny.make_recipe(SETTINGS)


def test_it_is_a_recipe_of_its_own_and_needs_shards() -> None:
    assert (RECIPE.precision, RECIPE.version) == ("bf16_master", 3) and Recipe.from_json(RECIPE.to_json()) == RECIPE
    with pytest.raises(ValidationError, match="needs zero_stage 2 or 3, not 1"):
        tiny.training(precision="bf16_master", zero_stage=1)


@pytest.mark.parametrize("stage", [2, 3])
def test_it_learns_what_fp32_learns_and_masters_keep_what_bf16_cannot(stage: int) -> None:
    join_world()
    losses, states = [], []
    for precision in ("fp32", "bf16_master"):
        settings = tiny.training(precision=precision, zero_stage=stage, micro_batch_size=1)
        made = tiny.make_recipe(settings)
        model = build(made)
        first = {name: p.detach().clone() for name, p in model.named_parameters()}
        engine = Engine(model, made, settings)
        if precision == "bf16_master":
            begun = engine.state(moments=False)
            assert begun is not None and all(torch.equal(begun.weights[n], w) for n, w in first.items())
            assert engine.engine.communication_data_type == torch.float32
        losses.append([engine.step(tiny.order().sequences("a", 4 * i, 4), 1e-2).loss for i in range(6)])
        states.append(engine.state(moments=True))
        engine.close()
    assert losses[0][-1] < losses[0][0] - 0.1
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 0.02
    assert states[1] is not None
    weights = states[1].weights["model.embed_tokens.weight"]
    assert weights.dtype == torch.float32 and not torch.equal(weights, weights.bfloat16().float())


@pytest.mark.parametrize("stage", [2, 3])
def test_an_interruption_changes_no_bit(stage: int, tmp_path: Path) -> None:
    said = worlds.interrupted_and_not(tmp_path, stage, "bf16_master")
    ends = [Store(tmp_path / name).find(said["key"]) for name in ("whole", "halves")]
    assert ends[0] is not None and ends[1] is not None
    assert ends[0].files == ends[1].files and said["stopped"]
    assert said["halves"]["steps"] == said["whole"]["steps"]
    model = build(tiny.make_recipe(worlds.segment_of(stage, "bf16_master")[0]))
    load_weights(model, load(ends[0]))
