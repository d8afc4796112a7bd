"""What a training process holds in memory, and how much of it is to be computed again so that it fits.

Bytes a token and unit of width in a block, under bf16 autocast. Eager and compiled are from measured peaks on one H100
at 1.3B parameters (sequence 2,048). With full recomputation autograd keeps 6 of a Llama block, and 58 without. A
selective one keeps 23 more: matrix products and attention, counted.
"""

from splitray.training.blocks import Checkpointing
from splitray.training.family import Size

_EAGER, _COMPILED, _SELECTIVE, _FULL = 56.0, 36.5, 29.0, 6.0
_ORDER: tuple[Checkpointing, ...] = ("none", "selective", "full")
_FILLED = 0.9  # of a GPU: the rest is CUDA's context, NCCL's buffers and what the allocator cannot use


def state_bytes(counted: Size, stage: int, world: int) -> float:
    """Weights, gradients, moments and copies for the products, by ZeRO stage (Rajbhandari et al. 2020)."""
    n, shard = counted.total, 1.0 / world
    weights = 4 * n * (shard if stage >= 3 else 1) + 2 * n
    gradients = 4 * n * (shard if stage >= 2 else 1)
    return weights + gradients + (12 * n * shard if stage >= 1 else 8 * n)


def activation_bytes(counted: Size, tokens: int, how: Checkpointing, compiled: bool) -> float:
    """What the forward pass of `tokens` at once leaves for the backward pass, without the head's."""
    plain = _COMPILED if compiled else _EAGER
    unit = float(tokens * counted.hidden)
    if how == "none":
        return plain * unit * counted.layers
    kept = min(plain, _SELECTIVE) if how == "selective" else _FULL
    return kept * unit * counted.layers + plain * unit  # one block is whole while it runs again


def choose_checkpointing(
    counted: Size, tokens: int, stage: int, world: int, compiled: bool, capacity: int
) -> Checkpointing:
    """The first of none, selective and full that fits `capacity` bytes; full where none does."""
    room = _FILLED * capacity - state_bytes(counted, stage, world)
    fitting = (how for how in _ORDER if activation_bytes(counted, tokens, how, compiled) <= room)
    return next(fitting, "full")
