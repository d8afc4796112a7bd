"""How many workers a group has while nodes come and go: the choice alone, and the coordinator's part. No cluster."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from splitray.errors import StageError
from splitray.executor.dispatcher import Dispatcher
from splitray.executor.elastic import Elastic, places, sizes
from splitray.executor.pool import Need
from splitray.executor.work import BASE, Job
from splitray.executor.worker import RunContext
from splitray.storage.store import Store
from splitray.training.loop import Interrupted
from splitray.training.tree import Leaf, Segment
from tests.executor.test_failures import raised
from tests.support import tiny
from tests.support.launched import Launched

SEGMENTS: list[Segment] = tiny.segments(tiny.make_recipe(), Leaf(16 * 64))


def test_a_group_has_numbers_of_workers_that_share_the_batch_evenly() -> None:
    assert sizes(8, 2, 24) == (8, 6, 4, 3, 2)
    assert sizes(64, 20, 512) == (64, 32), "16 are too few, and no other number divides the batch"
    assert sizes(8, None, 24) == (8,) and sizes(8, 8, 24) == (8,)
    assert sizes(2, 4, 24) == (2,), "a group that is smaller from the start"


def test_places_are_counted_node_by_node() -> None:
    worker = {"CPU": 1.9, "GPU": 1.0}
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 8.0}, {"CPU": 64.0}, {"CPU": 1.0, "GPU": 1.0}]
    assert places(nodes, worker) == 2 + 1 + 0 + 0
    assert places([{"CPU": 2 * 0.95}], {"CPU": 0.95}) == 2, "two workers fill the node, whatever floats say"


class Cluster:
    """A clock, and places of which so many are free."""

    def __init__(self, total: int, free: int = 0) -> None:
        self.total, self.free, self.now, self.asked = total, free, 0.0, 0

    def room(self) -> tuple[int, int]:
        self.asked += 1
        return self.total, self.free

    def elastic(self, *sizes: int) -> Elastic:
        return Elastic(sizes, 10.0, self.room, lambda: self.now)

    def told(self, elastic: Elastic, up: bool, seconds: int, spare: int = 100) -> list[int | None]:
        answers = []
        for _ in range(seconds):
            answers.append(elastic.better(up, spare))
            self.now += 1.0
        return answers


def test_a_group_that_waits_for_missing_nodes_gets_fewer_workers_after_a_while() -> None:
    cluster = Cluster(5)
    elastic = cluster.elastic(8, 4, 2)
    assert cluster.told(elastic, False, 12) == [None] * 10 + [4, 4]
    elastic.take(4)
    assert cluster.told(elastic, False, 30) == [None] * 30, "others hold the places: they go in time"
    cluster.total = 3
    assert cluster.told(elastic, False, 11)[-2:] == [None, 2]
    cluster.total = 1
    assert cluster.told(elastic, False, 30) == [None] * 30, "fewer than the fewest: it waits"
    elastic.whole()
    assert elastic.workers == 8


def test_a_group_that_dies_is_not_one_that_waits() -> None:
    """Its ranks are gone before Ray has told of it."""
    cluster = Cluster(8)
    elastic = cluster.elastic(8, 4, 2)
    elastic.begin()
    assert cluster.told(elastic, True, 1) == [None]
    cluster.total = 4
    assert cluster.told(elastic, False, 30) == [None] * 30
    elastic.begin()
    assert cluster.told(elastic, False, 11)[-1] == 4


def test_waiting_begins_anew_when_nodes_come_or_go() -> None:
    cluster = Cluster(5)
    elastic = cluster.elastic(8, 4, 2)
    assert cluster.told(elastic, False, 9) == [None] * 9
    cluster.total = 8
    assert cluster.told(elastic, False, 1) == [None]
    cluster.total = 2
    assert cluster.told(elastic, False, 11) == [None] * 10 + [2]


def test_a_smaller_group_grows_once_places_have_been_free_for_a_while() -> None:
    cluster = Cluster(4, 0)
    elastic = cluster.elastic(8, 4, 2)
    elastic.take(2)
    assert cluster.told(elastic, True, 30) == [None] * 30, "there are places, and others have them"
    cluster.free = 2
    assert cluster.told(elastic, True, 20, spare=1) == [None] * 20, "the pool has promised them"
    assert cluster.told(elastic, True, 11) == [None] * 10 + [4]
    cluster.total = cluster.free = 100
    elastic.take(4)
    assert cluster.told(elastic, True, 11, spare=4)[-1] == 8


def test_a_whole_group_and_a_fixed_one_ask_nothing() -> None:
    cluster = Cluster(0)
    assert cluster.told(cluster.elastic(8, 4), True, 20) == [None] * 20
    assert cluster.told(cluster.elastic(8), False, 20) == [None] * 20
    assert cluster.asked == 0


class Groups:
    """A dispatcher whose groups are simulated: their ranks beat, and end as soon as they are told to."""

    def __init__(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        capacity: float = 4,
        fewest: Mapping[str, int | None] = {"base": 1},
    ) -> None:
        store, settings = Store(root), tiny.training()
        context = RunContext(store, "corpus", settings, "test", fewest=fewest, resize_seconds=0.01)
        self.dispatcher = Dispatcher(context, capacity, Launched(self._begin))
        self.places, self.free, self.started, self.births = capacity, 0.0, list[int](), list[str]()
        monkeypatch.setattr("splitray.executor.dispatcher.room", lambda each: (int(self.places), int(self.free)))
        monkeypatch.setattr("splitray.executor.dispatcher.draining_nodes", set)
        monkeypatch.setattr(self.dispatcher, "begin", lambda: None)

    def _begin(self, name: str, workers: int, birth: str) -> None:
        self.started.append(workers)
        self.births.append(birth)

    async def trains(self, beats: int = 100) -> str:
        """As the newest group does: with a checkpoint and an error where a rank is told to stop."""
        workers, birth = self.started[-1], self.births[-1]
        for _ in range(beats):
            for rank in range(workers) if workers > 1 else [None]:
                if await self.dispatcher.beat("base", rank, birth, "node"):
                    raise raised(Interrupted("a checkpoint is kept"))
        return f"trained by {workers}"

    def call(self, script: Any, workers: int) -> str:
        job = Job(tuple(SEGMENTS), BASE, workers)

        async def run() -> str:
            need, elastic = Need(BASE, workers), self.dispatcher.elastic(job)
            return str(await self.dispatcher.run(need, lambda actor: script(), SEGMENTS, elastic=elastic))

        return asyncio.run(run())

    def held(self) -> list[float]:
        """Devices by the record of usage, whenever they change."""
        states = [s for s in self.dispatcher.usage() if s.worker]
        changes = [0.0 if s.state == "gone" else s.devices for s in states]
        return [now for before, now in zip([0.0, *changes], changes) if now != before]


def test_a_group_goes_on_with_fewer_workers_and_grows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers, of which two places are lost with their node and come back while the other two train."""
    groups = Groups(tmp_path, monkeypatch)

    async def script() -> str:
        match len(groups.started):
            case 1:  # a node is lost
                groups.places = 2
                await groups.dispatcher.beat("base", 0, groups.births[-1], "node")
                raise RayActorError(error_msg="its node died")
            case 2:  # no rank ever begins
                await asyncio.sleep(60)
            case 3:
                assert groups.dispatcher.spare == 2, "the pool may lend what the group does not hold"
                groups.places, groups.free = 4, 2
                return await groups.trains()
        return await groups.trains(beats=1)

    assert groups.call(script, 4) == "trained by 4"
    assert groups.started == [4, 4, 2, 4]
    assert groups.held() == [4, 0, 2, 0, 4, 0], "what is held follows the workers that there are"
    assert groups.dispatcher.spare == 4
    assert groups.dispatcher.failures == 1, "another number of workers is no failure"


def test_a_group_of_one_is_a_single_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(tmp_path, monkeypatch)

    async def script() -> str:
        if groups.started[-1] > 1:
            groups.places = 1
            await asyncio.sleep(60)
        return await groups.trains(beats=1)

    assert groups.call(script, 4) == "trained by 1"
    assert groups.held() == [1], "it stays, idle, for other work"


def test_sizes_above_the_capacity_are_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that starts while nodes are missing."""
    groups = Groups(tmp_path, monkeypatch, capacity=3)

    async def script() -> str:
        return await groups.trains(beats=1)

    assert groups.call(script, 4) == "trained by 2"


def test_a_kind_without_a_minimum_waits_for_all_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = Groups(tmp_path, monkeypatch).dispatcher
    assert dispatcher.elastic(Job(tuple(SEGMENTS), "specialist[a]", 4)).fixed
    assert not dispatcher.elastic(Job(tuple(SEGMENTS), BASE, 4)).fixed
    lone = Groups(tmp_path, monkeypatch, fewest={}).dispatcher
    with pytest.raises(StageError, match=r"base needs 8 x 1 = 8 CPUs, the cluster has 4"):
        elastic = lone.elastic(Job(tuple(SEGMENTS), BASE, 8))
        asyncio.run(lone.run(Need(BASE, 8), str, elastic=elastic))
