"""The half of the coordinator that has the workers: it lends, starts and calls them, and replaces those that die.

It knows nothing of the tree. What a call trains tells it how far the call got, and no more.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError

from splitray.errors import StageError
from splitray.executor.beats import Beats
from splitray.executor.compat import draining_nodes
from splitray.executor.elastic import Elastic, Resized, room, sizes
from splitray.executor.failures import LIMIT, Failure, RestartBudget
from splitray.executor.pool import Lease, Need, Pool
from splitray.executor.relay import Mailbox
from splitray.executor.upkeep import Upkeep
from splitray.executor.usage import UsageLog
from splitray.executor.work import Job
from splitray.executor.worker import RunContext, Worker
from splitray.runtime.worker_state import WorkerState
from splitray.training.loop import reached
from splitray.training.tree import Segment

_log = logging.getLogger(__name__)

_STATES = 100_000  # records of what workers do that wait for the driver: it asks once a second, or is gone
_HOPS = 8  # turns of the event loop after which whoever waited for a segment stands in the pool's queue
_LOOK = 0.3  # seconds between looks whether a worker is up, or another became idle


class Launcher(Protocol):
    """Makes and ends the actors of workers."""

    def start(self, name: str, workers: int, share: float, birth: str) -> "tuple[Any, asyncio.Future[Any]]":
        """The actor of a worker, and what is done when it has started.

        Args:
            workers: 1 for a single one, more for a group.
            share: of a device, for a single one.
            birth: see `Watch`.
        """

    def end(self, lease: Lease) -> None:
        """End the actor of a lease at once."""


class RayLauncher:
    """Workers as named actors of a run."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def start(self, name: str, workers: int, share: float, birth: str) -> "tuple[Any, asyncio.Future[Any]]":
        resources: dict[str, Any] = {"num_cpus": 0 if workers > 1 else self._context.training.worker_cpus * share}
        if self._context.use_gpu and workers == 1:
            resources["num_gpus"] = share
        options = ray.remote(Worker).options(name=name, namespace=self._context.namespace, **resources)
        actor = options.remote(self._context, name, workers, birth)
        return actor, asyncio.ensure_future(actor.__ray_ready__.remote())

    def end(self, lease: Lease) -> None:
        ray.kill(lease.actor)


class Dispatcher:
    """Runs calls on workers within the cluster's capacity. Lives on one event loop.

    Args:
        capacity: CPUs (GPUs where the context uses them) that workers may hold together.
        launcher: of Ray's actors by default.
        look: seconds between looks at a worker that has a call; None where nobody looks, as workers cannot hang.
    """

    def __init__(
        self, context: RunContext, capacity: float, launcher: Launcher | None = None, look: float | None = 1.0
    ) -> None:
        self._context, self._look = context, look
        self._launcher = RayLauncher(context) if launcher is None else launcher
        unit, self._per_worker = ("GPUs", 1.0) if context.use_gpu else ("CPUs", float(context.training.threads))
        self._beats, self._states = Beats(), Mailbox[WorkerState](_STATES)
        self._usage = UsageLog(unit.removesuffix("s"), self._states.put)
        self._starting: dict[str, asyncio.Future[Any]] = {}
        self._pool = Pool(capacity, self._per_worker, unit, self._start, self._end, self._is_ready)
        self._upkeep = Upkeep(self._pool, self._beats, context.namespace, unit, context.idle_seconds)
        self._stop, self._stopped = False, asyncio.Event()
        self._resizing = set[str]()  # workers that checkpoint and end, as their group may have more
        self._draining: tuple[float, set[str]] = (0.0, set())
        self.failures = 0  # workers that were lost in this stage

    @property
    def workers(self) -> float:
        """Single workers that the capacity has room for."""
        return self._pool.capacity / self._per_worker

    @property
    def spare(self) -> int:
        """Workers that may be had beside those in use."""
        return int(self._pool.spare / self._per_worker)

    def begin(self) -> None:
        """Look after the workers from now on; needs a running event loop."""
        self._upkeep.begin()

    def begin_stage(self) -> None:
        """Count the workers that are lost anew."""
        self.failures = 0

    def usage(self) -> list[WorkerState]:
        """What workers have done with their devices since the last call."""
        return self._states.fetch()

    def elastic(self, job: Job) -> Elastic:
        """The sizes that a job's group may have; those above the capacity are left out, or the pool would refuse."""
        fewest = self._context.fewest.get(job.kind.partition("[")[0])
        found = sizes(job.workers, fewest, job.segments[0].recipe.global_batch_size)
        fitting = tuple(n for n in found if n * self._per_worker <= self._pool.capacity)
        needs = self._context.worker_resources
        return Elastic(fitting or found[-1:], self._context.resize_seconds, lambda: room(needs))

    async def beat(self, worker: str, rank: int | None, birth: str, node: str, joules: float | None = None) -> bool:
        """A process of a worker lives. Answers whether it should checkpoint and end: at once, or in a second if not.

        Args:
            joules: that its GPUs have counted since its last beat; None where they do not.
        """
        self.begin()
        if not self._beats.hear(worker, rank, birth):
            return True  # of a worker that was replaced
        self._usage.beat(worker, rank, joules)
        if worker in self._resizing:
            return True
        if not self._stopping(node):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 1.0)
                return True
        return self._stopping(node)

    def leave(self, worker: str, rank: int | None, birth: str) -> None:
        """A process of a worker ends as it should."""
        self._beats.leave(worker, rank, birth)

    async def stop(self) -> None:
        """Workers that beat are told to checkpoint and end; nothing new starts."""
        self._stop = True
        self._stopped.set()
        await self._pool.close()

    async def dismiss_idle(self, seconds: float = 0.0) -> None:
        """End workers that have been idle for so long."""
        if self._pool.idle_longer(seconds):
            await self._pool.dismiss_idle(seconds)

    async def run(
        self,
        need: Need,
        call: Callable[[Any], Any],
        segments: Sequence[Segment] = (),
        through: Callable[[Any], None] = lambda result: None,
        elastic: Elastic | None = None,
    ) -> Any:
        """Run a call on a worker of a kind; one that dies, or whose node drains, is replaced and the call repeated.

        Args:
            segments: what the call trains: as long as they get further, deaths do not end it.
            through: is given the result before the worker goes back to the pool, so that children queue up for it.
            elastic: the number of workers, where it may change from start to start.
        """
        deaths = RestartBudget()
        while True:
            workers = need.workers if elastic is None else elastic.workers
            lease = await self._pool.lend(need.kind, workers, need.share, need.priority)
            if elastic is not None:
                elastic.begin()
            reusable = False
            try:
                lease = await self._started(lease)
                self._usage.works(lease.name, "train" if segments else "score")
                result = await self._answer(lease, call, elastic)
                reusable = True
                through(result)
                for _ in range(_HOPS):
                    await asyncio.sleep(0)
                return result
            except Resized as resized:
                _log.warning("%s", resized)
            except RayError as error:
                if elastic is not None and lease.name not in self._resizing:
                    elastic.whole()
                failure = Failure(error)
                reusable = failure.reusable
                if failure.lost:
                    self.failures += 1
                if failure.lost and not failure.preempted:
                    deaths.count(await asyncio.to_thread(reached, self._context.store, segments))
                if self._stop or not (failure.lost or failure.preempted):
                    raise failure.told(lease.name) from error
                if deaths.too_many:
                    raise deaths.told(lease.name, failure) from error
                count = "" if failure.preempted else f", {deaths.in_vain} of {LIMIT} deaths without progress"
                _log.warning("%s is replaced (%s%s)", lease.name, failure.first_line, count)
            finally:
                self._resizing.discard(lease.name)
                self._usage.rests(lease.name)
                await self._pool.give_back(lease, reusable)

    def _stopping(self, node: str) -> bool:
        """Whether a worker on this node should checkpoint and end: the run stops, or its node is draining."""
        checked, draining = self._draining
        if time.monotonic() - checked > 3.0:
            draining = draining_nodes()
            self._draining = (time.monotonic(), draining)
        return self._stop or node in draining

    def _start(self, name: str, workers: int, share: float) -> Any:
        self._usage.begin(name, workers * self._per_worker * share, workers > 1)
        actor, started = self._launcher.start(name, workers, share, self._beats.begin(name))
        self._starting[name] = started
        started.add_done_callback(lambda s: s.cancelled() or s.exception())  # seen, whether anybody waits for it
        return actor

    def _end(self, lease: Lease) -> None:
        self._usage.end(lease.name)
        self._starting.pop(lease.name, None)
        self._launcher.end(lease)

    def _is_ready(self, worker: str) -> bool:
        """Whether a worker has started."""
        start = self._starting[worker]
        return start.done() and not start.cancelled() and start.exception() is None

    async def _started(self, lease: Lease) -> Lease:
        """The worker once it has started, or one that becomes idle before.

        Imports take a worker 6 s on a CPU and 14 s on a GPU, in which an idle one does what small segments need.
        """
        while not self._is_ready(lease.name):
            if self._stop:
                raise StageError("the run is stopping")
            if (other := await self._pool.exchange(lease)) is not lease:
                return other
            started = self._starting[lease.name]
            if (await asyncio.wait({started}, timeout=_LOOK))[0]:
                started.result()  # raises what ended its start
                return lease
        return lease

    async def _answer(self, lease: Lease, call: Callable[[Any], Any], elastic: Elastic | None = None) -> Any:
        """What a worker's call returns; one that says nothing for long is as good as dead.

        Raises:
            Resized: its group could not start with so many workers.
        """
        answer = asyncio.ensure_future(call(lease.actor))
        while not (await asyncio.wait({answer}, timeout=self._look))[0]:
            if elastic is not None and not elastic.fixed:
                await self._resize(lease, elastic, answer)
            process, silence = self._beats.silence(lease.name)
            if silence > self._context.silence_seconds:
                answer.add_done_callback(lambda a: a.cancelled() or a.exception())  # nobody waits for it any more
                raise RayActorError(error_msg=f"{process} has said nothing for {silence} s: it is stopped or hangs")
        return answer.result()

    async def _resize(self, lease: Lease, elastic: Elastic, answer: "asyncio.Future[Any]") -> None:
        """Have the group of a call start with fewer workers, or begin anew with more, as the cluster changes."""
        up = lease.workers == 1 or self._beats.ranks(lease.name) > 0
        try:
            better = await asyncio.to_thread(elastic.better, up, self.spare)
        except RayError:  # the control store does not answer: the next second will do
            return
        if better is None:
            return
        told = f"{better} instead of {elastic.workers}, as nodes {'have come' if up else 'are missing'}"
        elastic.take(better)
        if up:
            _log.info("%s checkpoints and goes on with another number of workers: %s", lease.name, told)
            self._resizing.add(lease.name)
            return
        answer.add_done_callback(lambda a: a.cancelled() or a.exception())  # nobody waits for it any more
        raise Resized(f"{lease.name} goes on with another number of workers: {told}")
