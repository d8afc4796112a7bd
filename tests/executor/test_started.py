"""Work that waits for a worker to start goes to one that has started and becomes idle."""

import asyncio
from pathlib import Path

from splitray.executor.dispatcher import Dispatcher
from splitray.executor.pool import Need
from splitray.executor.work import LADDER
from splitray.executor.worker import RunContext
from splitray.storage.store import Store
from tests.support import tiny
from tests.support.launched import Launched


def test_work_of_a_starting_worker_goes_to_an_idle_one(tmp_path: Path) -> None:
    """The imports of a GPU worker took 14 s, in which another had done its work and stood idle for 11."""
    launched = Launched(held=frozenset({"ladder[1]"}))

    async def run() -> None:
        dispatcher = Dispatcher(RunContext(Store(tmp_path), "corpus", tiny.training(), "test"), 2, launched)
        over = asyncio.Event()

        async def work(actor: str) -> str:
            await over.wait()
            return actor

        first = asyncio.create_task(dispatcher.run(Need(LADDER), work))
        second = asyncio.create_task(dispatcher.run(Need(LADDER), work))
        await asyncio.sleep(0.05)
        assert launched.starts["ladder[0]"].done() and not first.done() and not second.done()
        over.set()
        assert await first == "ladder[0]"
        assert await asyncio.wait_for(second, 5) == "ladder[0]"
        later = [asyncio.create_task(dispatcher.run(Need(LADDER), work)) for _ in range(2)]
        launched.starts["ladder[1]"].set_result(None)
        served = await asyncio.wait_for(asyncio.gather(*later), 5)
        assert sorted(served) == ["ladder[0]", "ladder[1]"], "it stays, and serves who comes next"

    asyncio.run(run())
    assert list(launched.starts) == ["ladder[0]", "ladder[1]"] and not launched.ended
