"""Blocks that run again in the backward pass, and blocks that compile as one: same bits, less memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from splitray.training.blocks import blocks_of, checkpoint_blocks
from splitray.training.engine import Engine
from splitray.training.head import NextToken
from splitray.training.memory import choose_checkpointing
from splitray.training.model import build, size
from splitray.training.process import join_world
from splitray.training.recipe import Recipe
from splitray.training.settings import ModelShape
from tests.support import causal, tiny

SHAPE = ModelShape(hidden=32, layers=4, heads=4)


def recipe(**changes: Any) -> Recipe:
    return replace(tiny.make_recipe(tiny.training(**changes)), shape=SHAPE)


def batch() -> Any:
    return tiny.order().sequences("a", 0, 4)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("how", ["selective", "full"])
@pytest.mark.parametrize("apart", [False, True])
def test_recomputed_steps_are_the_same_bits(how: str, apart: bool) -> None:
    join_world()
    found = []
    for each in ("none", how):
        settings = tiny.training(activation_checkpointing=each, attention_across_documents=not apart)
        made = recipe(attention_across_documents=not apart)
        engine = Engine(build(made), made, settings)
        assert engine.checkpointing == each
        losses = [engine.step(batch(), 1e-2).loss for _ in range(3)]
        found.append((losses, [p.detach().clone() for p in engine.lm.parameters()]))
        engine.close()
    (losses, weights), (again, other) = found
    assert losses == again and losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(weights, other, strict=True))


def kept_bytes(how: Any) -> int:
    """Bytes that autograd keeps of a forward pass, weights apart."""
    made = recipe()
    model = build(made)
    model.set_attn_implementation("sdpa")
    checkpoint_blocks(model, how)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = torch.from_numpy(batch())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=rows, use_cache=False)
    return sum(held.values())


def test_full_keeps_less_than_nothing_recomputed() -> None:
    assert kept_bytes("full") < 0.3 * kept_bytes("none")


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "gemma2", "mamba", "gpt_neox", "phi"])
@pytest.mark.parametrize("how", ["selective", "full"])
def test_other_families_recompute_the_same_gradients(name: str, how: Any) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(causal.config(name)).eval()
    rows = torch.randint(2, 90, (2, 12))
    found = []
    for each in ("none", how):
        assert checkpoint_blocks(model, each) == (0 if each == "none" else len(blocks_of(model)))
        logits = model(input_ids=rows, use_cache=False).logits
        found.append([logits, *torch.autograd.grad(logits.logsumexp(-1).sum(), list(model.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("how", ["none", "full", "selective"])
def test_equal_blocks_compile_once(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: real(call, **options | {"backend": counter}))
    made = recipe()
    model = NextToken(build(made), made, whole=False)
    checkpoint_blocks(model.lm, how)
    assert len(model.mark_compiled("blocks")) == 4
    rows = torch.from_numpy(batch())
    model(rows[:, :-1], rows[:, 1:]).backward()
    assert counter.frame_count == 1
    plain = NextToken(build(made), made, whole=False)
    loss = plain(rows[:, :-1], rows[:, 1:])
    torch.testing.assert_close(model(rows[:, :-1], rows[:, 1:]), loss)


def test_memory_decides() -> None:
    """1.3B at 2,048 tokens, 8 sequences at once: 65 GiB were measured uncompiled on 80 GB, too much for 40 GB."""
    counted = size(ModelShape(hidden=2048, layers=24, heads=16), 50_304, tiny.training())
    asked = [choose_checkpointing(counted, 8 * 2048, 0, 1, False, gigabytes << 30) for gigabytes in (80, 56, 40, 24)]
    assert asked == ["none", "selective", "full", "full"]
