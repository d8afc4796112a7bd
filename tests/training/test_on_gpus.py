"""What only GPUs run, on a CPU as far as it goes: its arithmetic against plain ways to the same numbers.

On one H100 it ran too, see benchmarks/gpu.py and its results.
"""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import CheckpointPolicy

from splitray.training import blocks, prepare, varlen
from splitray.training.copies import Reading
from splitray.training.engine import Engine, Step
from splitray.training.fused import Grade
from splitray.training.head import NextToken
from splitray.training.model import build
from splitray.training.process import join_world
from splitray.training.settings import ModelShape
from tests.support import tiny

RECIPE = tiny.make_recipe()
APART = replace(RECIPE, attention_across_documents=False)


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, *_: Any, **options: Any
) -> torch.Tensor:
    """What torch's kernel computes, a document at a time: [tokens, heads, width] each."""
    assert options["window_size"] == (-1, 0), "causal"
    places, parts = starts.tolist(), []
    assert places[-1] == len(query)
    for begin, end in itertools.pairwise(places):
        if end > begin:
            some = (each[begin:end].transpose(0, 1) for each in (query, key, value))
            mixed = torch.nn.functional.scaled_dot_product_attention(*some, is_causal=True, scale=options["scale"])
            parts.append(mixed.transpose(0, 1))
    return torch.cat(parts)


def test_boundaries_are_where_documents_begin() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows = generator.integers(0, 4, (6, 13))
        room = varlen.room(rows, 3, end_token=0)
        for part in np.split(rows, 2):
            inputs = part[:, :-1]
            starts = [
                12 * row + place for row in range(3) for place in range(12) if place == 0 or inputs[row, place - 1] == 0
            ]
            found = varlen.boundaries(torch.from_numpy(inputs), 0, room)
            assert found.dtype == torch.int32 and len(found) == room + 1 > len(starts)
            assert found.tolist() == starts + [36] * (room + 1 - len(starts))


def test_there_is_room_for_every_token_to_be_a_document() -> None:
    rows = np.zeros((4, 101), dtype=np.int64)
    assert varlen.room(rows, 2, end_token=0) == 256 and varlen.room(rows + 1, 2, end_token=0) == 64


@pytest.mark.parametrize("kv_heads", [None, 1])
def test_boundaries_give_what_the_mask_gives(kv_heads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(APART, shape=APART.shape.model_copy(update={"kv_heads": kv_heads}))
    rows = torch.from_numpy(tiny.order().sequences("a", 0, 4))
    assert (rows[:, 1:-1] == 0).any(), "no document ends inside a row, so nothing is kept apart"
    found = []
    for bounded in (False, True):
        model = NextToken(build(recipe), recipe, whole=False)
        with monkeypatch.context() as patch:
            if bounded:
                patch.setattr(varlen, "usable", lambda device: True)
                patch.setattr(varlen, "varlen_kernel", lambda: kernel)
                patch.setattr(torch, "get_autocast_dtype", lambda kind: torch.float32)
            loss = model(rows[:, :-1], rows[:, 1:], model.room(rows.numpy(), 4))
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for mask, bounds in zip(*found, strict=True):
        torch.testing.assert_close(bounds, mask, rtol=1e-5, atol=1e-7)


def test_only_models_that_take_boundaries_are_told_of_them() -> None:
    rows = np.ones((4, 17), dtype=np.int64)
    assert NextToken(build(APART), APART, whole=False).room(rows, 2) == 64
    assert NextToken(build(RECIPE), RECIPE, whole=False).room(rows, 2) is None, "documents see each other"
    narrow = replace(APART, shape=ModelShape(hidden=24, layers=1, heads=2))
    assert NextToken(build(narrow), narrow, whole=False).room(rows, 2) is None, "the kernel takes no heads of 12"
    assert not varlen.usable(torch.device("cpu"))


@pytest.mark.parametrize("changes", [{"heads": 4, "hidden": 24}, {"heads": 1, "hidden": 264}])
def test_heads_that_the_kernel_does_not_take_keep_the_mask(changes: dict[str, int]) -> None:
    recipe = replace(APART, shape=APART.shape.model_copy(update=changes))
    rows = np.ones((4, 17), dtype=np.int64)
    assert NextToken(build(recipe), recipe, whole=False).room(rows, 2) is None
    model = build(APART)
    model.config.attention_dropout = 0.1
    assert NextToken(model, APART, whole=False).room(rows, 2) is None, "the kernel drops nothing"


def test_what_is_tried_before_training_takes_boundaries_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a GPU would compile twice, and what cannot be compiled would end training."""
    calls = []

    def counted(*inputs: Any, **options: Any) -> torch.Tensor:
        calls.append(inputs[3].tolist())
        return kernel(*inputs, **options)

    monkeypatch.setattr(varlen, "usable", lambda device: True)
    monkeypatch.setattr(varlen, "varlen_kernel", lambda: counted)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.float32)
    prepare._try(NextToken(build(APART), APART, whole=False), APART, 2)
    assert calls == [[0, 16] + [32] * 63], "two sequences of one document each"


def test_selective_checkpointing_keeps_the_kernel_s_output() -> None:
    pytest.importorskip("torch.nn.attention.varlen")
    assert blocks._policy(None, torch.ops.torch_attn._varlen_attn.default) is CheckpointPolicy.MUST_SAVE
    assert blocks._policy(None, torch.ops.aten.silu.default) is CheckpointPolicy.PREFER_RECOMPUTE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_graded_chunk_is_cross_entropy_and_its_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    raw, targets = (5 * torch.randn(40, 97)).to(dtype), torch.randint(0, 97, (40,))
    raw[0] *= 40  # logits beyond what exp takes in fp32
    logits = raw.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    loss.backward()
    assert logits.grad is not None
    nats, error = Grade()(raw, targets)
    assert error.dtype == dtype
    torch.testing.assert_close(nats.double(), loss.detach(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(error.double(), logits.grad, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-6)


def steps(on_device: bool, poison: bool = False) -> tuple[list[Step], list[float], Engine]:
    join_world()
    engine = Engine(build(RECIPE), RECIPE, tiny.training())
    if on_device:
        engine._update = engine._update_on_device  # type: ignore[method-assign]
    taken, norms = [], []
    for number in range(4):
        if poison and number == 3:
            next(iter(engine.lm.parameters())).register_hook(lambda gradient: gradient * float("inf"))
        taken.append(engine.step(tiny.order().sequences("a", 4 * number, 4), 1e-2))
        norms.append(engine.gradient_norm)
    return taken, norms, engine


def test_an_update_that_clips_in_the_optimizer_is_the_plain_one() -> None:
    (plain, norms, before), (found, others, after) = steps(False), steps(True)
    assert all(each.taken for each in found) and max(norms) > RECIPE.gradient_clip, "nothing was clipped"
    assert [each.loss for each in found] == pytest.approx([each.loss for each in plain], abs=1e-6)
    assert others == pytest.approx(norms, rel=1e-5)
    for ours, theirs in zip(after.lm.parameters(), before.lm.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_leaves_everything_as_it_is_where_the_gradient_is_not_finite() -> None:
    _, _, three = steps(True)
    held = three.state(moments=True)
    found, norms, engine = steps(True, poison=True)
    assert [each.taken for each in found] == [True, True, True, False] and not np.isfinite(norms[-1])
    state = engine.state(moments=True)
    assert state.step == 3 and held.step == 4
    fresh, _, _ = steps(False)
    again = engine.step(tiny.order().sequences("a", 12, 4), 0.0)
    assert again.loss == pytest.approx(fresh[3].loss, abs=1e-6), "the weights are those before the step"


def test_numbers_are_read_back() -> None:
    values = torch.tensor([1.5, -2.0], dtype=torch.float64)
    reading = Reading(values)
    assert reading.get() == [1.5, -2.0] and Reading(torch.tensor(3.0)).get() == [3.0]
