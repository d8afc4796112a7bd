"""bf16 or fp32: measured on the machine that will train, never assumed."""

import logging
from typing import Any

import ray

from splitray.executor.waiting import waiting_said
from splitray.training.precision import measure_precision
from splitray.training.settings import ModelShape, TrainingSettings

_log = logging.getLogger(__name__)

_MARGIN = 1.1  # bf16 must win by a tenth: near a tie fp32 is the safer arithmetic


def _measure(shape: ModelShape, training: TrainingSettings, vocab: int) -> dict[str, float]:
    """In a process of its own, set up as the training's are."""
    from splitray.training.engine import keep_memory

    keep_memory()
    return measure_precision(shape, training, vocab)


def resolve_precision(shape: ModelShape, training: TrainingSettings, vocab: int, use_gpu: bool) -> dict[str, Any]:
    """The faster precision for the target model, with both speeds in tokens per second (CPU)."""
    if use_gpu:
        return {"precision": "bf16", "why": "GPUs train in bf16"}
    with waiting_said("the measurement of precision"):
        speeds = ray.get(
            ray.remote(_measure)
            .options(name="measure[precision]", num_cpus=training.worker_cpus)
            .remote(shape, training, vocab)
        )
    chosen = "bf16" if speeds["bf16"] > _MARGIN * speeds["fp32"] else "fp32"
    _log.info(f"   precision {chosen}: {speeds['fp32']:.0f} tokens/s in fp32, {speeds['bf16']:.0f} in bf16")
    return {"precision": chosen, "tokens_per_second": speeds}
