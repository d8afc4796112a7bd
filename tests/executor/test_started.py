"""Work that waits for a worker to start goes to one that has started and becomes idle."""

import asyncio
from typing import Any

from splitray.executor.coordinator import Coordinator
from splitray.executor.pool import Pool
from splitray.executor.work import LADDER


def test_work_of_a_starting_worker_goes_to_an_idle_one() -> None:
    """The imports of a GPU worker took 14 s, in which another had done its work and stood idle for 11."""

    async def run() -> None:
        coordinator: Any = Coordinator.__new__(Coordinator)
        coordinator._stop, coordinator._ready, coordinator._starting = False, {"ladder[0]"}, {}
        pool = Pool(2.0, 1.0, "CPUs", lambda *_: None, lambda lease: None, coordinator._ready.__contains__)
        coordinator._pool = pool
        first, second = await pool.lend(LADDER), await pool.lend(LADDER)
        assert await coordinator._started(first) is first
        starts = coordinator._starting["ladder[1]"] = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(coordinator._started(second))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await pool.give_back(first, alive=True)
        assert (await asyncio.wait_for(waiting, 5)).name == "ladder[0]"
        later = await pool.lend(LADDER)
        assert later.name == "ladder[1]", "it stays, and serves who comes next"
        starts.set_result(None)
        assert await asyncio.wait_for(coordinator._started(later), 5) is later

    asyncio.run(run())
