"""The client of the coordinator in the driver: asks for leaves and shows progress while it waits."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from splitray.errors import SplitrayError, StageError, UserError
from splitray.executor.connect import worker_environment
from splitray.executor.coordinator import Coordinator
from splitray.executor.request import Request
from splitray.executor.settings import ResourceSettings
from splitray.executor.worker import COORDINATOR, RunContext
from splitray.storage.probe import check_seen
from splitray.units import human

_log = logging.getLogger(__name__)

_EVERY = 5.0  # seconds between progress lines
_RESTARTS = 20  # of the coordinator's process: more deaths than that are a fault, not bad luck


def start_coordinator(context: RunContext, capacity: float, limit: int) -> Any:
    """The actor that owns the tree; see `Coordinator`.

    It stands beside the driver where that node has room, not on a spot worker. It holds no truth, so when its process
    dies a new one takes over the calls that wait. Its environment names the cluster: Ray Train's helpers look for it
    by themselves, and where an address file of a dead cluster lies about they print errors and hold every worker group
    for 12 s.
    """
    runtime = ray.get_runtime_context()
    return (
        ray.remote(Coordinator)
        .options(
            name=COORDINATOR,
            namespace=context.namespace,
            num_cpus=0,
            max_concurrency=10_000,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(runtime.get_node_id(), soft=True),
            runtime_env={"env_vars": {**worker_environment(), "RAY_ADDRESS": runtime.gcs_address}},
        )
        .remote(context, capacity, limit)
    )


class ExecutorClient:
    """The driver's handle of the coordinator: asks for leaves and prints progress while it waits."""

    def __init__(
        self,
        resources: ResourceSettings,
        context: RunContext,
        validation_tokens: int,
        event: Callable[..., None],
    ) -> None:
        self._event = event
        check_seen(context.store)
        capacity = resources.capacity or ray.cluster_resources().get("GPU" if context.use_gpu else "CPU", 0)
        for name, workers in (
            ("resources.base_workers", resources.base_workers),
            ("resources.specialist_workers", resources.specialist_workers),
        ):
            per_worker = 1 if context.use_gpu else context.training.threads
            if workers * per_worker > capacity:
                unit = "GPU" if context.use_gpu else "CPU (training.threads)"
                raise UserError(
                    f"{name} = {workers} workers x {per_worker} {unit} = {workers * per_worker} exceed the cluster's "
                    f"{capacity:g}: lower it, or start a larger cluster"
                )
        self.actor = start_coordinator(context, capacity, validation_tokens)

    def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Train and score; see `Coordinator.leaves`. Prints a line every few seconds."""
        ref, said = self.actor.leaves.remote(list(requests)), time.monotonic()
        while True:
            ready, _ = ray.wait([ref], timeout=_EVERY)
            if ready:
                break
            if time.monotonic() - said >= _EVERY:
                said = time.monotonic()
                self.tell(self.progress())
        try:
            return list(ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            raise told_by(error) from error
        except ray.exceptions.RayError as error:  # of memory, too, which is no RayActorError
            raise StageError(
                f"the coordinator of the tree died: {error}; start again, it continues from the store"
            ) from error

    def watch(self, work: Callable[[], Any]) -> Any:
        """Run something on the driver that asks the coordinator by itself (Ray Tune), with progress lines meanwhile."""
        over = threading.Event()

        def talk() -> None:
            with contextlib.suppress(ray.exceptions.RayError):  # a dead coordinator is told by the work itself
                while not over.wait(_EVERY):
                    self.tell(self.progress())

        talker = threading.Thread(target=talk, daemon=True, name="progress")
        talker.start()
        try:
            return work()
        finally:
            over.set()
            talker.join(timeout=_EVERY)

    def progress(self) -> dict[str, Any]:
        return dict(ray.get(self.actor.progress.remote()))

    def tell(self, progress: dict[str, Any]) -> None:
        running = progress["running"].values()
        trained = progress["trained"] + sum(r["call_tokens"] for r in running)
        rate = sum(r["rate"] for r in running)
        now = ", ".join(f"{r['source']} {r['loss']:.3f}" for r in list(running)[:4])
        _log.info(
            f"   {progress['finished']}/{progress['segments']} segments, {human(trained)}/{human(progress['tokens'])} "
            f"tokens, {human(rate)} tokens/s" + (f"; loss: {now}" if now else "")
        )
        counters = {k: v for k, v in progress.items() if k != "running"}  # every worker each time would be megabytes
        self._event("progress", **counters, workers=len(running), rate=round(rate, 1))

    def begin_stage(self) -> None:
        ray.get(self.actor.begin_stage.remote())

    def stop(self) -> None:
        """Ask every worker to checkpoint; waits a moment for them."""
        ray.get(self.actor.stop.remote(), timeout=25)


def told_by(error: ray.exceptions.RayTaskError) -> SplitrayError:
    """The error of ours that ended a call of the coordinator, else a `StageError` with Ray's words."""
    return error.cause if isinstance(error.cause, SplitrayError) else StageError(str(error))
