"""The coordinator: the one actor that every job and trial asks for a leaf of the tree.

It grows what is missing, joins equal requests in flight, gives segments to workers within the cluster's capacity, and
starts a worker anew when it dies. Those who wait hold no CPU.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from splitray.errors import CorruptError, SplitrayError
from splitray.executor.failures import LIMIT, Failure, RestartBudget
from splitray.executor.orphans import release_orphans
from splitray.executor.pool import ANY, LADDER, Pool
from splitray.executor.request import Request
from splitray.executor.worker import RunContext, Worker
from splitray.training.loop import reached
from splitray.training.tree import MIXTURE, Segment, by_recipe, grow

_log = logging.getLogger(__name__)

_TIDY = 4.0  # seconds between looks for resources that nobody uses


@dataclass
class Work:
    """Counters of a stage, for progress lines and the report. Tokens are training tokens."""

    segments: int = 0
    finished: int = 0
    tokens: int = 0
    trained: int = 0
    leaf_tokens: int = 0
    failures: int = 0
    training_seconds: float = 0.0
    running: dict[str, dict[str, Any]] = field(default_factory=dict)


class Coordinator:
    """See the module. An async actor: every method runs on its one event loop.

    Args:
        capacity: CPUs (GPUs where the context uses them) that workers may hold together.
        limit: validation tokens a domain is scored on.
    """

    def __init__(self, context: RunContext, capacity: float, limit: int) -> None:
        self._context, self._limit = context, limit
        unit, per_worker = ("GPUs", 1.0) if context.use_gpu else ("CPUs", float(context.training.threads))
        self._pool = Pool(capacity, per_worker, unit, self._start, ray.kill)
        self._inflight: dict[str, asyncio.Future[None]] = {}
        self._published = set(context.store.keys("seg-"))
        self._measured: dict[tuple[str, tuple[str, ...]], asyncio.Task[Any]] = {}
        self._trunk: list[Segment] = []
        self._base: asyncio.Task[None] | None = None
        self._stop = False
        self._draining: tuple[float, set[str]] = (0.0, set())
        self._errors: dict[str, SplitrayError] = {}
        self._work = Work()
        self._healing = asyncio.Lock()
        self._tidied = 0.0

    async def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Train what is missing of the targets, score them, and say for each its `key` and `losses` by domain."""
        self._grow(requests)
        results = await asyncio.gather(*(self._leaf(r) for r in requests), return_exceptions=True)
        errors = [e for e in results if isinstance(e, BaseException)]
        if errors:
            raise next((e for e in errors if isinstance(e, SplitrayError)), errors[0])
        return [r for r in results if not isinstance(r, BaseException)]

    async def stopping(self, node: str) -> bool:
        """Whether a worker on this node should checkpoint and end: the run stops, or its node is draining."""
        checked, draining = self._draining
        if time.monotonic() - checked > 3.0:
            draining = set(ray._private.state.state.get_draining_nodes())
            self._draining = (time.monotonic(), draining)
        return self._stop or node in draining

    async def stop(self) -> None:
        """Every worker checkpoints and ends; nothing new starts. Returns when they have, or after 20 s."""
        self._stop = True
        await self._pool.close()
        deadline = time.monotonic() + 20
        while self._inflight and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def begin_stage(self) -> None:
        """Start new counters, and give the last stage's idle workers' room back."""
        self._work = Work()
        await self._pool.dismiss_idle()

    async def report_error(self, worker: str, error: SplitrayError) -> None:
        """A worker of a group says why it ended early; the group's supervisor asks with `take_error`."""
        self._errors.setdefault(worker, error)

    async def take_error(self, worker: str) -> SplitrayError | None:
        return self._errors.pop(worker, None)

    async def note(self, worker: str, progress: dict[str, Any]) -> None:
        """A worker's latest `segment`, its `tokens` so far and all of them (`of`), `loss` and `rate`.

        What a call trains counts as trained when the call ends; `call_tokens` holds those of all its segments so far.
        """
        last, before = self._work.running.get(worker), 0
        if last is not None and last["segment"] in self._inflight:  # the same call: its segments end together
            before = last["before"] + (last["of"] if last["segment"] != progress["segment"] else 0)
        self._work.running[worker] = {**progress, "before": before, "call_tokens": before + progress["tokens"]}

    async def progress(self) -> dict[str, Any]:
        """The stage's counters; `running` holds what workers said last of segments still in flight.

        The driver asks every few seconds for as long as it waits, so this is also when the coordinator tidies up.
        """
        await self._tidy()
        running = {h: r for h, r in self._work.running.items() if r["segment"] in self._inflight}
        return {**vars(self._work), "running": running}

    async def _tidy(self) -> None:
        """Give back what dead worker groups hold. Again and again: the death of a process may be told late."""
        if time.monotonic() - self._tidied > _TIDY:
            self._tidied = time.monotonic()
            with contextlib.suppress(RayError):
                if count := await asyncio.to_thread(release_orphans):
                    _log.warning("gave back the resources of %d worker groups that are dead", count)

    # growing

    def _missing(self, group: Sequence[Request]) -> list[Segment]:
        return grow([r.target for r in group], self._ends)

    def _ends(self, line: str) -> set[int]:
        """Ends that stand or are in flight on a line."""
        return {int(k.rsplit("-", 1)[1]) for k in self._published | self._inflight.keys() if k.startswith(line + "-")}

    def _grow(self, requests: Sequence[Request]) -> None:
        """Put every missing segment of the requests in flight, parents first."""
        for group in by_recipe(requests, lambda r: r.target.recipe):
            segments = self._missing(group)
            self._work.segments += len(segments)
            self._work.tokens += sum(s.tokens for s in segments)
            self._work.leaf_tokens += sum(r.target.tokens for r in group)
            trunk = [s for s in segments if s.source == MIXTURE]
            if trunk and group[0].mixture_workers > 0:
                self._queue_trunk(trunk, group[0].mixture_workers)
            specialists = {r.target.phases[-1].source: r.domain_workers for r in group if r.domain_workers > 0}
            for segment in segments:
                if segment.key in self._inflight:
                    continue
                workers = specialists.get(segment.source, 0)
                self._launch([segment], f"specialist[{segment.source}]" if workers else LADDER, max(1, workers))

    def _launch(self, segments: list[Segment], kind: str, workers: int) -> None:
        self._promise(segments)
        task = asyncio.get_running_loop().create_task(self._train(segments, kind, workers))
        task.add_done_callback(lambda t: t.exception())  # its error travels through the segments' futures

    def _promise(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._inflight[segment.key] = asyncio.get_running_loop().create_future()

    def _queue_trunk(self, segments: list[Segment], workers: int) -> None:
        """Give segments to the worker group. One start takes 10-14 s, so all that is queued goes into the next one."""
        self._promise(segments)
        self._trunk += segments
        if self._base is None or self._base.done():
            self._base = asyncio.get_running_loop().create_task(self._train_trunk(workers))

    async def _train_trunk(self, workers: int) -> None:
        while self._trunk:
            await asyncio.sleep(0.5)  # what is asked for at the same moment goes into the same start
            segments, self._trunk = self._trunk, []
            with contextlib.suppress(SplitrayError):  # its error travels through the segments' futures
                await self._train(segments, "base", workers)

    async def _train(self, segments: list[Segment], kind: str, workers: int) -> None:
        """Wait for the parents, train on a worker, resolve the segments' futures."""
        own = {s.key for s in segments}
        try:
            outside = [s.parent for s in segments if s.parent is not None and s.parent not in own]
            await asyncio.gather(*(asyncio.shield(self._inflight[p]) for p in outside if p in self._inflight))
            named = f"{kind}.train"  # what the dashboard and the process table show; Ray's own name is Worker.train
            call = self._call(kind, workers, lambda actor: actor.train.options(name=named).remote(segments), segments)
            for meta in await call:
                self._work.training_seconds += float(meta["seconds"])
            for segment in segments:
                self._published.add(segment.key)
                self._work.finished += 1
                self._work.trained += segment.tokens
                self._inflight.pop(segment.key).set_result(None)
        except BaseException as error:
            for key in own & self._inflight.keys():
                future = self._inflight.pop(key)
                future.set_exception(error)
                future.exception()  # marked as seen: whoever needs it gets it again
            raise

    async def _leaf(self, request: Request) -> dict[str, Any]:
        key = request.target.key
        for attempt in range(3):
            try:
                if (future := self._inflight.get(key)) is not None:
                    await asyncio.shield(future)
                return {"key": key, "losses": await self._losses(key, request.domains) if request.domains else {}}
            except CorruptError as error:
                if attempt == 2:
                    raise
                _log.warning("store: %s; what is damaged is invalidated and trained again", error)
                async with self._healing:  # two at once would withdraw what the first has begun to train again
                    await self._heal(request)
                    self._grow([request])
        raise AssertionError("unreachable")

    async def _heal(self, request: Request) -> None:
        """Withdraw the states of a leaf's lineage that do not load."""
        target = request.target
        for depth in range(1, len(target.phases) + 1):
            line = Segment(target.recipe, target.phases[:depth]).key.rsplit("-", 1)[0]
            for key in sorted(k for k in self._published if k.startswith(line + "-")):
                if not await asyncio.to_thread(self._loads, key, not (target.final and key == target.key)):
                    await asyncio.to_thread(self._context.store.invalidate, key)
                    self._published.discard(key)

    def _loads(self, key: str, moments: bool) -> bool:
        from splitray.training.state import load

        try:
            if (held := self._context.store.find(key)) is not None:
                load(held, moments)
            return held is not None
        except CorruptError:
            return False

    async def _losses(self, key: str, domains: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Losses of a leaf, measured once however many ask."""
        task = self._measured.get((key, domains))
        if task is None or (task.done() and task.exception() is not None):
            call = self._call(
                ANY, 1, lambda actor: actor.losses.options(name="losses").remote(key, domains, self._limit)
            )
            task = self._measured[key, domains] = asyncio.get_running_loop().create_task(call)
        return dict(await asyncio.shield(task))

    # workers

    def _start(self, name: str, workers: int) -> Any:
        resources: dict[str, Any] = {"num_cpus": 0 if workers > 1 else self._context.training.worker_cpus}
        if self._context.use_gpu and workers == 1:
            resources["num_gpus"] = 1
        actor = ray.remote(Worker).options(name=name, namespace=self._context.namespace, **resources)
        return actor.remote(self._context, name, workers)

    async def _call(self, kind: str, workers: int, call: Callable[[Any], Any], segments: Sequence[Segment] = ()) -> Any:
        """Run a call on a worker of a kind; one that dies, or whose node drains, is replaced and the call repeated.

        Args:
            segments: what the call trains: as long as they get further, deaths do not end it.
        """
        deaths = RestartBudget()
        while True:
            lease, reusable = await self._pool.lend(kind, workers), False
            try:
                result = await call(lease.actor)
                reusable = True
                return result
            except RayError as error:
                failure = Failure(error)
                reusable = failure.reusable
                if failure.lost:
                    self._work.failures += 1
                if failure.lost and not failure.preempted:
                    deaths.count(await asyncio.to_thread(reached, self._context.store, segments))
                if self._stop or not (failure.lost or failure.preempted):
                    raise failure.told(lease.name) from error
                if deaths.too_many:
                    raise deaths.told(lease.name, failure) from error
                count = "" if failure.preempted else f", {deaths.in_vain} of {LIMIT} deaths without progress"
                _log.warning("%s is replaced (%s%s)", lease.name, failure.first_line, count)
            finally:
                await self._pool.give_back(lease, reusable)
