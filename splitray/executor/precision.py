"""bf16 or fp32 on a cluster: measured on a worker, chosen once for the store."""

import ray

from splitray.executor.connect import nodes
from splitray.executor.machine import cpu_model
from splitray.executor.waiting import waiting_said
from splitray.storage.store import Store
from splitray.training.precision import PrecisionChoice, choose, measure_precision
from splitray.training.settings import ModelShape, TrainingSettings


def resolve_precision(
    store: Store, shape: ModelShape, training: TrainingSettings, vocab: int, machine: str | None
) -> PrecisionChoice:
    """What `training.precision: auto` means on a kind of machine, None for GPUs; see `choose`."""
    if machine is None:
        return PrecisionChoice("bf16", "GPUs train in bf16")
    return choose(store, machine, lambda: measured_speeds(shape, training, vocab))


def kind_of_machine(training: TrainingSettings) -> str:
    """The processor that trains: this one's where the cluster has one node, else that of some worker."""
    if nodes() == 1:
        return cpu_model()
    task = ray.remote(cpu_model).options(name="kind[precision]", num_cpus=training.worker_cpus)
    with waiting_said("the look at the machines that train"):
        return str(ray.get(task.remote()))


def measured_speeds(shape: ModelShape, training: TrainingSettings, vocab: int) -> dict[str, float]:
    """Training speeds of a worker in tokens per second, by precision."""
    task = ray.remote(_measure).options(name="measure[precision]", num_cpus=training.worker_cpus)
    with waiting_said("the measurement of precision"):
        speeds: dict[str, float] = ray.get(task.remote(shape, training, vocab))
    return speeds


def _measure(shape: ModelShape, training: TrainingSettings, vocab: int) -> dict[str, float]:
    """In a process of its own, set up as the training's are."""
    from splitray.training.process import keep_memory

    keep_memory()
    return measure_precision(shape, training, vocab)
