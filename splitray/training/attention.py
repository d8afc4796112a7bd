"""Causal self-attention for training short sequences on a CPU.

torch's flash kernel takes a third of a small model's step there. Plain matrix products over blocks of queries, each
with the keys it may see, run the forward and backward pass in half of that time (one core with AVX-512 bf16, 16
sequences of 256 tokens, 8 heads of 32: 43 ms against 92 ms in bf16, alike in fp32), with fp32 scores as the kernel has.
They keep the probabilities for the backward pass, which limits the length.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from splitray.runtime.compat import softmax_backward
from splitray.training import varlen

NAME = varlen.NAME
_BLOCK = 64  # queries at once; 32 and 128 are up to a tenth slower
_SCORES = 1 << 19  # at once: 2 MB in fp32
_LONGEST = 512  # tokens; probabilities of longer sequences take more memory than all other activations


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of `transformers`: [batch, heads, length, width] in, [batch, length, heads, width] out.

    What is neither training on packed documents on a GPU, see `varlen`, nor causal training of short sequences on a
    CPU goes to torch's `scaled_dot_product_attention`.
    """
    batch, heads, length, width = query.shape
    if (bounds := kwargs.get(varlen.BOUNDS)) is not None and scaling is not None:
        return varlen.attend(query, key, value, bounds, scaling), None
    ours = query.device.type == "cpu" and attention_mask is None and not dropout and length <= _LONGEST
    if not (ours and scaling is not None and key.shape[2] == length and torch.is_grad_enabled()):
        result: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
        return result
    groups = heads // key.shape[1]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype
    value = repeat_kv(value, groups).to(dtype).reshape(-1, length, width)
    flat = (query.reshape(-1, length, width), repeat_kv(key, groups).reshape(-1, length, width), value)
    mixed, _ = _forward(*flat, scaling)
    return mixed.view(batch, heads, length, width).transpose(1, 2).contiguous(), None


# Without a mask function of that name, transformers hands on what it is given: none, or the mask that keeps documents
# apart. Its own would build one for plain causal attention whenever it is compiled.
AttentionInterface.register(NAME, attention)


def _tiles(query: torch.Tensor) -> Iterator[tuple[slice, slice, int, int]]:
    """Sequences, queries, number of keys those see, and where their probabilities begin in the flat array of all."""
    count, length, _ = query.shape
    step, offset = max(1, _SCORES // (_BLOCK * length)), 0
    for first in range(0, count, step):
        some = slice(first, min(first + step, count))
        for begin in range(0, length, _BLOCK):
            end = min(begin + _BLOCK, length)
            yield some, slice(begin, end), end, offset
            offset += (some.stop - first) * (end - begin) * end


def _size(query: torch.Tensor) -> int:
    """Probabilities over all tiles."""
    return sum((some.stop - some.start) * (rows.stop - rows.start) * keys for some, rows, keys, _ in _tiles(query))


def _kept(flat: torch.Tensor, some: slice, rows: slice, keys: int, offset: int) -> torch.Tensor:
    shape = (some.stop - some.start, rows.stop - rows.start, keys)
    return flat[offset : offset + math.prod(shape)].view(shape)


@torch.library.custom_op("splitray::attention", mutates_args=())
def _forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixed values, and the probabilities of all tiles; an operator of its own, so that compilation leaves it whole."""
    length, wide = query.shape[1], (query.float(), key.float())
    mixed, held = torch.empty_like(value), value.new_empty(_size(query))
    barred = torch.zeros(_BLOCK, length + _BLOCK)
    barred[:, length:].fill_(-math.inf).triu_(1)  # the columns from `length - begin` on bar what lies ahead
    for some, rows, keys, offset in _tiles(query):
        bar = barred[: rows.stop - rows.start, length - rows.start : length - rows.start + keys]
        scores = torch.baddbmm(bar, wide[0][some, rows], wide[1][some, :keys].transpose(1, 2), alpha=scale)
        probabilities = _kept(held, some, rows, keys, offset).copy_(scores.softmax(-1))
        mixed[some, rows] = torch.bmm(probabilities, value[some, :keys])
    return mixed, held


@torch.library.custom_op("splitray::attention_backward", mutates_args=())
def _backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    held: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value."""
    narrow = (query.to(value.dtype), key.to(value.dtype))
    to_query, to_key, to_value = (torch.zeros(t.shape) for t in (query, key, value))
    for some, rows, keys, offset in _tiles(query):
        probabilities, ahead = _kept(held, some, rows, keys, offset), gradient[some, rows]
        to_value[some, :keys] += torch.bmm(probabilities.transpose(1, 2), ahead)
        raw = torch.bmm(ahead, value[some, :keys].transpose(1, 2))
        raw = softmax_backward(raw, probabilities, value.dtype)
        to_query[some, rows] = torch.bmm(raw, narrow[1][some, :keys])
        to_key[some, :keys] += torch.bmm(raw.transpose(1, 2), narrow[0][some, rows])
    return to_query.mul_(scale).to(query.dtype), to_key.mul_(scale).to(key.dtype), to_value.to(value.dtype)


@_forward.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(value), value.new_empty(_size(query))


@_backward.register_fake
def _(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    held: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], output[1])
    ctx.set_materialize_grads(False)  # zeros for the probabilities' gradient would be as large as those
    ctx.scale = inputs[3]


def _differentiate(ctx: Any, gradient: torch.Tensor, unused: None) -> tuple[torch.Tensor | None, ...]:
    return (*_backward(gradient, *ctx.saved_tensors, ctx.scale), None)


_forward.register_autograd(_differentiate, setup_context=_keep)
