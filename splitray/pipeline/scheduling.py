"""The scheduler of a run: what its configuration, its models and its cluster say of times. No Ray."""

from collections.abc import Mapping

from splitray.executor.accelerators import ACCELERATORS, GPU_DEFAULT, find
from splitray.executor.schedule import Scheduler
from splitray.executor.speeds import Speeds
from splitray.pipeline.programme import Programme, labels


def speeds_of(
    programme: Programme, gpu: bool, measured: Mapping[int, float] | None = None, kind: str | None = None
) -> Speeds:
    """How fast the run's models train.

    Args:
        measured: tokens a second of one worker by N, as earlier segments had them; the configuration goes before.
        kind: of the cluster's GPUs, where it is known; the configuration goes before.
    """
    resources = programme.config.resources
    device = find(resources.accelerator_type or kind or GPU_DEFAULT) if gpu else ACCELERATORS["CPU"]
    return Speeds(
        device,
        programme.training,
        programme.sizes,
        programme.corpus.vocab,
        gpu,
        {**(measured or {}), **_given(programme)},
    )


def _given(programme: Programme) -> dict[int, float]:
    """The rates of the configuration by N; 0 stands for every model."""
    rates, config = programme.config.resources.tokens_per_second, programme.config
    if rates is None:
        return {}
    if not isinstance(rates, dict):
        return {0: rates}
    shapes = list(dict.fromkeys([config.model, *config.ladder.shapes]))
    return {programme.size(s).params: rates[n] for n, s in zip(labels(shapes), shapes, strict=True) if n in rates}


def scheduler_of(programme: Programme, speeds: Speeds) -> Scheduler:
    """As the coordinator has it on a cluster of the configured capacity, else on the fewest workers that suffice."""
    resources = programme.config.resources
    per_worker = 1 if speeds.gpu else programme.training.threads
    workers = (resources.capacity or 0) // per_worker
    workers = max(1, workers, resources.base_workers, resources.specialist_workers)
    return Scheduler(
        speeds,
        workers,
        programme.config.evaluate.validation_tokens,
        speeds.gpu and resources.schedule == "auto",
        resources.idle_seconds,
    )
