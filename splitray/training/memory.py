"""What a training process holds in memory, and how much of it is to be computed again so that it fits.

Bytes a token and unit of width in a block, under bf16 autocast. Eager and compiled are what 4 sequences more added to
measured peaks on one H100, at 1.3B parameters (sequence 2,048). With full recomputation autograd keeps 6 of a Llama
block, and 58 without. A selective one keeps 23 more: matrix products and attention, counted. What the loss holds is
counted from its own code, see `chunks.fused_bytes`.
"""

from functools import partial
from typing import TYPE_CHECKING

from splitray.training.chunks import fused_bytes, small_rows
from splitray.training.family import Size
from splitray.training.settings import TrainingSettings

if TYPE_CHECKING:
    from splitray.training.blocks import Checkpointing  # which imports torch, and the dry run does without it

_EAGER, _COMPILED, _SELECTIVE, _FULL = 56.0, 34.7, 29.0, 6.0
_ORDER: "tuple[Checkpointing, ...]" = ("none", "selective", "full")
_FILLED = 0.9  # of a GPU: the rest is CUDA's context, NCCL's buffers and what the allocator cannot use
_FP32 = 1.39  # times as much in fp32, counted on a CPU
_BUCKET = 500_000_000  # entries of each of DeepSpeed's two fp32 buckets of gradients, at most
_A_LOGIT = 10.0  # bytes where the loss is not fused: fp32 logits and probabilities, bf16 gradient


def state_bytes(counted: Size, stage: int, world: int) -> float:
    """Weights, gradients, moments and copies for the products, by ZeRO stage (Rajbhandari et al. 2020)."""
    n, shard = counted.total, 1.0 / world
    weights = 4 * n * (shard if stage >= 3 else 1) + 2 * n
    gradients = 4 * n * (shard if stage >= 2 else 1)
    return weights + gradients + (12 * n * shard if stage >= 1 else 8 * n)


def activation_bytes(counted: Size, tokens: int, how: "Checkpointing", compiled: bool) -> float:
    """What the forward pass of `tokens` at once leaves for the backward pass, without the head's."""
    plain = _COMPILED if compiled else _EAGER
    unit = float(tokens * counted.hidden)
    if how == "none":
        return plain * unit * counted.layers
    kept = min(plain, _SELECTIVE) if how == "selective" else _FULL
    return kept * unit * counted.layers + plain * unit  # one block is whole while it runs again


def choose_checkpointing(
    counted: Size, tokens: int, stage: int, world: int, compiled: bool, capacity: int
) -> "Checkpointing":
    """The first of none, selective and full that fits `capacity` bytes; full where none does."""
    room = _FILLED * capacity - state_bytes(counted, stage, world)
    fitting = (how for how in _ORDER if activation_bytes(counted, tokens, how, compiled) <= room)
    return next(fitting, "full")


def step_bytes(
    size: Size, vocab: int, training: TrainingSettings, workers: int, compiled: bool, capacity: int | None
) -> float:
    """Bytes that one of `workers` processes holds at the peak of a step, without those of CUDA and NCCL themselves.

    Args:
        vocab: of the head. Under ZeRO 3 it holds the logits of a whole micro-batch, else a chunk at a time.
        capacity: bytes of the GPU, which `training.activation_checkpointing` may choose by; None on a CPU.
    """
    stage = training.stage(workers)
    local = max(1, training.global_batch_size // workers)
    tokens = min(training.micro_batch_size, local) * training.sequence_length
    how: Checkpointing = "none"
    if training.activation_checkpointing != "auto":
        how = training.activation_checkpointing
    elif capacity is not None:
        how = choose_checkpointing(size, tokens, stage, workers, compiled, capacity)
    states, activations = state_bytes(size, stage, workers), activation_bytes(size, tokens, how, compiled)
    narrow = 4 if training.precision == "fp32" else 2
    if narrow == 4:
        states, activations = states - 2 * size.total, activations * _FP32
    buckets = 8.0 * min(size.total, _BUCKET) if stage >= 1 else 0.0
    if stage >= 3 or capacity is None:
        rows = tokens if stage >= 3 else min(tokens, small_rows(vocab, "cpu"))
        return states + activations + buckets + _A_LOGIT * rows * vocab
    loss = partial(fused_bytes, tokens, vocab, size.hidden, narrow)
    step = states + activations + buckets + loss(graded=compiled)
    # a step is tried before the loss is compiled, without moments or gradients: the peak of small models
    trial = (4.0 if narrow == 4 else 6.0) * size.total + activations + loss(graded=False)
    return max(step, trial) if compiled else step
