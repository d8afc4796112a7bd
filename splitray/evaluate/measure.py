"""Losses of published models: measured once, then read from the store."""

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from splitray.errors import CorruptError
from splitray.evaluate.loss import Validation, document_losses, validation_key
from splitray.storage.keys import LossKey, SegmentKey
from splitray.storage.store import Store
from splitray.training import warm
from splitray.training.recipe import Recipe
from splitray.training.state import load, load_weights


def loss_key(segment: str, validation: str, domain: str) -> str:
    """The store's name of a segment's losses on one domain; `validation` is a `validation_key`."""
    return LossKey(SegmentKey.parse(segment), validation, domain).format()


def measure(
    store: Store, corpus: Any, key: str, domains: Sequence[str], limit: int, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Losses of a published segment by domain: `loss` in nats per token, `tokens`, `nats`, `bytes`.

    Args:
        corpus: a `splitray.corpus.Corpus`, whose validation documents are read.
        limit: tokens of each domain's validation text, at most.
    """
    validation = validation_key(corpus, limit)
    found = {d: store.find(loss_key(key, validation, d)) for d in domains}
    missing = [d for d, p in found.items() if p is None]
    if missing:
        published = store.find(key)
        if published is None:
            raise CorruptError(f"{key} has no readable marker")
        recipe = Recipe.from_json(published.recorded("recipe"))
        model = warm.model(recipe)
        load_weights(model, load(published, moments=False))
        model = model.to(device)
        for domain in missing:
            text = _validation(corpus, domain, limit)
            nats, tokens = document_losses(model, recipe, text)
            attempt = store.attempt(loss_key(key, validation, domain))
            with tempfile.TemporaryDirectory(prefix="splitray-loss-") as folder:
                np.save(Path(folder) / "documents.npy", np.stack([nats, tokens]))
                attempt.add(Path(folder) / "documents.npy", "documents.npy")
                total = float(tokens.sum())
                found[domain] = attempt.publish(
                    {"loss": float(nats.sum()) / total, "nats": float(nats.sum()), "tokens": total}
                    | {"bytes": text.text_bytes, "segment": key, "domain": domain}
                )
    return {d: dict(p.meta) for d, p in found.items() if p is not None}


@lru_cache(maxsize=64)
def _validation(corpus: Any, domain: str, limit: int) -> Validation:
    return Validation.of(corpus, domain, limit)
