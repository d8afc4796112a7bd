"""Models that differ, and what they think of a text by whole forward passes without a cache."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import Encoder, fit_tokenizer
from tests.support.causal import config
from tests.support.planted import documents

LENGTH = 48  # of a window
EXAM: list[dict[str, Any]] = [
    {"question": row["text"][:40] + " ", "choices": [row["text"][40:52], "zz", row["text"][60:90]], "answer": n % 3}
    for n, row in enumerate(documents(domains=2, each=6, words=30))
]


def tokenizer(folder: Path) -> Encoder:
    fit_tokenizer([row["text"] for row in documents(each=60)], TokenizerSettings(vocabulary=300), folder)
    return Encoder(folder)


def ensemble(name: str, vocabulary: int, count: int = 3) -> dict[str, Any]:
    """Causal LMs of one architecture with weights drawn apart, and far enough apart to be told apart."""
    from transformers import AutoModelForCausalLM

    found = {}
    for seed in range(count):
        torch.manual_seed(seed)
        shape = config(name)
        shape.vocab_size = vocabulary
        model = AutoModelForCausalLM.from_config(shape).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight += torch.randn_like(weight) * 0.1
        found[f"model {seed}"] = model
    return found


def plain_nats(model: Any, tokens: np.ndarray, first: int) -> np.ndarray:
    """Loss of each token after a first one, in windows of `LENGTH`, float64 [tokens]."""
    text = torch.tensor([first, *tokens.tolist()])
    nats = []
    for begin in range(0, len(tokens), LENGTH):
        piece = text[begin : begin + LENGTH + 1]
        with torch.no_grad():
            logits = model(input_ids=piece[None, :-1], use_cache=False).logits[0].double()
        nats.append(-logits.log_softmax(1).gather(1, piece[1:, None])[:, 0].numpy())
    return np.concatenate(nats)
