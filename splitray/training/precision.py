"""bf16 or fp32: measured on the machine that will train, never assumed."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from splitray.training.settings import ModelShape, TrainingSettings

_STEPS, _MARGIN = 6, 1.1  # bf16 must win by a tenth: near a tie fp32 is the safer arithmetic
_LARGEST = 8_000_000  # parameters of the model measured on a CPU; the ratio no longer moves above


def resolve(
    shape: ModelShape, training: TrainingSettings, vocab: int, use_gpu: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """The faster precision for the target model, with both speeds in tokens per second (CPU)."""
    if use_gpu:
        return {"precision": "bf16", "why": "GPUs train in bf16"}
    import ray

    speeds = ray.get(
        ray.remote(measure)
        .options(name="measure[precision]", num_cpus=training.host_cpus)
        .remote(shape, training, vocab)
    )
    chosen = "bf16" if speeds["bf16"] > _MARGIN * speeds["fp32"] else "fp32"
    say(f"   precision {chosen}: {speeds['fp32']:.0f} tokens/s in fp32, {speeds['bf16']:.0f} in bf16")
    return {"precision": chosen, "tokens_per_second": speeds}


def measure(shape: ModelShape, training: TrainingSettings, vocab: int) -> dict[str, float]:
    """Training speed of one process in either precision, tokens per second; takes a few seconds."""
    import torch

    from splitray.training import engine as engines
    from splitray.training.model import build, size
    from splitray.training.tree import recipe

    torch.set_num_threads(training.threads)
    engines.join_world()
    if shape.path is not None or size(shape, vocab, training.tie_embeddings).params > _LARGEST:
        shape = ModelShape(hidden=256, layers=4)
    sequences = np.random.default_rng(0).integers(
        vocab, size=(min(training.batch_sequences, 16), training.sequence_length + 1)
    )
    speeds = {}
    for precision in ("fp32", "bf16"):
        settings: TrainingSettings = training.model_copy(
            update={"precision": precision, "batch_sequences": len(sequences)}
        )
        made = recipe(shape, settings, {"content_hash": "", "vocab": vocab, "end_token": 0}, {}, 0)
        engine = engines.Engine(build(made.values), made.values, settings)
        laps = []
        for _ in range(_STEPS):
            begun = time.perf_counter()
            engine.step(sequences, 1e-4)
            laps.append(time.perf_counter() - begun)
        engine.close()
        speeds[precision] = sequences.shape[0] * training.sequence_length / min(laps[1:])
    return speeds
