"""What the coordinator writes down of its workers' devices."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from splitray.executor.dispatcher import Dispatcher
from splitray.executor.pool import LADDER, Need
from splitray.executor.usage import UsageLog
from splitray.executor.worker import RunContext
from splitray.runtime.worker_state import WorkerState
from splitray.storage.store import Store
from splitray.training.tree import Leaf
from tests.support import tiny
from tests.support.launched import Launched


class Written:
    """A log with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now, self.records = 0.0, list[WorkerState]()
        self.log = UsageLog("GPU", self.records.append, lambda: self.now)

    @property
    def states(self) -> list[tuple[float, str, str]]:
        return [(r.at, r.worker, r.state) for r in self.records]


def test_a_worker_holds_from_its_first_sign_of_life_to_its_end() -> None:
    written = Written()
    written.log.begin("ladder[0]", 1.0, False)
    for now, act in (
        (30.0, lambda: written.log.beat("ladder[0]", None)),
        (31.0, lambda: written.log.beat("ladder[0]", None)),
        (32.0, lambda: written.log.works("ladder[0]", "train")),
        (40.0, lambda: written.log.rests("ladder[0]")),
        (41.0, lambda: written.log.end("ladder[0]")),
        (42.0, lambda: written.log.beat("ladder[0]", None)),  # late, of a process that is being killed
    ):
        written.now = now
        act()
    states = [(30.0, "idle"), (32.0, "train"), (40.0, "idle"), (41.0, "gone")]
    assert written.states == [(0.0, "", "gone"), *[(at, "ladder[0]", state) for at, state in states]]


def test_one_that_was_never_up_holds_nothing() -> None:
    written = Written()
    written.log.begin("base", 8.0, True)
    written.log.works("base", "train")
    written.log.end("base")
    assert written.states == [(0.0, "", "gone")]


def test_a_group_holds_once_its_ranks_are_up_and_not_by_its_supervisor() -> None:
    written = Written()
    written.log.begin("base", 8.0, True)
    written.log.works("base", "train")
    written.log.beat("base", None)
    assert written.states == [(0.0, "", "gone")]
    written.now = 12.0
    written.log.beat("base", 0)
    written.log.beat("base", 1)
    assert written.records[1:] == [WorkerState(12.0, "base", "train", "GPU", 8.0)]


def test_energy_of_all_ranks_is_added_and_written_in_a_long_call_too() -> None:
    written = Written()
    written.log.begin("base", 2.0, True)
    for second in range(100):
        written.now = float(second)
        written.log.beat("base", 0, 300.0)
        written.log.beat("base", 1, 200.0)
    written.log.end("base")
    assert sum(r.joules or 0.0 for r in written.records) == 100 * 500.0
    assert len(written.records) > 3, "a kill would hide it"


def test_the_dispatcher_writes_down_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own pool and calls; only the processes of its workers are missing."""
    context = RunContext(Store(tmp_path), "corpus", tiny.training(threads=2), "test")
    monkeypatch.setattr("splitray.executor.dispatcher.draining_nodes", set)

    async def scene() -> list[WorkerState]:
        beats = list[asyncio.Task[bool]]()

        def begin(name: str, workers: int, birth: str) -> None:
            beat = dispatcher.beat(name, 0 if workers > 1 else None, birth, "node")
            beats.append(asyncio.get_running_loop().create_task(beat))

        async def work(actor: Any) -> None:
            await asyncio.sleep(0)

        dispatcher = Dispatcher(context, 4, Launched(begin))
        monkeypatch.setattr(dispatcher, "begin", lambda: None)
        segments = tiny.segments(tiny.make_recipe(), Leaf(16 * 64))
        await dispatcher.run(Need(LADDER), work, segments)
        await dispatcher.run(Need("any"), work)
        await dispatcher.run(Need("base", 2), work, segments)
        return dispatcher.usage()

    first, *records = asyncio.run(scene())
    assert (first.worker, first.state) == ("", "gone")
    assert [(r.worker, r.state) for r in records] == [
        *[("ladder[0]", state) for state in ("idle", "train", "idle", "score", "idle")],
        ("ladder[0]", "gone"),  # the group needs its room
        *[("base", state) for state in ("idle", "train", "idle", "gone")],
    ]
    assert {(r.device, r.devices) for r in records} == {("CPU", 2.0), ("CPU", 4.0)}
