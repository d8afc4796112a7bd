"""The client of the coordinator in the driver: asks for leaves and shows progress while it waits."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from splitray.errors import SplitrayError, StageError, UserError
from splitray.evaluate.exams import Exam
from splitray.executor.connect import worker_environment
from splitray.executor.coordinator import Coordinator
from splitray.executor.relay import log_again
from splitray.executor.request import Request
from splitray.executor.settings import ResourceSettings
from splitray.executor.watch import COORDINATOR
from splitray.executor.worker import RunContext
from splitray.runtime.points import Point, publish
from splitray.runtime.progress import Pace, Progress, effort, report
from splitray.runtime.worker_state import WorkerState
from splitray.storage.probe import check_seen
from splitray.units import human

_log = logging.getLogger(__name__)

_TICK = 1.0  # seconds between looks at the work
_EVERY = 5.0  # seconds between events of progress, and that an answer of the coordinator may take
_SHOWN = 4  # losses in a line of progress
_PING = 3.0  # seconds for an answer that takes none, when the run is to stop
_START = 300.0  # seconds that a new coordinator may take to answer: it imports, and lists the store
_LATE = 15.0  # seconds without an answer, after which it is said
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
            runtime_env={"env_vars": {**worker_environment(), "RAY_ADDRESS": runtime.gcs_address}},
        )
        .remote(context, capacity, limit)
    )


class ExecutorClient:
    """The driver's handle of the coordinator: asks for leaves and logs progress while it waits.

    Args:
        validation_tokens: of a domain that leaves are scored on.
        event: is called with the kind and the values of an event.
        seen: is called with the stage's counters every second; see `Coordinator.progress`.
    """

    def __init__(
        self,
        resources: ResourceSettings,
        context: RunContext,
        validation_tokens: int,
        event: Callable[..., None],
        seen: Callable[[Mapping[str, Any]], None] = lambda counters: None,
    ) -> None:
        self._event, self._seen, self._silence = event, seen, context.silence_seconds
        self._pace, self._event_at = Pace(), 0.0
        check_seen(context.store)
        capacity = resources.capacity or ray.cluster_resources().get("GPU" if context.use_gpu else "CPU", 0)
        for name, workers in resources.smallest_groups.items():
            per_worker = 1 if context.use_gpu else context.training.threads
            if workers * per_worker > capacity:
                unit = "GPU" if context.use_gpu else "CPU (training.threads)"
                raise UserError(
                    f"{name} = {workers} workers x {per_worker} {unit} = {workers * per_worker} exceed the cluster's "
                    f"{capacity:g}: lower it, or start a larger cluster"
                )
        self.actor = start_coordinator(context, capacity, validation_tokens)
        self._heard, self._answered = time.monotonic(), False
        self._usage: Any = None  # a question for usage that was not answered yet

    def usage(self) -> list[WorkerState]:
        """What workers have done with their devices since the last call; nothing where the coordinator is silent.

        To be called from one thread at a time. An answer that comes late is given by the next call.
        """
        if self._usage is None:
            self._usage = self.actor.usage.remote()
        try:
            answer = list(ray.get(self._usage, timeout=_EVERY))
        except ray.exceptions.GetTimeoutError:
            return []
        except ray.exceptions.RayError:  # it died: the next one tells that its workers are gone
            answer = []
        self._usage = None
        return answer

    def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Train and score; see `Coordinator.leaves`. Logs progress meanwhile."""
        return list(self._followed(self.actor.leaves.remote(list(requests))))

    def answers(self, keys: Sequence[str], exams: Sequence[Exam]) -> None:
        """Have published segments take exams; see `Coordinator.answers`. Logs progress meanwhile."""
        self._followed(self.actor.answers.remote(list(keys), list(exams)))

    def _followed(self, ref: Any) -> Any:
        """What a call of the coordinator returns, with progress while it works."""
        while not ray.wait([ref], timeout=_TICK)[0]:
            self._follow()
        try:
            result = ray.get(ref)
            self._fetch_messages()
            return result
        except ray.exceptions.RayTaskError as error:
            self._fetch_messages()
            raise told_by(error) from error
        except ray.exceptions.RayError as error:  # of memory, too, which is no RayActorError
            raise _dead(error) from error

    def watch(self, work: Callable[[], Any]) -> Any:
        """Run something on the driver that asks the coordinator by itself (Ray Tune), with progress meanwhile."""
        over = threading.Event()

        def talk() -> None:
            while not over.wait(_TICK):
                self._follow()
            self._fetch_messages()

        talker = threading.Thread(target=talk, daemon=True, name="progress")
        talker.start()
        try:
            return work()
        finally:
            over.set()
            talker.join(timeout=_EVERY)

    def _follow(self) -> None:
        """Log what the actors logged and how far the stage is; a coordinator silent for long is replaced."""
        try:
            asked = [self.actor.messages.remote(), self.actor.progress.remote(), self.actor.points.remote()]
            messages, progress, points = ray.get(asked, timeout=_EVERY)
        except ray.exceptions.GetTimeoutError:
            self._mind_silence()
            return
        except ray.exceptions.RayError:  # it died: what waits for its work is told so, or goes on with the next one
            return
        self._heard, self._answered = time.monotonic(), True
        log_again(messages)
        self._publish(points)
        self._seen(progress)
        self.tell(progress)

    def _mind_silence(self) -> None:
        """Say that the coordinator does not answer; after long, end its process, so that Ray starts another."""
        silence = time.monotonic() - self._heard
        if silence < (self._silence if self._answered else max(self._silence, _START)):
            if silence > _LATE:
                _log.warning("the coordinator has not answered for %.0f s", silence)
            return
        _log.warning("the coordinator has not answered for %.0f s: its process is replaced", silence)
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
        """The stage's counters; see `Coordinator.progress`."""
        self._publish(self._ask(self.actor.points.remote()))  # those of its last second
        return dict(self._ask(self.actor.progress.remote()))

    def _publish(self, points: Iterable[Point]) -> None:
        for point in points:
            publish(_log, point)

    def tell(self, counters: dict[str, Any]) -> None:
        """Log how far the stage is, every few seconds as an event too."""
        running, now = counters["running"].values(), time.monotonic()
        if _under_way(counters):
            report(_log, look(counters, self._pace, now))
        if now - self._event_at >= _EVERY:
            self._event_at = now
            plain = {k: v for k, v in counters.items() if k not in ("running", "spent")}  # a worker each is megabytes
            rate = round(sum(r["rate"] for r in running), 1)
            self._event("progress", **plain, workers=len(running), rate=rate)

    def _fetch_messages(self) -> None:
        """Take over what was logged and counted since the last look."""
        with contextlib.suppress(ray.exceptions.RayError):  # whoever waits for the coordinator hears of its death
            asked = [self.actor.messages.remote(), self.actor.progress.remote()]
            messages, counters = ray.get(asked, timeout=_EVERY)
            log_again(messages)
            self._seen(counters)

    def begin_stage(self) -> None:
        self._pace = Pace()
        self._ask(self.actor.begin_stage.remote())

    def stop(self) -> None:
        """Have every worker checkpoint what it trains. Returns when they have; soon where the coordinator is silent."""
        with contextlib.suppress(ray.exceptions.RayError):
            stopped, alive = self.actor.stop.remote(), self.actor.messages.remote()
            ray.get(alive, timeout=_PING)
            ray.get(stopped, timeout=_STOP)
            self._seen(ray.get(self.actor.progress.remote(), timeout=_PING))


def _dead(error: Exception) -> StageError:
    return StageError(f"the coordinator of the tree died: {error}; start again, it continues from the store")


def _under_way(counters: Mapping[str, Any]) -> bool:
    """Whether the tree has something to do; while a search fits its law anew it has not, and others report."""
    asked = counters["leaves"] > counters["scored"] or counters["segments"] > counters["finished"]
    return bool(asked or not counters["leaves"])


def look(counters: Mapping[str, Any], pace: Pace, now: float) -> Progress:
    """How far a stage is by its counters, see `Coordinator.progress`, at a time in seconds."""
    running = list(counters["running"].values())
    trained = counters["trained"] + sum(r["call_tokens"] for r in running)
    done = counters["effort_trained"] + sum(effort(r["params"], r["call_tokens"]) for r in running)
    pace.see(done, now)
    if not counters["segments"]:
        if not counters["leaves"]:
            return Progress("models", "none asked for yet")
        return Progress("models", f"nothing to train, {counters['scored']}/{counters['leaves']} scored")
    text = f"{counters['finished']}/{counters['segments']} segments"
    if counters["finished"] == counters["segments"]:
        return Progress("models", f"{text}, {counters['scored']}/{counters['leaves']} scored", share=1.0)
    text += f", {human(trained)} of {human(counters['tokens'])} tokens"
    rate = sum(r["rate"] for r in running)
    text += f", {human(rate)} tokens/s" if running else ", workers start" if not trained else ""
    losses = ", ".join(f"{r['source']} {r['loss']:.3f}" for r in running[:_SHOWN])
    return Progress(
        "training",
        text,
        detail=f"loss: {losses}" if losses else "",
        share=done / counters["effort"] if counters["effort"] else None,  # a state without a token trains nothing
        left=pace.left(counters["effort"] - done),
        rate=pace.rate,
    )


def told_by(error: ray.exceptions.RayTaskError) -> SplitrayError:
    """The error of ours that ended a call of the coordinator, else a `StageError` with Ray's words."""
    return error.cause if isinstance(error.cause, SplitrayError) else StageError(str(error))
