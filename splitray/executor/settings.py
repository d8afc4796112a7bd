"""Settings of the executor: where the work runs."""

from typing import Literal

from splitray.settings import Settings, operational


class ResourceSettings(Settings):
    """Where the work runs. Nothing here changes what comes out, but for the world size of groups, which is recorded."""

    accelerator: Literal["auto", "cpu", "gpu"] = operational("auto", "With auto, GPUs where the cluster has any.")
    base_workers: int = operational(1, "Workers of the group that trains the target's mixture segments.", ge=1)
    specialist_workers: int = operational(1, "Workers of each specialist.", ge=1)
    capacity: float | None = operational(
        None, "CPUs (GPUs) that hosts may hold together; default: what the cluster has at the start.", gt=0
    )
    silence_seconds: float = operational(
        60.0,
        "Seconds without a sign of life after which a worker, or the coordinator, counts as hung and is replaced. "
        "A thread gives signs about once a second, however long a training step takes.",
        ge=5,  # signs come about once a second, and the machine may be busy
    )
    tokens_per_second: float | None = operational(
        None, "Measured training speed of one worker, for the times that --dry-run tells.", gt=0
    )
    price_per_hour: float | None = operational(
        None, "Price of one worker for one hour, for the cost that --dry-run tells.", ge=0
    )
