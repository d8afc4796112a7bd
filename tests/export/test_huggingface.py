"""Exported models load with plain transformers, generate, and say what they are."""

import json
from pathlib import Path

import pytest
import torch

from splitray.corpus import Corpus
from splitray.errors import CorruptError
from splitray.export.check import check_export
from splitray.export.huggingface import export
from splitray.results.findings import Findings
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.model import build
from splitray.training.recipe import Recipe
from splitray.training.state import load, load_weights
from splitray.training.tree import Leaf
from tests.support import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, Path]:
    """A store with a trained segment, its key, and the tokenizer of the corpus."""
    store = Store(tmp_path_factory.mktemp("store"))
    text = {d: {"train": [f"{d} word {i} and more" for i in range(40)], "validation": [d * 200]} for d in ("a", "b")}
    corpus = Corpus.open(store, tiny.write_corpus(store, text))
    made = tiny.make_recipe(vocab=corpus.vocab_size, end_token=corpus.end_token)
    (segment, *_) = tiny.segments(made, Leaf(256), trunks=False)
    train(segment, tiny.order(), store, tiny.training())
    return store, segment.key, corpus.tokenizer_path()


def test_it_loads_generates_and_gives_the_same_logits(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    store, key, tokenizer_path = trained
    export(store, key, tokenizer_path, Folder(tmp_path / "model"), {"domain": "a", "specialize_tokens": 64})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    text = "a word 7 and more"
    inputs = tokenizer(text, return_tensors="pt")
    assert tokenizer.decode(inputs.input_ids[0]) == text
    held = store.find(key)
    assert held is not None
    ours = build(Recipe.from_json(held.meta["recipe"]))
    load_weights(ours, load(held, moments=False))
    with torch.no_grad():
        theirs = model.eval()(**inputs).logits
        assert torch.equal(theirs, ours.eval()(**inputs).logits)
    out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert out.shape[1] > inputs.input_ids.shape[1] and tokenizer.decode(out[0]).startswith(text)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    card = json.loads((tmp_path / "model/splitray.json").read_text())
    assert card == {"key": key, "domain": "a", "specialize_tokens": 64}


def test_an_unsplit_model_may_serve_a_domain(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    """A plan that does not split gives every domain the same model. `splitray verify` once called each a fault."""
    store, key, tokenizer = trained
    card = {"domain": "a", "pretrain_tokens": 192, "specialize_tokens": 0}
    export(store, key, tokenizer, Folder(tmp_path / "a"), card)
    findings = Findings()
    check_export(Folder(tmp_path / "a"), "", findings)
    assert not findings.faults and findings.lineages == 1
    export(store, key, tokenizer, Folder(tmp_path / "b"), card | {"pretrain_tokens": 128})
    check_export(Folder(tmp_path / "b"), "", findings)
    assert ["pretrain_tokens = 128" in fault for fault in map(str, findings.faults)] == [True]


def test_there_is_nothing_pickled(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, tokenizer = trained
    export(store, key, tokenizer, Folder(tmp_path), {})
    names = {p.name for p in tmp_path.rglob("*")}
    assert {"model.safetensors", "config.json", "tokenizer.json", "splitray.json"} <= names
    assert {Path(n).suffix for n in names} <= {".safetensors", ".json", ".jinja", ".txt"}


def test_it_continues_as_a_root(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    """What was exported can be continued from: `model: {path: ...}`."""
    from splitray.training.recipe import recipe
    from splitray.training.settings import ModelShape

    store, key, tokenizer = trained
    export(store, key, tokenizer, Folder(tmp_path), {})
    held = store.find(key)
    assert held is not None
    named = {"content_hash": "", "vocab": held.meta["recipe"]["vocab"], "end_token": 0}
    again = build(recipe(ModelShape(path=str(tmp_path)), tiny.training(), named, tiny.WEIGHTS, 0))
    weights = load(held, moments=False).weights
    assert all(torch.equal(p, weights[n]) for n, p in again.named_parameters())


def test_a_model_that_is_gone_or_damaged_is_not_exported(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, tokenizer = trained
    with pytest.raises(CorruptError, match="holds no seg-none; start the run again to train it"):
        export(store, "seg-none", tokenizer, Folder(tmp_path / "none"), {})
    held = store.find(key)
    assert held is not None
    path = held.folder.local_path("weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CorruptError, match=r"weights\.safetensors has SHA-256 .* is withdrawn: start the run again"):
        export(store, key, tokenizer, Folder(tmp_path / "rotten"), {})
    assert not (tmp_path / "rotten").exists() and not (tmp_path / "none").exists()
    assert store.find(key) is None, "the next start would meet the same damage"
