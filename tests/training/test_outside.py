"""Models from outside: folders as people bring them, and what is said of them before anything is paid for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from splitray.errors import UserError
from splitray.training.check import check_model
from splitray.training.engine import check_tokens
from splitray.training.model import build, root_hash, size
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape
from tests.support import causal, tiny


def saved(folder: Path, name: str, shards: bool = False, **changes: Any) -> Any:
    """A tiny model of an architecture, saved; the model."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = causal.config(name)
    for field, value in changes.items():
        setattr(config, field, value)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder, max_shard_size="20KB" if shards else "1GB")
    return model


def edit(folder: Path, drop: tuple[str, ...] = (), **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config = {n: v for n, v in config.items() if n not in drop} | changes
    (folder / "config.json").write_text(json.dumps(config))


def shape(folder: Path) -> ModelShape:
    return ModelShape(path=str(folder))


# N


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "opt", "mpt"])
def test_a_shared_table_counts_once_where_the_config_does_not_say_it(tmp_path: Path, name: str) -> None:
    """Configs on the hub leave out what equals the class's default; MPT and others name their width otherwise."""
    model = saved(tmp_path, name)
    edit(tmp_path, drop=("tie_word_embeddings",))
    total = sum(p.numel() for p in model.parameters())
    counted = size(shape(tmp_path), causal.VOCAB, tiny.training())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (counted.params, counted.total, counted.hidden, counted.layers) == (total, total, 32, 2)


def test_files_beside_the_index_do_not_count(tmp_path: Path) -> None:
    model = saved(tmp_path, "llama", shards=True)
    before = size(shape(tmp_path), causal.VOCAB, tiny.training()), root_hash(shape(tmp_path))
    whole = {n: p.detach().clone() for n, p in model.named_parameters()}
    save_file(whole, tmp_path / "consolidated.safetensors")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert (size(shape(tmp_path), causal.VOCAB, tiny.training()), root_hash(shape(tmp_path))) == before
    table = model.get_input_embeddings().weight.numel()
    assert before[0].params == sum(p.numel() for p in model.parameters()) - table


# weights that are not there


def rewritten(folder: Path, rename: Any) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({new: t for n, t in state.items() if (new := rename(n))}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("name", "rename", "told"),
    [
        ("llama", lambda n: f"module.{n}", r"lack 21 weights .*lm_head\.weight.*have 'module\.' too much"),
        ("gpt2", lambda n: f"_orig_mod.{n}", r"have '_orig_mod\.' too much, which a wrapper adds"),
        ("llama", lambda n: f"module._orig_mod.{n}", r"have 'module\._orig_mod\.' too much"),
        ("llama", lambda n: f"base_model.model.{n}", r"have 'base_model\.model\.' too much"),
        ("llama", lambda n: n.replace("layers.0.", "layers.0._orig_mod."), r"have '_orig_mod\.' too much"),
        ("llama", lambda n: None if n == "lm_head.weight" else n, r"lack 1 weights of the model \(lm_head\.weight\)"),
        ("llama", lambda n: n.replace("layers.1.", "layers.7."), r"lack 9 .*layers\.1.*and hold 9 .*layers\.7"),
    ],
)
def test_weights_are_never_drawn_at_random(tmp_path: Path, name: str, rename: Any, told: str) -> None:
    saved(tmp_path, name)
    rewritten(tmp_path, rename)
    with pytest.raises(UserError, match=rf"model path .*{told}"):
        check_model(shape(tmp_path), tiny.training())


def added(folder: Path, **tensors: torch.Tensor) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(state | tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("name", "buffers"),
    [
        ("gpt2", {"transformer.h.0.attn.masked_bias": (), "transformer.h.1.attn.bias": (1, 1, 64, 64)}),
        ("gptj", {"transformer.h.0.attn.masked_bias": (), "transformer.h.1.attn.bias": (1, 1, 64, 64)}),
        ("gpt_neo", {"transformer.h.1.attn.attention.bias": (1, 1, 64, 64)}),
        ("gpt_neox", {"gpt_neox.layers.0.attention.rotary_emb.inv_freq": (4,)}),
        ("falcon", {"transformer.h.0.self_attention.maybe_rotary.inv_freq": (4,)}),
    ],
)
def test_buffers_of_earlier_versions_are_no_weights(
    tmp_path: Path, name: str, buffers: dict[str, tuple[int, ...]]
) -> None:
    """GPT-J and GPT-Neo lie on the hub with their masks beside the weights."""
    model = saved(tmp_path, name)
    added(tmp_path, **{buffer: torch.ones(shape) for buffer, shape in buffers.items()})
    check_model(shape(tmp_path), tiny.training())
    counted = size(shape(tmp_path), causal.VOCAB, tiny.training())
    assert counted.total == sum(p.numel() for p in model.parameters())


def test_a_bias_that_the_model_has_no_place_for_is_no_buffer(tmp_path: Path) -> None:
    saved(tmp_path, "gptj")
    added(tmp_path, **{"transformer.h.0.attn.bias": torch.ones(32)})
    with pytest.raises(UserError, match=r"hold 1 that the model has no place for \(transformer\.h\.0\.attn\.bias\)"):
        check_model(shape(tmp_path), tiny.training())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vocab_size": causal.VOCAB + 32}, r"2 weights have .*lm_head\.weight is \[96, 32\] in the file"),
        (
            {"intermediate_size": 99},
            r"6 weights have .*\[32, 48\] in the file and \[32, 99\] by the config",
        ),
        ({"hidden_size": None}, r"hidden_size.*NoneType"),
        ({"num_attention_heads": 3}, r"not a multiple of the number of attention heads"),
        ({"is_causal": False}, r"copy the future.*\"is_causal\": false"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantized .*method fp8.*save a dequantized model"),
    ],
)
def test_a_config_that_does_not_fit_is_told_by_what_does_not(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    saved(tmp_path, "llama")
    edit(tmp_path, **change)
    with pytest.raises(UserError, match=rf"model path .*{told}"):
        check_model(shape(tmp_path), tiny.training())


def test_quantized_weights_without_a_word_in_the_config(tmp_path: Path) -> None:
    """transformers reads 8-bit numbers as if they were the weights."""
    saved(tmp_path, "llama")
    narrow = {n: t.to(torch.int8) for n, t in load_file(tmp_path / "model.safetensors").items() if "q_proj" in n}
    added(tmp_path, **narrow)
    with pytest.raises(UserError, match=r"quantized weights \(model\.layers\.0\.self_attn\.q_proj\.weight"):
        check_model(shape(tmp_path), tiny.training())


@pytest.mark.parametrize("text", ["[1]", "null", "3", '{"a"', "\ufeff{}", "[" * 10**5])
def test_a_config_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    saved(tmp_path, "llama")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"no readable config\.json"):
        check_model(shape(tmp_path), tiny.training())


@pytest.mark.parametrize(
    ("weight_map", "told"),
    [
        ({"a": 3, "b": "x"}, "no readable index"),
        ({"a": None, "b": "x"}, "no readable index"),
        ({"a": "../x.safetensors"}, r"names \.\./x\.safetensors; it names files beside it"),
        ({"a": "/etc/hostname"}, "names /etc/hostname; it names files beside it"),
        ({}, "names no file"),
    ],
)
def test_an_index_names_files_beside_it(tmp_path: Path, weight_map: dict[str, Any], told: str) -> None:
    saved(tmp_path, "llama", shards=True)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=told):
        check_model(shape(tmp_path), tiny.training())


def test_weights_that_git_lfs_did_not_fetch(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 1\n")
    with pytest.raises(UserError, match=r"model\.safetensors .*git lfs pull fetches the file"):
        check_model(shape(tmp_path), tiny.training())


def test_more_layers_than_the_file_has_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2")
    edit(tmp_path, n_layer=3)
    with pytest.raises(UserError, match=r"lack 12 weights of the model \(transformer\.h\.2\."):
        check_model(shape(tmp_path), tiny.training())


def test_a_base_model_without_its_tied_head_is_whole(tmp_path: Path) -> None:
    """GPT-2 saved without its head, as the hub's gpt2 is: the head is the table."""
    model = saved(tmp_path, "gpt2")
    model.transformer.save_pretrained(tmp_path)
    edit(tmp_path, architectures=["GPT2Model"])
    check_model(shape(tmp_path), tiny.training())
    named = {"content_hash": "", "vocab": causal.VOCAB, "end_token": 0}
    again = build(recipe(shape(tmp_path), tiny.training(), named, {}, 0))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    saved(tmp_path, "llama", shards=True)
    (lost, *_) = sorted(tmp_path.glob("model-*.safetensors"))
    lost.unlink()
    with pytest.raises(UserError, match=rf"names {lost.name}, which is not there"):
        check_model(shape(tmp_path), tiny.training())


# masks and positions


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_an_encoder_is_refused_until_it_is_a_decoder(tmp_path: Path, name: str) -> None:
    saved(tmp_path, name)
    with pytest.raises(UserError, match=r'copy the future\. An encoder .*"is_decoder": true in its config\.json'):
        check_model(shape(tmp_path), tiny.training())
    edit(tmp_path, is_decoder=True)
    check_model(shape(tmp_path), tiny.training(attention_across_documents=False))


def test_weights_that_text_does_not_reach_are_named(tmp_path: Path) -> None:
    saved(tmp_path, "bart")
    with pytest.raises(UserError, match=r"text does not reach .*encoder_attn.*save its language model alone"):
        check_model(shape(tmp_path), tiny.training())


@pytest.mark.parametrize(("name", "most"), [("gpt2", 64), ("opt", 64), ("gptj", 64)])
def test_a_sequence_beyond_learned_positions_is_refused(tmp_path: Path, name: str, most: int) -> None:
    saved(tmp_path, name)
    check_model(shape(tmp_path), tiny.training(sequence_length=most))
    with pytest.raises(UserError, match=rf"training\.sequence_length is {most + 1}, .*positions for {most};"):
        check_model(shape(tmp_path), tiny.training(sequence_length=most + 1))


def test_rotary_positions_have_no_end(tmp_path: Path) -> None:
    saved(tmp_path, "mistral")
    check_model(shape(tmp_path), tiny.training(sequence_length=100))


def test_what_transformers_does_not_know_is_told(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    edit(tmp_path, model_type="t5")
    with pytest.raises(UserError, match="transformers cannot load it as a causal LM"):
        check_model(shape(tmp_path), tiny.training())


def test_a_token_beyond_the_table_stops_before_the_step() -> None:
    check_tokens(63, 64)
    with pytest.raises(UserError, match=r"holds token 64, and the model has embeddings for 64"):
        check_tokens(64, 64)
