"""K specialists as one checkpoint with experts."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitray.errors import UserError
from splitray.export.layouts import ROUTERS
from splitray.export.moe import average, idle, merge

VOCABULARY, LENGTH = 60, 16


SPARSE = {"Llama": "Mixtral", "Mistral": "Mixtral", "Qwen2": "Qwen2Moe", "Qwen3": "Qwen3Moe", "Olmo2": "FlexOlmo"}
OWN: dict[str, dict[str, Any]] = {"Mistral": {"sliding_window": 6}, "Qwen3": {"head_dim": 16}}


def dense(family: str, seed: int, **changes: Any) -> Any:
    import transformers

    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "num_key_value_heads": 2}
    ends = dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), 0)
    config = getattr(transformers, f"{family}Config")(**shape | ends | OWN.get(family, {}) | changes)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)  # biases begin at zero, norms at one
    return model


def llama(seed: int, **changes: Any) -> Any:
    return dense("Llama", seed, **changes)


def texts(count: int) -> dict[str, np.ndarray]:
    """Domains of tokens of their own: the first layer already can tell them apart."""
    draw = np.random.default_rng(0)
    width = VOCABULARY // count
    return {f"d{k}": draw.integers(k * width, (k + 1) * width, 64 * LENGTH) for k in range(count)}


def logits(model: Any, tokens: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.from_numpy(tokens[None, :LENGTH]), use_cache=False).logits
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", SPARSE)
def test_equal_specialists_are_the_specialist(family: str, tied: bool, tmp_path: Path) -> None:
    """Whatever the routers say, experts that are alike do what the one does; also after a save and a load."""
    from transformers import AutoModelForCausalLM

    model = dense(family, 0, tie_word_embeddings=tied)
    corpus = texts(3)
    moe = merge(dict.fromkeys(corpus, model), corpus, LENGTH)
    torch.testing.assert_close(logits(moe, corpus["d1"]), logits(model, corpus["d1"]), atol=1e-5, rtol=1e-4)
    moe.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, trust_remote_code=False)
    assert type(again).__name__ == f"{SPARSE[family]}ForCausalLM"
    assert torch.equal(logits(again, corpus["d1"]), logits(moe, corpus["d1"]))


def test_every_token_goes_to_the_expert_of_its_domain() -> None:
    """Only MLPs differ, and domains are plain: with one expert a token, the merged model is each specialist."""
    corpus = texts(3)
    models = {d: llama(0, hidden_size=128) for d in corpus}
    for seed, model in enumerate(models.values()):
        torch.manual_seed(10 + seed)
        for layer in model.model.layers:
            for weight in layer.mlp.parameters():
                weight.data += 0.02 * torch.randn_like(weight)
    moe = merge(models, corpus, LENGTH, active=1)
    for domain, model in models.items():
        torch.testing.assert_close(logits(moe, corpus[domain]), logits(model, corpus[domain]), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(logits(models["d0"], corpus["d1"]), logits(models["d1"], corpus["d1"]), atol=1e-3)


def test_the_layout_is_that_of_stock_libraries(tmp_path: Path) -> None:
    from safetensors import safe_open

    corpus = texts(2)
    models = {d: llama(seed) for seed, d in enumerate(corpus)}
    merge(models, corpus, LENGTH).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
        expert = file.get_tensor("model.layers.1.block_sparse_moe.experts.1.w2.weight")
    assert torch.equal(expert, models["d1"].model.layers[1].mlp.down_proj.weight)
    assert "model.layers.0.block_sparse_moe.gate.weight" in names


def test_attention_can_be_that_of_another_model() -> None:
    corpus, base = texts(2), llama(9)
    moe = merge({d: llama(seed) for seed, d in enumerate(corpus)}, corpus, LENGTH, shared=base)
    assert torch.equal(moe.model.layers[1].self_attn.q_proj.weight, base.model.layers[1].self_attn.q_proj.weight)
    assert torch.equal(moe.lm_head.weight, base.lm_head.weight)
    assert not torch.equal(moe.model.layers[0].mlp.experts.down_proj[0], base.model.layers[0].mlp.down_proj.weight)


@pytest.mark.parametrize("family", SPARSE)
def test_routers_alone_learn_where_a_token_passes_two_experts(family: str) -> None:
    """With one expert the weights are divided by themselves: nothing would come back."""
    corpus, sizes = texts(3), dict[int, list[float]]()
    for active in (2, 1):
        moe = merge({d: dense(family, seed) for seed, d in enumerate(corpus)}, corpus, LENGTH, active)
        routers = {n: p for n, p in moe.named_parameters() if fnmatchcase(n, ROUTERS)}
        assert sorted(routers) == [f"model.layers.{layer}.mlp.gate.weight" for layer in (0, 1)]
        tokens = torch.from_numpy(corpus["d1"][None, :LENGTH])
        moe(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        sizes[active] = [float(p.grad.abs().max()) for p in routers.values() if p.grad is not None]
        met = sum(p.numel() for p in moe.parameters()) - idle(moe)
        every = sum(p.numel() for n, p in moe.named_parameters() if ".experts." in n)
        assert met == sum(p.numel() for p in moe.parameters()) - every * (3 - active) // 3
    assert len(sizes[1]) == len(sizes[2]) == 2 and min(sizes[2]) > 30 * max(sizes[1]), sizes


def test_merging_again_gives_the_same_bits() -> None:
    corpus = texts(2)
    first, again = (merge({d: llama(seed) for seed, d in enumerate(corpus)}, corpus, LENGTH) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))


def test_the_average_is_the_average() -> None:
    models = [llama(seed) for seed in range(3)]
    mean = average(models).lm_head.weight
    torch.testing.assert_close(mean, sum(m.lm_head.weight for m in models) / 3)


def test_what_cannot_be_merged_is_named() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    corpus = texts(2)
    other = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY))
    with pytest.raises(UserError, match=r"d1 is a GPT2LMHeadModel, and no stock .* can be merged: Llama, Mistral"):
        merge({"d0": llama(0), "d1": other}, corpus, LENGTH)
    with pytest.raises(UserError, match=r"weights that MixtralForCausalLM has not: .*q_proj\.bias"):
        merge({d: llama(0, attention_bias=True) for d in corpus}, corpus, LENGTH)
    with pytest.raises(UserError, match=r"weights that MixtralForCausalLM has not: .*mlp\.down_proj\.bias"):
        merge({d: llama(0, mlp_bias=True) for d in corpus}, corpus, LENGTH)
    with pytest.raises(UserError, match="attention windows in some layers"):
        merge({d: dense("Qwen2", 0, use_sliding_window=True) for d in corpus}, corpus, LENGTH)
    with pytest.raises(UserError, match="base has another shape than d0"):
        merge({d: llama(0) for d in corpus}, corpus, LENGTH, shared=llama(0, vocab_size=62))
    with pytest.raises(UserError, match="d1 has another shape than d0"):
        merge({"d0": llama(0), "d1": llama(0, intermediate_size=64)}, corpus, LENGTH)
    with pytest.raises(UserError, match="1 to 2 experts, not 3"):
        merge({d: llama(0) for d in corpus}, corpus, LENGTH, active=3)
    with pytest.raises(UserError, match="at least 16 training tokens"):
        merge({d: llama(0) for d in corpus}, {d: t[:9] for d, t in corpus.items()}, LENGTH)
