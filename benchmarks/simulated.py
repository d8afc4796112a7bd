"""A cluster that is only reckoned: a clock that jumps, nodes that come and are taken away, workers that sleep.

What they serve is real: splitray's coordinator, its pool and a store on disk. An hour of training takes no time here.
"""

import asyncio
import contextlib
import random
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ray.exceptions import RayActorError

from splitray.executor.coordinator import Coordinator
from splitray.executor.dispatcher import Dispatcher
from splitray.executor.pool import Lease
from splitray.executor.schedule import Scheduler
from splitray.executor.worker import RunContext
from splitray.storage.keys import CheckpointKey, SegmentKey
from splitray.storage.store import Store
from splitray.training.tree import Segment

T = TypeVar("T")
NODE = 8  # GPUs of a node
_LOOK = 15.0  # simulated seconds between looks for idle workers


@dataclass(frozen=True)
class World:
    """What the cluster is like.

    Args:
        gpus: that it may grow to.
        provision: seconds until a node is up. node_idle: seconds after which an empty one goes.
        lifetime: hours after which a node is taken away, on average and at random; None: never.
        spread: of the workers' speeds, as a standard deviation of their logarithm.
        store: bytes a second that the store takes and gives, over all workers.
    """

    gpus: int
    provision: float = 180.0
    node_idle: float = 600.0
    lifetime: float | None = None
    spread: float = 0.02
    store: float = 50e9


class _Jump(selectors.DefaultSelector):
    """Waits for nothing: where no file is ready, the clock goes on to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("the simulation waits for something that never comes")
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in simulated seconds. Threads would not know of them, so their work is done at once."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


@dataclass(eq=False)
class Node:
    """A machine of `NODE` GPUs: down, coming or up, and what lives on it."""

    free: float = NODE
    up_at: float | None = None  # None: it is down
    empty_since: float = 0.0
    workers: set["SimulatedWorker"] = field(default_factory=set)
    life: int = 0


class Cluster:
    """Nodes that come when workers need them; counts what is held and used, in GPU-seconds."""

    def __init__(self, world: World, loop: JumpingLoop, seed: int = 0) -> None:
        self.world, self._loop, self.draw = world, loop, random.Random(seed)
        self.nodes = [Node() for _ in range(-(-world.gpus // NODE))]
        self.held, self.used, self.on_nodes, self.taken, self.redone = 0.0, 0.0, 0.0, 0, 0

    def place(self, worker: "SimulatedWorker", gpus: float) -> float:
        """Give a worker its GPUs, on the fullest nodes that have room; when they are all up."""
        at, left, now = self._loop.time(), gpus, self._loop.time()
        while left > 1e-6:
            room = [n for n in self.nodes if n.free > 1e-6]
            whole = [n for n in room if n.free >= min(left, NODE) - 1e-6]
            node = min(whole or room, key=lambda n: (n.up_at is None, n.free))
            amount = min(left, node.free)
            at = max(at, self._up(node, now))
            node.free -= amount
            node.workers.add(worker)
            worker.on.append((node, amount))
            left -= amount
        return at

    def _up(self, node: Node, now: float) -> float:
        """When a node is up, started where it is down or has gone meanwhile."""
        if node.up_at is not None and not node.workers and now - node.empty_since > self.world.node_idle:
            self._down(node, node.empty_since + self.world.node_idle)
        if node.up_at is None:
            node.up_at, node.life = now + self.world.provision, node.life + 1
            if self.world.lifetime is not None:
                lives = self.draw.expovariate(1 / (3600 * self.world.lifetime))
                self._loop.call_at(node.up_at + lives, self._take, node, node.life)
        return node.up_at

    def _take(self, node: Node, life: int) -> None:
        if node.life != life or node.up_at is None or not node.workers:
            return
        self.taken += 1
        for worker in list(node.workers):
            worker.die()
        self._down(node, self._loop.time())

    def _down(self, node: Node, at: float) -> None:
        assert node.up_at is not None
        self.on_nodes += NODE * max(0.0, at - node.up_at)
        node.up_at = None

    def release(self, worker: "SimulatedWorker") -> None:
        """A worker has ended."""
        now = self._loop.time()
        for node, amount in worker.on:
            node.free += amount
            node.workers.discard(worker)
            if not node.workers:
                node.empty_since = now
        self.held += worker.gpus * max(0.0, now - worker.began)
        worker.on.clear()

    def close(self) -> None:
        """Count the nodes that are up until now."""
        for node in self.nodes:
            if node.up_at is not None:
                self._down(node, self._loop.time())


class _Method:
    """As Ray's: `actor.method.options(...).remote(...)`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def options(self, **_: Any) -> "_Method":
        return self

    def remote(self, *args: Any) -> "asyncio.Future[Any]":
        made: asyncio.Future[Any] = asyncio.ensure_future(self._call(*args))
        return made


class SimulatedWorker:
    """Sleeps as long as a worker of the real code would train, publishes to the store, and may die."""

    def __init__(self, owner: "SimulatedCoordinator", name: str, workers: int, share: float) -> None:
        self._owner, self._name, self._workers = owner, name, workers
        self.gpus, self.on = workers * share, list[tuple[Node, float]]()
        self._speed = owner.cluster.draw.lognormvariate(0.0, owner.cluster.world.spread)
        self._dead = asyncio.get_running_loop().create_future()
        device = owner.speeds.accelerator
        self.began = owner.cluster.place(self, self.gpus)
        self.ready_at = self.began + (device.group if workers > 1 else device.start)
        self.train, self.losses = _Method(self._train), _Method(self._losses)

    def die(self) -> None:
        """The node is taken away."""
        if not self._dead.done():
            self._dead.set_result(None)
            self._owner.cluster.release(self)

    async def sleep(self, seconds: float) -> None:
        """Work for so long, or end with an error if the node goes."""
        await asyncio.wait({self._dead}, timeout=max(seconds, 0.0))
        if self._dead.done():
            raise RayActorError(error_msg=f"{self._name}: its node was taken away")

    async def _started(self) -> None:
        """A call waits for the start here, and not at the dispatcher, whose looks would be millions."""
        await self.sleep(self.ready_at - asyncio.get_running_loop().time())

    async def _train(self, segments: Sequence[Segment]) -> list[dict[str, Any]]:
        await self._started()
        metas = []
        for segment in segments:
            if len(segments) > 1:
                note = {"segment": segment.key, "tokens": 0, "of": segment.tokens, "loss": 0.0, "rate": 0.0}
                note |= {"attempt": f"{id(self)}", "trained": 0, "source": segment.source, "params": 0}
                await self._owner.note(self._name, note)
            metas.append(await self._segment(segment))
        return metas

    async def _segment(self, segment: Segment) -> dict[str, Any]:
        store, cluster, speeds = self._owner.store, self._owner.cluster, self._owner.speeds
        if (held := store.find(segment.key)) is not None:
            return held.meta
        params, loop = segment.recipe.params, asyncio.get_running_loop()
        begin = loop.time()
        async with self._owner.channel:
            await self.sleep(speeds.reading(segment))
        done = max((k.tokens - segment.start for k in self._kept(segment)), default=0)
        rate, trains = speeds.rate(params, self._workers) * self._speed, loop.time()
        try:
            await self.sleep((segment.tokens - done) / rate)
        except RayActorError:
            every = speeds.training.checkpoint_seconds
            kept = int((loop.time() - trains) // every * every * rate)
            cluster.redone += int((loop.time() - trains) * rate) - kept
            cluster.used += self.gpus * kept / rate
            if kept:
                key = CheckpointKey(SegmentKey.parse(segment.key), segment.start + done + kept)
                store.attempt(key.format()).publish({})
            raise
        async with self._owner.channel:
            await self.sleep(speeds.publishing(params, segment.final))
        await self.sleep(speeds.accelerator.beside)
        cluster.used += self.gpus * (loop.time() - begin)
        meta = {"seconds": loop.time() - begin, "tokens_trained": segment.tokens - done, "world": self._workers}
        return store.attempt(segment.key).publish(meta).meta

    def _kept(self, segment: Segment) -> list[CheckpointKey]:
        prefix = CheckpointKey.prefix(SegmentKey.parse(segment.key))
        return [k for name in self._owner.store.keys(prefix) if (k := CheckpointKey.match(name)) is not None]

    async def _losses(self, key: str, domains: Sequence[str], limit: int) -> dict[str, Any]:
        await self._started()
        seconds = self._owner.scoring(key, len(domains) * limit) / self._speed
        await self.sleep(seconds)
        self._owner.cluster.used += self.gpus * seconds
        return {domain: {"nats_per_token": 0.0} for domain in domains}


class SimulatedDispatcher(Dispatcher):
    """The real one but for Ray: its workers are simulated, and it never asks whether they are silent."""

    def __init__(self, context: RunContext, capacity: float, launcher: "_Launcher") -> None:
        super().__init__(context, capacity, launcher, look=None)
        self._let_go_after = context.idle_seconds
        self._look_out: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._look_out is None:
            self._look_out = asyncio.get_running_loop().create_task(self._let_go())

    async def _let_go(self) -> None:
        """Let idle workers go, as the real upkeep does every second."""
        while True:
            await asyncio.sleep(_LOOK)
            await self.dismiss_idle(self._let_go_after)


class _Launcher:
    """Starts simulated workers, which serve the coordinator that it is given."""

    owner: "SimulatedCoordinator"

    def start(self, name: str, workers: int, share: float, birth: str) -> tuple[Any, "asyncio.Future[Any]"]:
        started = asyncio.get_running_loop().create_future()
        started.set_result(None)
        return SimulatedWorker(self.owner, name, workers, share), started

    def end(self, lease: Lease) -> None:
        lease.actor.die()


class SimulatedCoordinator(Coordinator):
    """The real one over simulated workers."""

    def __init__(self, context: RunContext, cluster: Cluster, limit: int) -> None:
        launcher, capacity = _Launcher(), float(cluster.world.gpus)
        super().__init__(context, capacity, limit, SimulatedDispatcher(context, capacity, launcher))
        launcher.owner = self
        assert context.scheduler is not None
        self.cluster, self.store, self.speeds = cluster, context.store, context.scheduler.speeds
        channels = int(cluster.world.store / self.speeds.accelerator.publish)
        self.channel = asyncio.Semaphore(max(1, channels))
        self._params: dict[str, int] = {}

    def scoring(self, key: str, tokens: int) -> float:
        return self.speeds.scoring(self._params[key], tokens)

    async def leaves(self, requests: Sequence[Any]) -> list[dict[str, Any]]:
        self._params |= {r.target.key: r.target.recipe.params for r in requests}
        return await super().leaves(requests)


@dataclass(frozen=True)
class Outcome:
    """What stages took, in seconds and GPU-hours.

    Args:
        held: by workers, from their starts to their ends. used: of these in work that was kept.
        on_nodes: of nodes that were up, whoever worked on them.
        taken: nodes that were taken away in work. redone: tokens that were trained twice.
    """

    makespan: float
    held: float
    used: float
    on_nodes: float
    taken: int
    redone: int


def play(
    stages: Sequence[Sequence[Any]], scheduler: Scheduler, world: World, store: Store, seed: int = 0
) -> list[Outcome]:
    """Carry stages of requests out on a simulated cluster, one after another; the outcome of each."""
    loop = JumpingLoop()

    async def run() -> list[Outcome]:
        found = []
        context = RunContext(
            store,
            "simulated",
            scheduler.speeds.training,
            "simulated",
            use_gpu=True,
            scheduler=replace(scheduler, capacity=float(world.gpus)),
            idle_seconds=scheduler.idle,
        )
        for requests in stages:
            cluster, begin = Cluster(world, loop, seed), loop.time()
            coordinator = SimulatedCoordinator(context, cluster, scheduler.limit)
            await coordinator.leaves(requests)
            makespan = loop.time() - begin
            await asyncio.sleep(1.0)  # the last worker goes back to the pool
            await coordinator.dispatcher.dismiss_idle()
            cluster.close()
            hours = (cluster.held / 3600, cluster.used / 3600, cluster.on_nodes / 3600)
            found.append(Outcome(makespan, *hours, cluster.taken, cluster.redone))
        return found

    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(run())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with contextlib.suppress(Exception):
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        asyncio.set_event_loop(None)
