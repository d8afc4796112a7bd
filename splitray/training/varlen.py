"""Flash attention with documents kept apart, by where each begins: on GPUs, in bf16.

A boolean mask takes the kernel twice the time of plain causal attention, and its place grows by the square of the
length. Boundaries cost nothing, and no query meets the keys of other documents at all. The kernel is FlashAttention 2
(Dao 2023, arXiv 2307.08691) as torch has it.
"""

from typing import Any

import numpy as np
import torch

from splitray.runtime.compat import varlen_kernel

NAME = "splitray_blocks"  # of the attention that takes boundaries, see `attention`
BOUNDS = "cu_seq_lens_q"  # what `transformers` calls boundaries, on their way to attention
_WIDEST = 256  # numbers of a head's query; and in eights
_LEAST = 64  # boundaries there is room for; more by powers of two, so that compiled code sees few shapes


def usable(device: torch.device) -> bool:
    """Whether a forward pass on a device, under the autocast that is on, may take this way."""
    narrow = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16
    return device.type == "cuda" and narrow and varlen_kernel() is not None


def takes(model: torch.nn.Module) -> bool:
    """Whether the kernel computes what a model of `transformers` asks of attention: heads of its widths, no dropout."""
    config: Any = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width % 8 == 0 and width <= _WIDEST and not getattr(config, "attention_dropout", 0.0)


def room(sequences: np.ndarray, micro: int, end_token: int) -> int:
    """Documents that a micro-batch of a batch may hold, rounded up; counted on the host, or a GPU would be waited for.

    Args:
        sequences: int64 [batch, length + 1], of which `micro` at a time are trained on.
    """
    ends = (sequences[:, :-1] == end_token).sum(1)
    most = int(ends.reshape(-1, micro).sum(1).max()) + micro
    return max(_LEAST, 1 << (most - 1).bit_length())


def boundaries(inputs: torch.Tensor, end_token: int, room: int) -> torch.Tensor:
    """Where documents begin in a packed batch laid end to end, int32 [room + 1]; the total where there are no more.

    Args:
        inputs: int64 [batch, length]. A document ends with its end token, or with its row.
        room: documents at most.
    """
    starts = torch.ones_like(inputs)
    starts[:, 1:] = inputs[:, :-1] == end_token
    counted = starts.flatten().cumsum(0)
    numbers = torch.arange(1, room + 2, device=inputs.device)
    return torch.searchsorted(counted, numbers, out_int32=True)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: torch.Tensor, scale: float
) -> torch.Tensor:
    """Causal attention within documents: [batch, heads, length, width] in, [batch, length, heads, width] out.

    Args:
        key, value: with as many heads, or fewer that divide them.
        bounds: see `boundaries`.
    """
    kernel: Any = varlen_kernel()
    batch, heads, length, width = query.shape
    dtype = torch.get_autocast_dtype(query.device.type)

    def flat(each: torch.Tensor) -> torch.Tensor:
        each = each.transpose(1, 2)
        if each.shape[2] < heads:
            each = each.repeat_interleave(heads // each.shape[2], 2)
        return each.to(dtype).reshape(batch * length, heads, width)

    mixed: torch.Tensor = kernel(
        flat(query), flat(key), flat(value), bounds, bounds, length, length, scale=scale, window_size=(-1, 0)
    )
    return mixed.view(batch, length, heads, width)
