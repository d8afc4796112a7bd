"""Workers within the cluster's capacity: reused while warm, started when there is room, let go for who needs room."""

import asyncio
import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import StageError
from splitray.executor.work import LADDER

ANY = "any"
_LITTLE = 1e-6  # three thirds of a device are one


@dataclass(frozen=True, eq=False)
class Lease:
    """A worker in use. `cost` is what it holds of the capacity while it lives."""

    kind: str
    name: str
    workers: int
    cost: float
    actor: Any


@dataclass(eq=False)
class _Idle:
    """A worker that waits for work, and since when (monotonic seconds)."""

    lease: Lease
    since: float


@dataclass(frozen=True)
class Need:
    """What a call asks the pool for.

    Args:
        workers: 1 for a single one, more for a group.
        share: what a single worker needs of a device.
        priority: of those who wait the highest goes first; see `timetable.ways`.
    """

    kind: str
    workers: int = 1
    share: float = 1.0
    priority: float = 0.0


@dataclass(frozen=True, eq=False)
class _Ticket:
    """A place in the queue."""

    need: Need

    @property
    def place(self) -> tuple[bool, float]:
        return self.need.kind != ANY, -self.need.priority


@dataclass
class Pool:
    """Starts, lends and ends worker actors. Lives on one event loop.

    The highest priority goes first, and of equals who came first. Kind `any` goes before all others: it scores a leaf,
    in seconds, and a loss should not wait for minutes of training. Nobody overtakes the first one who waits for room,
    so that a group gets its devices in the end. `timetable` foretells what these rules come to.

    Kind `ladder` may have many workers, `ladder[0]`, `ladder[1]`, ...; of every other kind there is one, so named. Who
    asks for `any` gets a warm worker of whatever kind, else one of the ladder's. Where there is no room for another
    worker, an idle one of another kind serves: every worker can train every segment, and starting a process in its
    place costs 6 to 20 s of imports.

    Args:
        capacity: CPUs (GPUs where `unit` says so) that workers may hold together.
        per_worker: what one worker holds.
        start: makes the actor of a name, a number of workers and a share of a device.
        end: ends the actor of a lease at once.
        up: whether the worker of a name has started; that takes seconds, and a cluster that is full starts none.
    """

    capacity: float
    per_worker: float
    unit: str
    start: Callable[[str, int, float], Any]
    end: Callable[[Lease], None]
    up: Callable[[str], bool] = lambda name: True
    _held: float = 0.0
    _idle: list[_Idle] = field(default_factory=list)
    _busy: dict[str, Lease] = field(default_factory=dict)
    _queue: list["_Ticket"] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _closed: bool = False

    async def lend(self, kind: str, workers: int = 1, share: float = 1.0, priority: float = 0.0) -> Lease:
        """A worker of a kind, warm where one is idle. Waits for its turn; None of the capacity is held meanwhile.

        For the arguments see `Need`.
        """
        cost = self.per_worker * workers
        if cost > self.capacity:
            raise StageError(
                f"{kind} needs {workers} x {self.per_worker:g} = {cost:g} {self.unit}, the cluster has "
                f"{self.capacity:g}: lower its workers or training.threads, or start a larger cluster"
            )
        need = Need(kind, workers, share if workers == 1 else 1.0, priority)
        ticket = _Ticket(need)
        bisect.insort(self._queue, ticket, key=lambda t: t.place)  # behind its equals
        async with self._changed:
            try:
                while True:
                    if self._closed:
                        raise StageError("the run is stopping")
                    lease = self._now(need) if self._turn() is ticket else None
                    if lease is not None:
                        self._busy[lease.name] = lease
                        return lease
                    await self._changed.wait()
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _turn(self) -> _Ticket | None:
        """Whose turn it is: who waits for a worker of its own that is in use lets the next one pass."""
        return next((t for t in self._queue if not self._in_use(t.need.kind)), None)

    def _in_use(self, kind: str) -> bool:
        return kind not in (LADDER, ANY) and kind in self._busy

    def _now(self, need: Need) -> Lease | None:
        cost = self.per_worker * need.workers * need.share
        if need.workers == 1 and (chosen := self._idle_for(need, cost)) is not None:
            return chosen
        kind = LADDER if need.kind == ANY else need.kind
        while not self._fits(cost) and self._idle:
            self._dismiss(self._idle.pop(0).lease)
        if not self._fits(cost):
            return None
        taken = self._busy.keys() | {idle.lease.name for idle in self._idle}
        name = kind if kind != LADDER else next(n for i in range(10**6) if (n := f"{LADDER}[{i}]") not in taken)
        lease = Lease(kind, name, need.workers, cost, self.start(name, need.workers, need.share))
        self._held += cost
        return lease

    def _idle_for(self, need: Need, cost: float) -> Lease | None:
        """A warm worker: of the kind and of that size; else a larger one, for who asks for any or where it is full."""

        def large(idle: _Idle) -> bool:
            return idle.lease.cost >= cost - _LITTLE

        own = self._warm(lambda i: large(i) and need.kind in (i.lease.kind, ANY) and i.lease.cost <= cost + _LITTLE)
        if own is None and (need.kind == ANY or not self._fits(cost)):
            return self._warm(large)
        return own

    def _fits(self, cost: float) -> bool:
        return self._held + cost <= self.capacity + _LITTLE

    def _warm(self, serves: Callable[[_Idle], bool]) -> Lease | None:
        """An idle worker that serves, no longer idle: one whose process is up, and the ladder's, before others."""
        idle = [i for i in self._idle if serves(i)]
        if not idle:
            return None
        chosen = min(idle, key=lambda i: (not self.up(i.lease.name), i.lease.kind != LADDER))
        self._idle.remove(chosen)
        return chosen.lease

    async def exchange(self, lease: Lease) -> Lease:
        """A worker that is up and idle, for one that has not started yet; the same where none is.

        The other stays, as an idle one: it may be up a moment later.
        """
        async with self._changed:
            enough = lease.cost - _LITTLE
            single = lease.workers == 1
            warm = self._warm(lambda i: single and self.up(i.lease.name) and i.lease.cost >= enough)
            if warm is None:
                return lease
            del self._busy[lease.name]
            self._busy[warm.name] = warm
            self._idle.append(_Idle(lease, _now()))
            self._changed.notify_all()
            return warm

    async def give_back(self, lease: Lease, alive: bool) -> None:
        """Return a worker; a dead one, and a group's supervisor, are ended."""
        async with self._changed:
            self._busy.pop(lease.name, None)
            if alive and lease.workers == 1:
                self._idle.append(_Idle(lease, _now()))
            else:
                self._dismiss(lease)
            self._changed.notify_all()

    @property
    def busy(self) -> dict[str, Lease]:
        """The workers in use, by name."""
        return dict(self._busy)

    @property
    def spare(self) -> float:
        """What of the capacity no worker in use holds."""
        return self.capacity - self._held + sum(idle.lease.cost for idle in self._idle)

    def idle_longer(self, seconds: float) -> bool:
        """Whether some worker has been idle for so long."""
        return any(_now() - idle.since >= seconds for idle in self._idle)

    async def dismiss_idle(self, seconds: float = 0.0) -> None:
        """End every worker that has been idle for so long, so that other work has its place."""
        async with self._changed:
            for idle in [i for i in self._idle if _now() - i.since >= seconds]:
                self._idle.remove(idle)
                self._dismiss(idle.lease)
            self._changed.notify_all()

    async def close(self) -> None:
        """Lend nothing more; those who wait are told."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    def _dismiss(self, lease: Lease) -> None:
        self._held -= lease.cost
        self.end(lease)


def _now() -> float:
    """Seconds of the event loop's clock, which a simulation may turn faster than the machine's."""
    return asyncio.get_running_loop().time()
