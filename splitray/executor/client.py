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
from splitray.executor.coordinator import Coordinator, Request
from splitray.executor.settings import ResourceSettings
from splitray.executor.watch import COORDINATOR
from splitray.executor.worker import RunContext
from splitray.storage.probe import check_seen
from splitray.units import human

_log = logging.getLogger(__name__)

_EVERY = 5.0  # seconds between progress lines
_PING = 3.0  # seconds for an answer that takes none, when the run is to stop
_START = 300.0  # seconds that a new coordinator may take to answer: it imports, and lists the store
_STOP = 25.0  # seconds that a stop may take: the coordinator waits 20 s for checkpoints
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
            runtime_env={"env_vars": {"RAY_ADDRESS": runtime.gcs_address}},
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
        self._event, self._silence = event, context.silence_seconds
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
        self._heard, self._answered = time.monotonic(), False

    def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Train and score; see `Coordinator.leaves`. Prints a line every few seconds."""
        ref = self.actor.leaves.remote(list(requests))
        while not ray.wait([ref], timeout=_EVERY)[0]:
            self._follow()
        try:
            return list(ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            raise told_by(error) from error
        except ray.exceptions.RayError as error:  # of memory, too, which is no RayActorError
            raise _dead(error) from error

    def watch(self, work: Callable[[], Any]) -> Any:
        """Run something on the driver that asks the coordinator by itself (Ray Tune), with progress lines meanwhile."""
        over = threading.Event()

        def talk() -> None:
            while not over.wait(_EVERY):
                self._follow()

        talker = threading.Thread(target=talk, daemon=True, name="progress")
        talker.start()
        try:
            return work()
        finally:
            over.set()
            talker.join(timeout=_EVERY)

    def _follow(self) -> None:
        """Tell the coordinator's notices and progress; one that has been silent for long is named and replaced."""
        try:
            asked = [self.actor.notices.remote(), self.actor.progress.remote()]
            notices, progress = ray.get(asked, timeout=_EVERY)
        except ray.exceptions.GetTimeoutError:
            self._mind_silence()
            return
        except ray.exceptions.RayError:  # it died: what waits for its work is told so, or goes on with the next one
            return
        self._heard, self._answered = time.monotonic(), True
        for notice in notices:
            _log.warning("   %s", notice)
        self.tell(progress)

    def _mind_silence(self) -> None:
        """Say that the coordinator does not answer; after long, end its process, so that Ray starts another."""
        silence = time.monotonic() - self._heard
        if silence < (self._silence if self._answered else max(self._silence, _START)):
            _log.warning("   the coordinator has not answered for %.0f s", silence)
            return
        _log.warning("   the coordinator has not answered for %.0f s: its process is replaced", silence)
        ray.kill(self.actor, no_restart=False)  # the calls that wait go on with the next one, which reads the store
        self._heard, self._answered = time.monotonic(), False

    def _ask(self, ref: Any) -> Any:
        """What a call of the coordinator returns that takes no time by itself.

        Raises:
            StageError: the coordinator died too often.
        """
        self._heard = time.monotonic()
        while not ray.wait([ref], timeout=_EVERY)[0]:
            self._mind_silence()
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayActorError as error:
            raise _dead(error) from error
        self._heard, self._answered = time.monotonic(), True
        return answer

    def progress(self) -> dict[str, Any]:
        """The counters of the stage; see `Coordinator.progress`."""
        return dict(self._ask(self.actor.progress.remote()))

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
        self._ask(self.actor.begin_stage.remote())

    def stop(self) -> None:
        """Have every worker checkpoint what it trains. Returns when they have; soon where the coordinator is silent."""
        with contextlib.suppress(ray.exceptions.RayError):
            stopped, alive = self.actor.stop.remote(), self.actor.notices.remote()
            ray.get(alive, timeout=_PING)
            ray.get(stopped, timeout=_STOP)


def _dead(error: Exception) -> StageError:
    return StageError(f"the coordinator of the tree died: {error}; start again, it continues from the store")


def told_by(error: ray.exceptions.RayTaskError) -> SplitrayError:
    """The error of ours that ended a call of the coordinator, else a `StageError` with Ray's words."""
    return error.cause if isinstance(error.cause, SplitrayError) else StageError(str(error))
