"""The coordinator: the one actor that every job and trial asks for a leaf of the tree.

It grows what is missing, joins equal requests in flight, and has its `Dispatcher` give segments to workers. Those who
wait hold no CPU.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from splitray.errors import CorruptError, SplitrayError
from splitray.evaluate.exams import Exam
from splitray.executor.dispatcher import Dispatcher
from splitray.executor.healing import heal
from splitray.executor.pool import ANY, Need
from splitray.executor.relay import Mailbox, Message, relay
from splitray.executor.request import Request
from splitray.executor.schedule import Scheduler
from splitray.executor.spending import Spending
from splitray.executor.work import BASE, Job, Widths, Work, effort_of, jobs_of
from splitray.executor.worker import RunContext
from splitray.runtime.points import Point
from splitray.runtime.worker_state import WorkerState
from splitray.storage.keys import SegmentKey
from splitray.training.tree import Segment, by_recipe, grow

_log = logging.getLogger(__name__)

_STOP_WAIT = 20.0  # seconds that a stop waits for checkpoints
_POINTS = 10_000  # points of training that wait for the driver, which asks once a second


class Coordinator:
    """See the module. An async actor: every method runs on its one event loop.

    Args:
        capacity: CPUs (GPUs where the context uses them) that workers may hold together.
        limit: validation tokens a domain is scored on.
        dispatcher: of Ray's workers by default.
    """

    def __init__(self, context: RunContext, capacity: float, limit: int, dispatcher: Dispatcher | None = None) -> None:
        self._context, self._limit = context, limit
        self.dispatcher = Dispatcher(context, capacity) if dispatcher is None else dispatcher
        self._scheduler: Scheduler | None = None
        if context.scheduler is not None:
            self._scheduler = replace(context.scheduler, capacity=self.dispatcher.workers, limit=limit)
        self._inflight: dict[str, asyncio.Future[None]] = {}
        self._published = set(context.store.keys(SegmentKey.prefix()))
        self._measured: dict[tuple[str, tuple[str, ...]], asyncio.Task[Any]] = {}
        self._trunk: dict[int, list[Segment]] = {}  # queued segments by the workers of their group
        self._order: dict[str, float] = {}  # by segment in flight, seconds to the end of its last descendant
        self._calls: dict[str, tuple[Segment, ...]] = {}  # by segment in flight, all segments of its call
        self._base: asyncio.Task[None] | None = None
        self._errors: dict[str, SplitrayError] = {}
        self._work, self._spending = Work(), Spending(context.start)
        self._healing = asyncio.Lock()
        self._mailbox = Mailbox[Message]()
        self._points = Mailbox[Point](_POINTS)
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id():  # this process is the coordinator's own
            relay(self._mailbox.put)

    async def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Train what is missing of the targets, score them, and say for each its `key` and `losses` by domain."""
        self.dispatcher.begin()
        self._grow(requests)
        self._work.leaves += len(requests)
        results = await asyncio.gather(*(self._leaf(r) for r in requests), return_exceptions=True)
        errors = [e for e in results if isinstance(e, BaseException)]
        if errors:
            raise next((e for e in errors if isinstance(e, SplitrayError)), errors[0])
        return [r for r in results if not isinstance(r, BaseException)]

    async def answers(self, keys: Sequence[str], exams: Sequence[Exam]) -> None:
        """Have published segments take exams; what each answers is in the store afterwards."""
        self.dispatcher.begin()
        self._work.leaves += len(keys)
        results = await asyncio.gather(*(self._answers(key, exams) for key in keys), return_exceptions=True)
        if errors := [e for e in results if isinstance(e, BaseException)]:
            raise next((e for e in errors if isinstance(e, SplitrayError)), errors[0])

    async def _answers(self, key: str, exams: Sequence[Exam]) -> None:
        await self.dispatcher.run(Need(ANY), lambda actor: actor.answers.options(name="exams").remote(key, list(exams)))
        self._work.scored += 1

    async def beat(self, worker: str, rank: int | None, birth: str, node: str, joules: float | None = None) -> bool:
        """See `Dispatcher.beat`."""
        return await self.dispatcher.beat(worker, rank, birth, node, joules)

    async def leave(self, worker: str, rank: int | None, birth: str) -> None:
        """A process of a worker ends as it should."""
        self.dispatcher.leave(worker, rank, birth)

    async def stop(self) -> None:
        """Every worker checkpoints and ends; nothing new starts. Returns when they have, or after 20 s.

        A worker that has not trained a step has nothing to keep, and is not waited for.
        """
        await self.dispatcher.stop()
        deadline = time.monotonic() + _STOP_WAIT
        while self._running() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def begin_stage(self) -> None:
        """Start new counters. Warm workers stay: the next stage has work for them, or `Upkeep` lets them go."""
        self._work, self._spending = Work(), Spending(self._context.start)
        self.dispatcher.begin_stage()

    async def report_error(self, worker: str, error: SplitrayError) -> None:
        """A worker of a group says why it ended early; the group's supervisor asks with `take_error`."""
        self._errors.setdefault(worker, error)

    async def take_error(self, worker: str) -> SplitrayError | None:
        return self._errors.pop(worker, None)

    async def note(self, worker: str, progress: dict[str, Any], point: Point | None = None) -> None:
        """A worker's latest `segment`, its `tokens` so far and all of them (`of`), `loss` and `rate`.

        What a call trains counts as trained when the call ends; `call_tokens` holds those of all its segments so far.
        `trained` are the tokens of this `attempt` at the segment: they are spent, whatever becomes of it.
        """
        if point is not None:
            self._points.put(point)
        self._spending.note(progress["segment"], progress["attempt"], progress["trained"])
        for earlier in self._before(progress["segment"]):
            await self._reach(earlier)
        last, before = self._work.running.get(worker), 0
        if progress["segment"] in self._calls:  # what is through of its call counts as trained
            before = sum(s.tokens for s in self._before(progress["segment"]))
        elif last is not None and last["segment"] in self._inflight:  # the same call: its segments end together
            before = last["before"] + (last["of"] if last["segment"] != progress["segment"] else 0)
        self._work.running[worker] = {**progress, "before": before, "call_tokens": before + progress["tokens"]}

    async def progress(self) -> dict[str, Any]:
        """The stage's counters. `running` holds what workers said last of segments still in flight, `spent` the tokens
        that were trained in all, by N."""
        counted = {**vars(self._work), "failures": self.dispatcher.failures}
        return {**counted, "running": self._running(), "spent": self._spending.tokens}

    def _running(self) -> dict[str, dict[str, Any]]:
        return {w: r for w, r in self._work.running.items() if r["segment"] in self._inflight}

    async def log(self, message: Message) -> None:
        """A worker's message, for the driver's log."""
        self._mailbox.put(message)

    async def messages(self) -> list[Message]:
        """What the coordinator and its workers logged since the last call."""
        return self._mailbox.fetch()

    async def usage(self) -> list[WorkerState]:
        """What workers have done with their devices since the last call."""
        return self.dispatcher.usage()

    async def points(self) -> list[Point]:
        """What workers noted of segments in training since the last call."""
        return self._points.fetch()

    # growing

    def _missing(self, group: Sequence[Request]) -> list[Segment]:
        return grow([r.target for r in group], self._ends)

    def _ends(self, name: str) -> set[int]:
        """Ends that stand or are in flight on a line."""
        return SegmentKey.ends(name, self._published | self._inflight.keys())

    def _grow(self, requests: Sequence[Request]) -> None:
        """Put every missing segment of the requests in flight, parents first."""
        groups = []
        for group in by_recipe(requests, lambda r: r.target.recipe):
            segments = self._missing(group)
            self._work.segments += len(segments)
            self._work.tokens += sum(s.tokens for s in segments)
            self._work.effort += sum(effort_of(s) for s in segments)
            self._work.leaf_tokens += sum(r.target.tokens for r in group)
            groups.append((segments, group))
        widths = Widths()
        if self._scheduler is not None:
            widths = self._scheduler.choose_widths(groups)
            self._order |= self._scheduler.priorities(groups, widths)
        for segments, group in groups:
            for job in jobs_of(segments, group, widths):
                if job.kind == BASE:
                    self._queue_trunk(job)
                else:
                    self._launch(job)

    def _launch(self, job: Job) -> None:
        self._promise(job.segments)
        task = asyncio.get_running_loop().create_task(self._train(job))
        task.add_done_callback(lambda t: t.exception())  # its error travels through the segments' futures

    def _promise(self, segments: Sequence[Segment]) -> None:
        self._spending.begin(segments)
        for segment in segments:
            self._inflight[segment.key] = asyncio.get_running_loop().create_future()

    def _queue_trunk(self, job: Job) -> None:
        """Give segments to a worker group. One start takes 10-14 s, so all that is queued goes into the next one."""
        self._promise(job.segments)
        self._trunk.setdefault(job.workers, []).extend(job.segments)
        if self._base is None or self._base.done():
            self._base = asyncio.get_running_loop().create_task(self._train_trunk())

    async def _train_trunk(self) -> None:
        while self._trunk:
            await asyncio.sleep(0.5)  # what is asked for at the same moment goes into the same start
            workers = next(iter(self._trunk))
            segments = tuple(self._trunk.pop(workers))
            with contextlib.suppress(SplitrayError):  # its error travels through the segments' futures
                await self._train(Job(segments, BASE, workers))

    async def _train(self, job: Job) -> None:
        """Wait for the parents, train on a worker, resolve the segments' futures."""
        segments, own = job.segments, {s.key for s in job.segments}
        if len(segments) > 1:
            self._calls |= dict.fromkeys(own, segments)
        try:
            outside = [s.parent for s in segments if s.parent is not None and s.parent not in own]
            await asyncio.gather(*(asyncio.shield(self._inflight[p]) for p in outside if p in self._inflight))
            named = f"{job.kind}.train"  # what the dashboard and the process table show; Ray's own name is Worker.train

            def through(metas: Sequence[Mapping[str, Any]]) -> None:
                for segment, meta in zip(segments, metas, strict=True):
                    self._finish(segment, meta)

            await self.dispatcher.run(
                self._need(job),
                lambda actor: actor.train.options(name=named).remote(segments),
                segments,
                through,
                self.dispatcher.elastic(job),
            )
        except BaseException as error:
            for key in own & self._inflight.keys():
                self._spending.end(key)
                future = self._inflight.pop(key)
                future.set_exception(error)
                future.exception()  # marked as seen: whoever needs it gets it again
            raise
        finally:
            for key in own:
                self._calls.pop(key, None)
                self._order.pop(key, None)

    def _need(self, job: Job) -> Need:
        first = job.segments[0]
        share = self._share(first.recipe.params) if job.workers == 1 else 1.0
        return Need(job.kind, job.workers, share, max(self._order.get(s.key, 0.0) for s in job.segments))

    def _share(self, params: int) -> float:
        return 1.0 if self._scheduler is None else self._scheduler.share(params)

    def _finish(self, segment: Segment, meta: Mapping[str, Any]) -> None:
        """A segment is published: count it, and let its children begin. Once, whoever says so first."""
        if (future := self._inflight.pop(segment.key, None)) is None:
            return
        self._work.training_seconds += float(meta["seconds"])
        self._spending.end(segment.key, meta)
        self._published.add(segment.key)
        self._work.finished += 1
        self._work.trained += segment.tokens
        self._work.effort_trained += effort_of(segment)
        future.set_result(None)

    def _before(self, key: str) -> list[Segment]:
        """Segments in flight that a call has behind it, as it trains another one after them."""
        call = self._calls.get(key, ())
        return [s for s in itertools.takewhile(lambda s: s.key != key, call) if s.key in self._inflight]

    async def _reach(self, segment: Segment) -> None:
        """Let the children of a segment begin whose call goes on: its worker has published it."""
        published = await asyncio.to_thread(self._context.store.find, segment.key)
        if published is not None:
            self._finish(segment, published.meta)

    async def _leaf(self, request: Request) -> dict[str, Any]:
        key = request.target.key
        for attempt in range(3):
            try:
                if (future := self._inflight.get(key)) is not None:
                    await asyncio.shield(future)
                losses = await self._losses(request) if request.domains else {}
                self._work.scored += 1
                return {"key": key, "losses": losses}
            except CorruptError as error:
                if attempt == 2:
                    raise
                _log.warning("store: %s; what is damaged is invalidated and trained again", error)
                async with self._healing:  # two at once would withdraw what the first has begun to train again
                    await heal(self._context.store, self._published, request.target)
                    self._grow([request])
        raise AssertionError("unreachable")

    async def _losses(self, request: Request) -> dict[str, dict[str, float]]:
        """Losses of a leaf, measured once however many ask."""
        key, domains = request.target.key, request.domains
        task = self._measured.get((key, domains))
        if task is None or (task.done() and task.exception() is not None):
            need = Need(ANY, share=self._share(request.target.recipe.params))
            call = self.dispatcher.run(
                need, lambda actor: actor.losses.options(name="losses").remote(key, domains, self._limit)
            )
            task = self._measured[key, domains] = asyncio.get_running_loop().create_task(call)
        return dict(await asyncio.shield(task))
