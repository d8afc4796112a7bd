"""What the coordinator looks after every second: idle workers, resources that nobody uses, work that cannot start."""

import asyncio
import logging

from ray.exceptions import RayError

from splitray.executor.beats import Beats
from splitray.executor.compat import unplaced, unplaced_work
from splitray.executor.orphans import release_orphans
from splitray.executor.pool import Pool
from splitray.executor.waiting import AGAIN, LATE, hint

_log = logging.getLogger(__name__)

_TIDY = 4  # seconds between looks for resources that nobody uses
_SPARE = 3.0  # seconds of idleness after which a worker goes, if the cluster has work that it cannot place


class Upkeep:
    """A task of the coordinator's event loop.

    Args:
        namespace: of the run.
        unit: what workers hold of the cluster, "CPUs" or "GPUs".
        idle: seconds of idleness after which a worker is let go in any case.
    """

    def __init__(self, pool: Pool, beats: Beats, namespace: str, unit: str, idle: float = 60.0) -> None:
        self._pool, self._beats, self._namespace, self._unit = pool, beats, namespace, unit
        self._idle = idle
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, int] = {}  # seconds without a process, by worker
        self._told = -AGAIN

    def begin(self) -> None:
        """Start, where it has not been started; needs a running event loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        second = 0
        while True:
            await asyncio.sleep(1.0)
            second += 1
            self._beats.tick()
            try:
                if second % _TIDY == 0 and (count := await asyncio.to_thread(release_orphans)):
                    _log.warning("gave back the resources of %d worker groups that are dead", count)
                await self._let_go()
                await self._tell_waiting(second)
            except RayError:  # the control store does not answer: the next second will do
                continue

    async def _let_go(self) -> None:
        if self._pool.idle_longer(self._idle):
            await self._pool.dismiss_idle(self._idle)
        if self._pool.idle_longer(_SPARE) and await asyncio.to_thread(unplaced_work):
            await self._pool.dismiss_idle(_SPARE)

    async def _tell_waiting(self, second: int) -> None:
        """Say which workers the cluster does not start for want of resources, and who holds those."""
        without = {lease.name for lease in self._pool.busy.values() if not self._has_process(lease.name, lease.workers)}
        self._waiting = {name: self._waiting.get(name, 0) + 1 for name in sorted(without)}
        late = [name for name, seconds in self._waiting.items() if seconds >= LATE]
        if not late or second - self._told < AGAIN:
            return
        waiting = await asyncio.to_thread(unplaced)
        if waiting is None or waiting:
            self._told = second
            unit = self._unit.removesuffix("s")
            _log.warning("%s", await asyncio.to_thread(hint, ", ".join(late), waiting, unit, self._namespace))

    def _has_process(self, name: str, workers: int) -> bool:
        return self._beats.up(name) and (workers == 1 or self._beats.ranks(name) > 0)
