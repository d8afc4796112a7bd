"""What a training process holds in memory, foretold from the shape. Checked against one H100's measured peaks.

Measured at 1.3B parameters (width 2,048, 24 layers, 2,048 tokens a sequence, autocast), in GiB: eager 44.1 with 4
sequences at once and 65.1 with 8, so 55 bytes a token and unit of width; compiled 36.8 with 4; eager with ZeRO 1 in a
world of one 52.7.
"""

from splitray.training.family import Size
from splitray.training.settings import TrainingSettings

# Bytes of activations for each token and unit of width of every layer. In fp32 a step on a CPU kept 1.39 times as much.
_EAGER, _COMPILED, _FP32 = 55.4, 38.0, 1.39
_BUCKET = 500_000_000  # entries of each of DeepSpeed's two buckets of gradients, at most
_LOGITS = {False: 1 << 20, True: 1 << 26}  # at once, on a CPU and on a GPU; `head` imports torch, the dry run does not
_A_LOGIT = 10.0  # bytes: fp32 logits and probabilities, bf16 gradient


def step_bytes(size: Size, vocab: int, training: TrainingSettings, workers: int, gpu: bool, compiled: bool) -> float:
    """Bytes that one of `workers` processes holds at the peak of a step, without those of CUDA and NCCL themselves.

    Weights, gradients and Adam moments are fp32, and shared by ZeRO as Rajbhandari et al. 2020 say: stage 1 shares the
    moments and DeepSpeed's own copy of the weights, 2 the gradients, 3 the weights. From stage 1 on there are two
    buckets for reductions. Under autocast the graph keeps a bf16 copy of every weight.

    Args:
        vocab: of the head. Under ZeRO 3 it holds the logits of a whole micro-batch, else a part at a time.
        compiled: whether `torch.compile` is used, which keeps less for the backward pass.
    """
    stage, n, shard = training.stage(workers), size.total, 1.0 / workers
    local = max(1, training.global_batch_size // workers)
    tokens = min(training.micro_batch_size, local) * training.sequence_length
    weights = 4.0 * n * (shard if stage >= 3 else 1)
    gradients = 4.0 * n * (shard if stage >= 2 else 1)
    moments = 12.0 * n * shard + 8.0 * min(n, _BUCKET) if stage >= 1 else 8.0 * n
    low = training.precision != "fp32"
    a_token = _COMPILED if compiled else _EAGER
    activations = a_token * (1.0 if low else _FP32) * tokens * size.hidden * size.layers
    logits = float(tokens * vocab)
    if stage < 3:
        logits = min(logits, _LOGITS[gpu])
    return weights + gradients + moments + (2.0 * n if low else 0.0) + activations + _A_LOGIT * logits
