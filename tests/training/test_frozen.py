"""Recipes that train some of the weights: the others are frozen, have no moments, and are not in the state."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from splitray.errors import UserError
from splitray.storage.store import Store
from splitray.training.folder import folder_hash
from splitray.training.loop import Interrupted, train
from splitray.training.model import build
from splitray.training.places import named_by_content
from splitray.training.process import join_world
from splitray.training.recipe import Recipe
from splitray.training.state import load, load_weights
from splitray.training.tree import Leaf, Segment, frozen_flops
from tests.support import tiny, worlds

PATTERN, LEARNS = "*.mlp.down_proj.weight", ["model.layers.0.mlp.down_proj.weight"]
PLAIN = tiny.make_recipe()
RECIPE = replace(PLAIN, trainable=PATTERN)
STEPS = 6


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def segment() -> Segment:
    """A stretch of the mixture that keeps its moments."""
    made: Segment = tiny.segments(RECIPE, Leaf(STEPS * RECIPE.batch_tokens, 2 * RECIPE.batch_tokens, "a"))[0]
    return made


def test_keys_name_it_only_where_it_is_set() -> None:
    assert "trainable" not in PLAIN.to_json() and Recipe.from_json(PLAIN.to_json()) == PLAIN
    assert RECIPE.to_json()["trainable"] == PATTERN and RECIPE.hash != PLAIN.hash
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


@pytest.mark.parametrize("stage", [0, 1])
def test_it_learns_as_torch_does_with_the_rest_frozen(tmp_path: Path, stage: int) -> None:
    settings, ours, store = tiny.training(zero_stage=stage), segment(), Store(tmp_path)
    published = train(ours, tiny.order(), store, settings)
    state = load(published)
    assert sorted(state.weights) == LEARNS and state.moments is not None
    assert sorted(state.moments) == [f"{moment}/{LEARNS[0]}" for moment in ("exp_avg", "exp_avg_sq")]

    model, order = build(PLAIN), tiny.order()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    (weight,) = (p.requires_grad_(name in LEARNS) for name, p in model.named_parameters() if name in LEARNS)
    optimizer = torch.optim.AdamW([weight], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for step in range(STEPS):
        batch = torch.from_numpy(order.sequences("mixture", 4 * step, 4))
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        (weight.grad,) = torch.autograd.grad(loss, [weight])
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) * 64 / 128)
        optimizer.step()
    assert (weight - before[LEARNS[0]]).abs().max() > 1e-2
    torch.testing.assert_close(state.weights[LEARNS[0]], weight.detach(), rtol=0, atol=1e-5)

    whole = build(RECIPE)
    load_weights(whole, state)
    for name, param in whole.named_parameters():
        assert param.requires_grad == (name in LEARNS)
        assert torch.equal(param, before[name]) == (name not in LEARNS)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_interrupted_it_ends_in_the_same_bits(tmp_path: Path, stage: int) -> None:
    settings, ours = tiny.training(zero_stage=stage), segment()
    whole, halves = worlds.Recorder(), worlds.Recorder(stop_before=3)
    first = train(ours, whole, Store(tmp_path / "whole"), settings, whole.hooks)
    with pytest.raises(Interrupted):
        train(ours, halves, Store(tmp_path / "halves"), settings, halves.hooks)
    again = train(ours, halves, Store(tmp_path / "halves"), settings, halves.hooks)
    assert first.files == again.files and len(halves.drawn) == STEPS


def test_a_folder_named_by_its_content_has_one_key_wherever_it_lies(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    recipes = []
    for name in ("here", "there"):
        model.save_pretrained(tmp_path / name)
        with named_by_content(tmp_path / name, folder_hash(tmp_path / name)) as shape:
            recipes.append(replace(tiny.make_recipe(), shape=shape, root=folder_hash(tmp_path / name)))
            built = build(recipes[-1])
        assert all(torch.equal(p, q) for p, q in zip(built.parameters(), model.parameters(), strict=True))
    assert recipes[0].hash == recipes[1].hash and str(tmp_path) not in str(recipes[0].to_json())
    with pytest.raises(UserError, match=r"no folder with the weights sha256:.* is at hand"):
        build(recipes[0])


def test_frozen_flops_are_those_that_torch_counts() -> None:
    """torch counts the whole square of attention scores; here half of it counts, as it does in `flops`."""
    from torch.utils.flop_counter import FlopCounterMode

    length, config = (
        32,
        LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4),
    )
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).requires_grad_(False)
    first = model.model.layers[0].input_layernorm.weight.requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(2, length, dtype=torch.long), use_cache=False).logits.sum().backward()
    assert first.grad is not None
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n)
    square = 6.0 * 3 * 64 * length * 2 * length
    ours = frozen_flops(matrices, 2 * length, 3, 64, length) + square
    assert math.isclose(counter.get_total_flops(), ours, rel_tol=0.02)


def test_a_pattern_that_names_nothing_is_our_own_fault() -> None:
    join_world()
    with pytest.raises(AssertionError, match="no weight is called"):
        build(replace(PLAIN, trainable="*.gate.weight"))
