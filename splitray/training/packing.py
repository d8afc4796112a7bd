"""How a packed batch goes through a model: what the model is called with, and the logits that come back.

Sequences are cut from a stream of documents with an end token between them. Where attention must not cross documents,
the model's `Packing` says how they are kept apart.
"""

from collections.abc import Callable
from typing import Any

import torch

from splitray.training import varlen
from splitray.training.family import Packing
from splitray.training.model import family_of
from splitray.training.recipe import Recipe

_STEP = 16  # rows of documents are padded to a multiple of it: few shapes, and at most 15 tokens a document lost


def packing_of(recipe: Recipe) -> Packing | None:
    """How documents are kept apart under a recipe; None where attention crosses them."""
    return None if recipe.attention_across_documents else family_of(recipe.shape).packing(recipe.spec)


def forward_inputs(
    inputs: torch.Tensor, end_token: int, packing: Packing | None, room: int | None = None
) -> dict[str, Any]:
    """Keyword arguments of a causal LM for a packed batch, int64 [batch, length]; not for `Packing.ROWS`.

    Kept apart, positions restart after each end token. With `Packing.MASK` a boolean mask [batch, 1, length, length]
    keeps every document to itself; with `Packing.POSITIONS` the model makes its masks from the positions.

    Args:
        room: documents at most, of a model whose attention takes boundaries: it is given these in place of the mask
            wherever that runs, see `varlen`.
    """
    plain: dict[str, Any] = {"input_ids": inputs, "use_cache": False}
    if packing is None:
        return plain
    assert packing is not Packing.ROWS
    document = _documents(inputs, end_token)
    length = inputs.shape[1]
    place = torch.arange(length, device=inputs.device)
    first = torch.zeros_like(inputs)
    first[:, 1:] = torch.where(document[:, 1:] != document[:, :-1], place[1:], 0)
    plain["position_ids"] = place - first.cummax(1).values
    if packing is Packing.MASK and room is not None and varlen.usable(inputs.device):
        plain[varlen.BOUNDS] = varlen.boundaries(inputs, end_token, room)
    elif packing is Packing.MASK:
        causal = place[None, :, None] >= place[None, None, :]
        mask = causal & (document[:, :, None] == document[:, None, :])
        plain["attention_mask"] = mask[:, None]
    return plain


def packed_logits(
    lm: torch.nn.Module, inputs: torch.Tensor, end_token: int, packing: Packing | None, room: int | None = None
) -> torch.Tensor:
    """Logits of a packed batch, int64 [batch, length]: [batch, length, vocabulary]; for `room` see `forward_inputs`."""
    if packing is not Packing.ROWS:
        whole: torch.Tensor = lm(**forward_inputs(inputs, end_token, packing, room)).logits
        return whole
    return _by_rows(lambda rows: lm(input_ids=rows, use_cache=False).logits, inputs, end_token)


def _documents(inputs: torch.Tensor, end_token: int) -> torch.Tensor:
    """The number of each token's document within its sequence; an end token belongs to the document it ends."""
    ended = (inputs == end_token).long()
    return ended.cumsum(1) - ended


def packed_states(
    trunk: torch.nn.Module, inputs: torch.Tensor, end_token: int, packing: Packing | None, room: int | None = None
) -> torch.Tensor:
    """What the head of a packed batch is given, int64 [batch, length]: [batch, length, width]; see `packed_logits`."""
    if packing is not Packing.ROWS:
        whole: torch.Tensor = trunk(**forward_inputs(inputs, end_token, packing, room)).last_hidden_state
        return whole
    return _by_rows(lambda rows: trunk(input_ids=rows, use_cache=False).last_hidden_state, inputs, end_token)


def _by_rows(ask: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, end_token: int) -> torch.Tensor:
    """Every document in a row of its own, documents of about one length together, padding behind them.

    Padding lies ahead of nothing, so what a causal model gives before it is what it gives for the document alone.

    Args:
        ask: int64 [rows, width] to [rows, width, ...].
    """
    batch, length = inputs.shape
    document = _documents(inputs, end_token) + torch.arange(batch, device=inputs.device)[:, None] * length
    flat = inputs.flatten()
    _, counts = document.flatten().unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    widths = -(-counts // _STEP) * _STEP
    pieces, places = [], []
    for width in sorted(set(widths.tolist())):
        some = widths == width
        index = starts[some][:, None] + torch.arange(width, device=inputs.device)
        real = torch.arange(width, device=inputs.device) < counts[some][:, None]
        rows = torch.where(real, flat[index.clamp(max=len(flat) - 1)], end_token)
        pieces.append(ask(rows)[real])
        places.append(index[real])
    order = torch.cat(places).argsort()
    return torch.cat(pieces)[order].unflatten(0, (batch, length))
