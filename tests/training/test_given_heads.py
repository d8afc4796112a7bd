"""The loss of models from outside against the model's own logits: values, gradients, and heads that are refused."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from splitray.training import chunks, fused
from splitray.training.family import Packing, PlainHead
from splitray.training.folder import quiet
from splitray.training.head import NextToken, head_of, token_losses
from splitray.training.heads import find_head
from splitray.training.model import build
from splitray.training.packing import packed_logits, packing_of
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape
from tests.support import causal, tiny

VOCAB = causal.VOCAB
# Each of its own kind: plain, two norms, a window, a cap, scaled embeddings, learned positions, a bias, scaled logits,
# parallel blocks, documents in rows of their own.
PLAIN = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt_neox", "olmo2", "phi", "bloom")
CHANGES: dict[str, dict[str, Any]] = {
    **{name: {} for name in PLAIN},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},
}


def folder(name: str, path: Path) -> Path:
    """A tiny model with weights so large that caps bend its logits."""
    from transformers import AutoModelForCausalLM

    config = causal.config(name)
    for field, value in CHANGES[name].items():
        setattr(config, field, value)
    torch.manual_seed(1)
    with quiet():
        model: Any = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(40.0)
        model.save_pretrained(path)
    return path


def recipe_of(path: Path, apart: bool = False, **changes: Any) -> Recipe:
    settings = tiny.training(attention_across_documents=not apart, **changes)
    corpus = {"content_hash": "tiny", "vocab": VOCAB, "end_token": 0}
    return recipe(ModelShape(path=str(path)), settings, corpus, tiny.WEIGHTS, 0)


def rows(count: int = 4, length: int = 17) -> torch.Tensor:
    """Random tokens with two document ends in each row."""
    found = torch.randint(2, VOCAB, (count, length), generator=torch.Generator().manual_seed(3))
    found[:, 5] = found[:, 11] = 0
    return found


@pytest.fixture(scope="module", params=list(CHANGES))
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return folder(request.param, tmp_path_factory.mktemp("given") / request.param)


@pytest.mark.parametrize("apart", [False, True])
def test_losses_and_gradients_are_those_of_the_models_own_logits(
    given: Path, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, text = recipe_of(given, apart), rows()
    inputs, targets = text[:, :-1], text[:, 1:]
    model: Any = build(made).train()
    logits = packed_logits(model, inputs, 0, packing_of(made)).double()
    nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    assert float(nats.detach().max()) > 6, "as large that caps and scales show"
    known = [nats.mean(), *torch.autograd.grad(2 * nats.mean(), list(model.parameters()))]
    for chunk in (5 * VOCAB, 1 << 26):
        monkeypatch.setattr(chunks, "_CPU_CHUNK", chunk)
        ours = NextToken(model, made, whole=False)
        assert not ours.whole
        loss = ours(inputs, targets)
        found = [loss, *torch.autograd.grad(2 * loss, list(model.parameters()))]
        for mine, truth in zip(found, known, strict=True):
            assert float((mine - truth).detach().norm()) <= 2e-5 * float(truth.detach().norm()) + 1e-7
        scored = token_losses(model, inputs, targets, made)
        torch.testing.assert_close(scored.flatten().double(), nats.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("chunk", [64 * 3, 64 * 7, 1 << 26])
def test_bf16_is_as_near_to_double_as_a_plain_loss_is(
    cap: float | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CPU_CHUNK", chunk)
    torch.manual_seed(0)
    states, weight = torch.randn(20, 16), torch.randn(64, 16)
    bias, targets = torch.randn(64), torch.randint(0, 64, (20,))
    leaves = [t.requires_grad_() for t in (states, weight, bias)]

    def plain(dtype: torch.dtype) -> torch.Tensor:
        raw = (states.to(dtype) @ weight.to(dtype).T).to(torch.promote_types(dtype, torch.float32)) + bias
        logits = 0.5 * raw if cap is None else cap * torch.tanh(0.5 * raw / cap)
        return functional.cross_entropy(logits, targets)

    truth = torch.autograd.grad(plain(torch.float64), leaves)
    theirs = torch.autograd.grad(plain(torch.bfloat16), leaves)
    head = PlainHead(torch.nn.Identity(), weight, bias, 0.5, cap)
    with torch.autocast("cpu", torch.bfloat16):
        loss = fused.fused_loss(states, head, targets)
    mine = torch.autograd.grad(loss, leaves)
    for own, other, exact in zip(mine, theirs, truth, strict=True):
        assert own.dtype == torch.float32
        far, allowed = (float((t - exact).norm() / exact.norm()) for t in (own, other))
        assert far <= max(1.5 * allowed, 5e-3)


def test_nats_of_hopeless_targets_are_finite_and_right() -> None:
    torch.manual_seed(0)
    states, weight, targets = torch.randn(6, 8) * 300, torch.randn(32, 8), torch.randint(0, 32, (6,))
    exact = functional.cross_entropy(states.double() @ weight.double().T, targets, reduction="none")
    assert float(exact.max()) > 1000
    found = fused.fused_nats(states, PlainHead(torch.nn.Identity(), weight), targets)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-3)


# what is refused, and who decides


class Bent(torch.nn.Module):
    """Multiplies what a head gives by 1.01, as no config says."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return 1.01 * logits


def test_a_head_that_does_more_than_it_says_takes_the_plain_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = recipe_of(folder("qwen3", tmp_path))
    model: Any = build(made)
    forward, bent = model.forward, Bent()

    def other(*args: Any, **kwargs: Any) -> Any:
        found = forward(*args, **kwargs)
        found.logits = bent(found.logits)
        return found

    model.forward = other
    text = rows()
    with caplog.at_level(logging.INFO, logger="splitray"):
        ours = NextToken(model, made, whole=False)
    assert ours.whole and "Qwen3ForCausalLM: its loss is computed with all logits at once" in caplog.text
    loss = ours(text[:, :-1], text[:, 1:])
    logits = model(input_ids=text[:, :-1], use_cache=False).logits
    torch.testing.assert_close(loss, functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()))


def test_a_cap_that_the_model_does_not_apply_is_not_believed(tmp_path: Path) -> None:
    model: Any = build(recipe_of(folder("llama", tmp_path)))
    model.config.final_logit_softcapping = 30.0
    head = find_head(model, 0, None)
    assert head is not None and head.bare


def test_a_head_is_known_whatever_the_precision_it_is_first_asked_in(given: Path) -> None:
    """Scoring in bf16 asks first in its own precision, where two right ways differ by more than a wrong one may."""
    model: Any = build(recipe_of(given)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert find_head(model, 0, None) is not None


def test_training_mode_and_random_state_are_left_as_they_were(tmp_path: Path) -> None:
    model: Any = build(recipe_of(folder("gpt2", tmp_path)))
    model.train()
    before = torch.random.get_rng_state()
    assert find_head(model, 0, Packing.ROWS) is not None
    assert model.training and torch.equal(before, torch.random.get_rng_state())


def test_states_of_earlier_versions_are_trained_and_scored_as_they_were(tmp_path: Path) -> None:
    """Their recipe says so; a model from a shape has kept its version and its bits."""
    made = recipe_of(folder("qwen3", tmp_path))
    assert (made.version, tiny.make_recipe().version) == (3, 2)
    earlier = replace(made, version=2)
    model = build(made)
    assert head_of(model, earlier) is None and head_of(model, made) is not None
    assert NextToken(model, earlier, whole=False).whole
    assert Recipe.from_json(earlier.to_json()) == earlier
