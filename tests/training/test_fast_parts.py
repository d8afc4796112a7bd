"""The parts that make a step fast against plain torch in double precision."""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from splitray.training import attention
from splitray.training.head import NextToken, token_losses
from splitray.training.model import build
from splitray.training.process import keep_memory
from tests.support import tiny

RECIPE = tiny.make_recipe()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# attention

SHAPES = [(3, 4, 2, 100, 8), (2, 8, 8, 256, 32), (2, 2, 2, 64, 16), (1, 2, 1, 7, 4), (70, 2, 2, 130, 8)]


@pytest.mark.parametrize(("batch", "heads", "groups", "length", "width"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_and_its_gradients(
    batch: int, heads: int, groups: int, length: int, width: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(length)
    query = torch.randn(batch, heads, length, width, requires_grad=True)
    key, value = (torch.randn(batch, groups, length, width, requires_grad=True) for _ in range(2))
    ahead = torch.randn(batch, length, heads, width)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        ours, _ = attention.attention(torch.nn.Identity(), query, key, value, None, scaling=width**-0.5)
    wide = [t.double() for t in (query, key, value)]
    exact = functional.scaled_dot_product_attention(*wide, is_causal=True, enable_gqa=True).transpose(1, 2)
    assert ours.dtype == dtype and ours.shape == (batch, length, heads, width)
    found = (ours, *torch.autograd.grad(ours, (query, key, value), ahead.to(dtype)))
    known = (exact, *torch.autograd.grad(exact, (query, key, value), ahead.double()))
    limit = 1e-6 if dtype == torch.float32 else 1e-2
    for mine, truth in zip(found, known, strict=True):
        assert float((mine - truth).detach().norm() / truth.detach().norm()) < limit


def test_attention_is_ours_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks, evaluation and long sequences go to torch; so does a model that is not being trained."""
    calls = []
    forward = attention._forward
    monkeypatch.setattr(attention, "_forward", lambda *args: calls.append(args[0].shape[1]) or forward(*args))
    model = build(RECIPE)
    rows = torch.from_numpy(tiny.order().sequences("a", 0, 2))
    inputs, targets = rows[:, :-1], rows[:, 1:]
    token_losses(model, inputs, targets, RECIPE)
    NextToken(model, replace(RECIPE, attention_across_documents=False), whole=False)(inputs, targets)
    trained = NextToken(model, RECIPE, whole=False)
    with torch.no_grad():
        trained(inputs, targets)
    assert not calls
    trained(inputs, targets).backward()
    assert calls == [16]


# the head's loss


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("chunk", [1, 3 * tiny.VOCAB, 1 << 20])
def test_loss_and_gradients_equal_the_whole_logits(bf16: bool, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitray.training.chunks._CPU_SMALL", chunk)
    rows = torch.from_numpy(tiny.order().sequences("a", 0, 4))
    inputs, targets = rows[:, :-1], rows[:, 1:]
    found = []
    for whole in (False, True):
        model = NextToken(build(RECIPE), RECIPE, whole)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(inputs, targets)
        (2 * loss).backward()
        found.append([loss, *(p.grad for p in model.parameters())])
    limit = 2e-2 if bf16 else 1e-6
    for mine, plain in zip(*found, strict=True):
        assert mine.dtype == plain.dtype == torch.float32
        assert float((mine - plain).detach().norm()) <= limit * float(plain.detach().norm())


def test_nats_of_hopeless_targets_are_finite_and_right() -> None:
    """Probabilities below 1e-38 are zero in fp32; their nats are not infinite."""
    model = build(RECIPE)
    with torch.no_grad():
        model.model.norm.weight.mul_(2000.0)
    rows = torch.from_numpy(tiny.order().sequences("a", 0, 4))
    inputs, targets = rows[:, :-1], rows[:, 1:]
    nats = token_losses(model, inputs, targets, RECIPE)
    logits = model(input_ids=inputs).logits.detach().double()
    exact = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    assert float(exact.max()) > 200
    torch.testing.assert_close(nats.double(), exact, rtol=1e-5, atol=1e-3)
    loss = NextToken(model, RECIPE, whole=False)(inputs, targets)
    torch.testing.assert_close(loss.detach().double(), exact.mean(), rtol=1e-5, atol=1e-3)


def test_other_heads_take_the_plain_way() -> None:
    """A head with a bias is no matrix; what only looks like a Llama may scale or cap its logits."""
    model = build(RECIPE)
    assert not NextToken(model, RECIPE, whole=False).whole and NextToken(model, RECIPE, whole=True).whole
    model.lm_head.bias = torch.nn.Parameter(torch.ones(tiny.VOCAB))
    assert NextToken(model, RECIPE, whole=False).whole


# memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_training_process_keeps_the_memory_of_its_arrays() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [torch.ones(1 << 22) for _ in range(8)]  # 16 MB each
        del arrays
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_memory()
    assert min(faults() for _ in range(8)) < 1000, "each time, 32,768 pages are mapped anew"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_the_largest_arrays_leave_no_holes() -> None:
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    keep_memory()
    before = held()
    array = torch.ones(1 << 26)  # 256 MB
    assert held() - before > 200e6
    del array
    assert held() - before < 50e6
