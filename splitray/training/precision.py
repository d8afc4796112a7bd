"""The training speed of a process in fp32 and in bf16: measured, never assumed."""

import time

import numpy as np

from splitray.training.settings import ModelShape, TrainingSettings

_STEPS = 6
_LARGEST = 8_000_000  # parameters of the model measured on a CPU; the ratio no longer moves above


def measure_precision(shape: ModelShape, training: TrainingSettings, vocab: int) -> dict[str, float]:
    """Training speed of one process in either precision, tokens per second; takes a few seconds."""
    import torch

    from splitray.training import engine as engines
    from splitray.training.model import build, size
    from splitray.training.recipe import recipe

    torch.set_num_threads(training.threads)  # of this process, which measures and ends
    engines.join_world()
    if shape.path is not None or size(shape, vocab, training).params > _LARGEST:
        shape = ModelShape(hidden=256, layers=4)
    sequences = np.random.default_rng(0).integers(
        vocab, size=(min(training.global_batch_size, 16), training.sequence_length + 1)
    )
    speeds = {}
    for precision in ("fp32", "bf16"):
        settings: TrainingSettings = training.model_copy(
            update={"precision": precision, "global_batch_size": len(sequences)}
        )
        made = recipe(shape, settings, {"content_hash": "", "vocab": vocab, "end_token": 0}, {}, 0)
        engine = engines.Engine(build(made), made, settings)
        laps = []
        for _ in range(_STEPS):
            begun = time.perf_counter()
            engine.step(sequences, 1e-4)
            laps.append(time.perf_counter() - begun)
        engine.close()
        speeds[precision] = sequences.shape[0] * training.sequence_length / min(laps[1:])
    return speeds
