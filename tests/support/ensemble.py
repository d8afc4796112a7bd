"""Models that differ, and what they think of a text by whole forward passes without a cache."""

import json
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


def write_run(folder: Path) -> Path:
    """What a finished run leaves for use: two specialists, their base, and a router that tells their texts apart."""
    from splitray.corpus.embedders.tfidf import TfidfEmbedder, TfidfSettings
    from splitray.corpus.router import Placement, Router
    from splitray.evaluate.mixture import RouterPrior

    tokens = folder / "tokenizer"
    encoder = tokenizer(tokens)
    rows = documents(domains=2, each=60)
    embedder = TfidfEmbedder.fit([row["text"] for row in rows], TfidfSettings(dimensions=8), 0)
    vectors = embedder.embed([row["text"] for row in rows])
    homes = np.array([row["domain"] for row in rows])
    centroids = np.stack([vectors[homes == home].mean(axis=0) for home in (0, 1)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    names = ["0_first", "1_second"]
    router = Router(embedder, Placement(centroids.astype(np.float32), np.zeros(2), True, names))
    router.save(folder / "router")
    RouterPrior(router, 0.1).save(folder / "router")
    for name, model in zip([*names, "base"], ensemble("llama", encoder.vocabulary).values(), strict=True):
        place = folder / ("base" if name == "base" else f"specialists/{name}")
        model.config.eos_token_id = encoder.end
        model.save_pretrained(place)
        (place / "splitray.json").write_text(json.dumps({"use": "to use"}))
        for file in tokens.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    return folder
