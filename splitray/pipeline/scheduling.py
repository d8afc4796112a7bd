"""The scheduler of a run: what its configuration, its models and its cluster say of times. No Ray."""

from collections.abc import Mapping, Sequence

from splitray.executor.accelerators import ACCELERATORS, GPU_DEFAULT, Accelerator, find
from splitray.executor.durations import Durations
from splitray.executor.schedule import Scheduler
from splitray.executor.settings import ResourceSettings
from splitray.pipeline.programme import Programme, labels
from splitray.training.family import Size
from splitray.training.settings import ModelShape, TrainingSettings


def speeds_of(
    programme: Programme, gpu: bool, measured: Mapping[int, float] | None = None, kind: str | None = None
) -> Durations:
    """How fast the run's models train.

    Args:
        measured: tokens a second of one worker by N, as earlier segments had them. The configuration's by shape go
            before.
        kind: of the cluster's GPUs, where it is known; the configuration goes before.
    """
    config = programme.config
    shapes = list(dict.fromkeys([config.model, *config.ladder.shapes]))
    rates = {**(measured or {}), **given_rates(config.resources, shapes, [programme.size(s) for s in shapes])}
    device = accelerator(config.resources, gpu, kind)
    return Durations(device, programme.training, programme.sizes, programme.corpus.vocab, gpu, rates)


def accelerator(resources: ResourceSettings, gpu: bool, kind: str | None = None) -> Accelerator:
    """What a worker trains on, by the table."""
    return find(resources.accelerator_type or kind or GPU_DEFAULT) if gpu else ACCELERATORS["CPU"]


def given_rates(resources: ResourceSettings, shapes: Sequence[ModelShape], sizes: Sequence[Size]) -> dict[int, float]:
    """The rates of the configuration by N; 0 stands for every other model."""
    named = zip(labels(shapes), sizes, strict=True)
    by_shape = resources.tokens_per_second_by_shape
    rates = {size.params: by_shape[name] for name, size in named if name in by_shape}
    return rates if resources.tokens_per_second is None else {0: resources.tokens_per_second} | rates


def scheduler_of(programme: Programme, speeds: Durations) -> Scheduler:
    """As the coordinator has it on a cluster of the configured capacity, else on the fewest workers that suffice."""
    resources = programme.config.resources
    return scheduler(resources, programme.training, speeds, programme.config.evaluate.validation_tokens)


def scheduler(resources: ResourceSettings, training: TrainingSettings, speeds: Durations, limit: int) -> Scheduler:
    """As `scheduler_of`, of any job.

    Args:
        limit: validation tokens a domain is scored on.
    """
    per_worker = 1 if speeds.gpu else training.threads
    workers = (resources.capacity or 0) // per_worker
    workers = max(1, workers, resources.base_workers, resources.specialist_workers)
    return Scheduler(speeds, workers, limit, speeds.gpu and resources.schedule == "auto", resources.idle_seconds)
