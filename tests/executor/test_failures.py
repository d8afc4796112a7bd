"""What ends a host's call and what does not: preemptions, deaths with and without progress, memory. No cluster."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from splitray.errors import CorruptError, StageError
from splitray.executor.coordinator import Coordinator
from splitray.executor.dispatcher import Dispatcher
from splitray.executor.failures import OutOfMemory, WorkerLost, lost_by
from splitray.executor.pool import Need
from splitray.executor.request import Request
from splitray.executor.work import Job
from splitray.executor.worker import RunContext
from splitray.storage.store import Store
from splitray.training.loop import Interrupted, reached
from splitray.training.tree import Leaf, Segment, Target
from tests.support import tiny
from tests.support.launched import Launched

KILLED = "Task was killed due to the node running low on memory."
# a trunk of two segments, 12 + 4 batches of 64 tokens
SEGMENTS: list[Segment] = tiny.segments(tiny.make_recipe(), Leaf(16 * 64))


def raised(cause: Exception) -> RayError:
    """What awaiting a call gives where the host's code raised `cause`."""
    error = RayTaskError("train", "the trace", cause).as_instanceof_cause()
    assert isinstance(error, RayError)
    return error


class Hosts:
    """An coordinator whose hosts end one call after another as told: in the error yielded, then well."""

    def __init__(self, root: Path) -> None:
        self.store, self.started, self.reused = Store(root), list[str](), 0
        context = RunContext(self.store, "corpus", tiny.training(), "test")
        self.dispatcher = Dispatcher(context, 4, Launched(self.begin))
        self.coordinator = Coordinator(context, 4, 100, self.dispatcher)

    def begin(self, name: str, workers: int, birth: str) -> None:
        self.started.append(name)

    def call(self, ends: Iterator[RayError]) -> Any:
        async def once(actor: str) -> str:
            error = next(ends, None)
            if error is not None:
                raise error
            return "trained"

        return asyncio.run(self.dispatcher.run(Need("base", 2), once, SEGMENTS))

    def checkpoint(self, segment: Segment, tokens: int) -> None:
        self.store.attempt(f"part-{segment.key}-{tokens:015d}").publish({})


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def test_what_the_store_holds_of_a_call_is_counted_in_tokens(hosts: Hosts) -> None:
    first, second = SEGMENTS
    assert (first.tokens, second.tokens) == (12 * 64, 4 * 64)
    held = [reached(hosts.store, SEGMENTS)]
    for tokens in (128, 640):
        hosts.checkpoint(first, tokens)
        held.append(reached(hosts.store, SEGMENTS))
    hosts.store.attempt(first.key).publish({})
    held.append(reached(hosts.store, SEGMENTS))
    hosts.checkpoint(second, 12 * 64 + 64)
    assert [*held, reached(hosts.store, SEGMENTS)] == [0, 128, 640, 768, 832]


@pytest.mark.parametrize(
    "preemption",
    [
        lambda: raised(Interrupted("segment seg-x stopped at token 64; a checkpoint is kept")),
        lambda: RayActorError(error_msg="its node was preempted", preempted=True),
    ],
    ids=["with notice", "without"],
)
def test_preemptions_never_end_a_call(hosts: Hosts, preemption: Callable[[], RayError]) -> None:
    assert hosts.call(iter([preemption() for _ in range(50)])) == "trained"
    assert len(hosts.started) == 51, "a host whose node drains must not be given the call again"


def test_deaths_with_progress_never_end_a_call(hosts: Hosts) -> None:
    def market() -> Iterator[RayError]:
        """Two kills without a checkpoint between any two that got one batch further, to the end of either segment."""
        for segment in SEGMENTS:
            for tokens in range(segment.start + 64, segment.end, 64):
                hosts.checkpoint(segment, tokens)
                for _ in range(3):
                    yield RayActorError(error_msg="killed")
            hosts.store.attempt(segment.key).publish({})
            yield raised(WorkerLost("worker group base: a worker died"))

    assert hosts.call(market()) == "trained"
    assert hosts.dispatcher.failures == 3 * (11 + 3) + 2


def test_deaths_without_progress_end_a_call(hosts: Hosts) -> None:
    def bug() -> Iterator[RayError]:
        for number in range(9):
            if number == 3:
                hosts.checkpoint(SEGMENTS[0], 64)
            yield raised(Interrupted("told")) if number == 5 else RayActorError(error_msg=f"killed, {number}")

    with pytest.raises(StageError, match=r"base died 5 times in a row without getting further\. .*killed, 8") as caught:
        hosts.call(bug())
    assert "memory" not in str(caught.value)


def test_the_host_s_own_error_ends_a_call_at_once(hosts: Hosts) -> None:
    with pytest.raises(CorruptError, match="rotten"):
        hosts.call(iter([raised(CorruptError("rotten"))]))
    with pytest.raises(StageError, match="the trace"):
        hosts.call(iter([raised(ZeroDivisionError())]))
    assert hosts.dispatcher.failures == 0


@pytest.mark.parametrize(
    "lost", [OutOfMemoryError(KILLED), NodeDiedError("the node died"), raised(OutOfMemory("a rank"))]
)
def test_a_process_that_is_lost_in_any_way_is_replaced(hosts: Hosts, lost: RayError) -> None:
    assert hosts.call(iter([lost] * 4)) == "trained"
    assert hosts.dispatcher.failures == 4


@pytest.mark.parametrize(
    "lost", [OutOfMemoryError(KILLED), raised(OutOfMemory(KILLED)), raised(OutOfMemoryError(KILLED))]
)
def test_memory_is_named_where_it_ends_a_call(hosts: Hosts, lost: RayError) -> None:
    with pytest.raises(StageError, match=r"ran out of memory: lower training\.micro_batch_size.*running low on memory"):
        hosts.call(iter([lost] * 5))


def test_ray_train_s_word_for_memory_is_understood() -> None:
    """As its poll of a worker tells it (`WorkerGroup._poll_workers_and_collect_errors`)."""
    dead = WorkerHealthCheckFailedError("a worker health check failed", failure=RayActorError(error_msg="killed"))
    full = WorkerHealthCheckFailedError("a worker health check failed", failure=OutOfMemoryError(KILLED))
    assert lost_by(WorkerGroupError("two", {0: dead, 3: full})) is OutOfMemory
    assert lost_by(WorkerGroupError("one", {0: dead})) is WorkerLost


def test_progress_of_a_call_never_goes_back(tmp_path: Path) -> None:
    """A call trains a chain of segments: what is through counts while the next ones begin."""
    coordinator = Hosts(tmp_path).coordinator
    first, second = SEGMENTS

    def told(segment: Segment, tokens: int) -> dict[str, Any]:
        said = {"segment": segment.key, "tokens": tokens, "of": segment.tokens, "loss": 4.0, "rate": 10.0}
        return said | {"attempt": "one", "trained": tokens}

    async def run() -> list[int]:
        for segment in SEGMENTS:
            coordinator._inflight[segment.key] = asyncio.get_running_loop().create_future()
        seen = []
        # the last: another process went back to a checkpoint of the second segment
        for note in (told(first, 64), told(first, 768), told(second, 64), told(second, 256), told(second, 128)):
            await coordinator.note("base", note)
            seen.append((await coordinator.progress())["running"]["base"]["call_tokens"])
        for segment in SEGMENTS:  # the call ended: these tokens are in `trained` now, and the next call begins at 0
            coordinator._inflight.pop(segment.key).cancel()
        coordinator._inflight["next"] = asyncio.get_running_loop().create_future()
        await coordinator.note("base", told(first, 64) | {"segment": "next"})
        return [*seen, (await coordinator.progress())["running"]["base"]["call_tokens"]]

    assert asyncio.run(run()) == [64, 768, 768 + 64, 768 + 256, 768 + 128, 64]


def test_each_segment_of_the_mixture_has_the_group_that_its_requests_ask_for(tmp_path: Path) -> None:
    """Requests of one recipe: two that share a trunk and ask for 2 and 3 workers, one beyond it for none."""
    coordinator = Hosts(tmp_path).coordinator
    launched: list[tuple[tuple[int, ...], str, int]] = []

    async def train(job: Job) -> None:
        launched.append((tuple(s.end // 64 for s in job.segments), job.kind, job.workers))

    async def run(*requests: Request) -> list[tuple[tuple[int, ...], str, int]]:
        coordinator._train = train  # type: ignore[method-assign, assignment]
        coordinator._grow(requests)
        await asyncio.sleep(1.5)
        return sorted(launched)

    def request(before: int, mixture_workers: int) -> Request:
        made = Target.trunk(tiny.make_recipe(), Leaf(before * 64, 8 * 64, "a"), tiny.SCHEDULE)
        assert made is not None
        return Request(made, mixture_workers=mixture_workers)

    # the first request's size was once taken for all of them
    assert asyncio.run(run(request(16, 0), request(8, 2), request(4, 3))) == [
        ((4,), "base", 3),
        ((8,), "base", 2),
        ((16,), "ladder", 1),
    ]


def test_what_hangs_on_a_segment_begins_while_its_call_goes_on(tmp_path: Path) -> None:
    """A group trains two segments in one call. A worker's note of the second says that the first is published."""
    hosts = Hosts(tmp_path)
    coordinator = hosts.coordinator
    first, second = SEGMENTS
    coordinator._calls = dict.fromkeys((first.key, second.key), (first, second))
    note = {"segment": second.key, "tokens": 64, "of": second.tokens, "loss": 4.0, "rate": 1.0}
    note |= {"attempt": "one", "trained": 64}

    async def run() -> list[bool]:
        seen = []
        futures = {s.key: asyncio.get_running_loop().create_future() for s in SEGMENTS}
        coordinator._inflight |= futures
        await coordinator.note("base", note)
        seen.append(futures[first.key].done())  # the store does not have it
        counted = (await coordinator.progress())["running"]["base"]["call_tokens"]
        assert counted == first.tokens + 64
        hosts.store.attempt(first.key).publish({"seconds": 2.0})
        await coordinator.note("base", note)
        seen.append(futures[first.key].done())
        progress = await coordinator.progress()
        assert (progress["trained"], progress["finished"]) == (first.tokens, 1)
        assert progress["running"]["base"]["call_tokens"] == 64, "counted once"
        return [*seen, futures[second.key].done()]

    assert asyncio.run(run()) == [False, True, False]
