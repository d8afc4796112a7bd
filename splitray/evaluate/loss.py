"""Validation loss of a model, document by document.

Documents are packed in their shard order with the end token between them and read in windows of the training's
sequence length; a token's loss belongs to the document it lies in, the end token's to the document it ends. Every
model reads the same windows, so losses compare document by document.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from splitray.storage.checksum import fingerprint

if TYPE_CHECKING:
    import torch

    from splitray.training.recipe import Recipe

_BATCH_TOKENS = 16384  # a forward pass


@dataclass(frozen=True)
class Validation:
    """The validation text of one domain that models are scored on.

    `tokens` int64 [n]; `document` int64 [n], the place of each token's document; `text_bytes` UTF-8 bytes of those
    documents together.
    """

    domain: str
    tokens: np.ndarray
    document: np.ndarray
    documents: int
    text_bytes: int

    @classmethod
    def of(cls, corpus: Any, domain: str, limit: int) -> "Validation":
        """The domain's first documents up to `limit` tokens; shards are ordered by hash, so that is a fair sample."""
        table = corpus.documents(domain, "validation")
        counts = table["tokens"].to_numpy()
        ends = np.cumsum(counts)
        keep = max(1, int(np.searchsorted(ends, limit, side="right")))
        total = int(ends[min(keep, len(ends)) - 1])
        stream = np.concatenate([np.asarray(s[:total]) for s in corpus.tokens(domain, "validation")])[:total]
        document = np.repeat(np.arange(len(counts[:keep])), counts[:keep])
        size = int(table["bytes"].to_numpy()[:keep].sum())
        return cls(domain, stream.astype(np.int64), document, len(counts[:keep]), size)


@lru_cache(maxsize=256)
def validation_groups(corpus: Any, domain: str) -> np.ndarray:
    """The group of each of the domain's validation documents, strings [documents]; see `compare.Scores`."""
    return np.array(corpus.groups(domain, "validation"))


def validation_key(corpus: Any, limit: int) -> str:
    """Names what losses are measured on: the validation shards and how much of them is read."""
    return fingerprint([corpus.validation_hash, limit], 12)


def document_losses(
    model: "torch.nn.Module", recipe: "Recipe", validation: Validation
) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats and number of predicted tokens of every document: two float64 [documents]."""
    import torch

    from splitray.training.engine import check_tokens, table_rows
    from splitray.training.head import autocast, token_losses

    check_tokens(int(validation.tokens.max()), table_rows(model))
    device = next(model.parameters()).device
    length = recipe.sequence_length
    targets = len(validation.tokens) - 1
    windows = -(-targets // length)
    padded = np.full(windows * length + 1, recipe.end_token, dtype=np.int64)
    padded[: targets + 1] = validation.tokens
    rows = np.lib.stride_tricks.sliding_window_view(padded, length + 1)[::length]
    losses = np.empty((windows, length))
    step = max(1, _BATCH_TOKENS // length)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), autocast(recipe, device):
        for begin in range(0, windows, step):
            batch = torch.from_numpy(rows[begin : begin + step].copy()).to(device)
            nats = token_losses(model, batch[:, :-1], batch[:, 1:], recipe)
            losses[begin : begin + step] = nats.double().cpu().numpy()
    model.train(was_training)
    place = validation.document[1:]
    nll = np.bincount(place, weights=losses.reshape(-1)[:targets], minlength=validation.documents)
    return nll, np.bincount(place, minlength=validation.documents).astype(np.float64)
