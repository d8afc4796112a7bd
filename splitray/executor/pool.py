"""Workers within the cluster's capacity: reused while warm, started when there is room, let go for who needs room."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import StageError

LADDER, ANY = "ladder", "any"


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


@dataclass(frozen=True, eq=False)
class _Ticket:
    """A place in the queue."""

    kind: str


@dataclass
class Pool:
    """Starts, lends and ends worker actors. Lives on one event loop.

    First come, first served, but `any` goes before the others: it scores a leaf, in seconds, and a loss should not
    wait for minutes of training.

    Kind `ladder` may have many workers, `ladder[0]`, `ladder[1]`, ...; of every other kind there is one, so named. Who
    asks for `any` gets a warm worker of whatever kind, else one of the ladder's. Where there is no room for another
    worker, an idle one of another kind serves: every worker can train every segment, and starting a process in its
    place costs 6 to 20 s of imports.

    Args:
        capacity: CPUs (GPUs where `unit` says so) that workers may hold together.
        per_worker: what one worker holds.
        start: makes the actor of a name and a number of workers.
        end: ends the actor of a lease at once.
        up: whether the process of the worker of a name was ever heard of; a cluster that is full starts none.
    """

    capacity: float
    per_worker: float
    unit: str
    start: Callable[[str, int], Any]
    end: Callable[[Lease], None]
    up: Callable[[str], bool] = lambda name: True
    _held: float = 0.0
    _idle: list[_Idle] = field(default_factory=list)
    _busy: dict[str, Lease] = field(default_factory=dict)
    _queue: list["_Ticket"] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _closed: bool = False

    async def lend(self, kind: str, workers: int = 1) -> Lease:
        """A worker of a kind, warm where one is idle. Waits for its turn; None of the capacity is held meanwhile."""
        cost = self.per_worker * workers
        if cost > self.capacity:
            raise StageError(
                f"{kind} needs {workers} x {self.per_worker:g} = {cost:g} {self.unit}, the cluster has "
                f"{self.capacity:g}: lower its workers or training.threads, or start a larger cluster"
            )
        ticket = _Ticket(kind)
        ahead = sum(t.kind == ANY for t in self._queue) if kind == ANY else len(self._queue)
        self._queue.insert(ahead, ticket)
        async with self._changed:
            try:
                while True:
                    if self._closed:
                        raise StageError("the run is stopping")
                    lease = self._now(kind, workers, cost) if self._queue[0] is ticket else None
                    if lease is not None:
                        self._busy[lease.name] = lease
                        return lease
                    await self._changed.wait()
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _now(self, kind: str, workers: int, cost: float) -> Lease | None:
        if (chosen := self._warm(lambda idle: kind in (idle.lease.kind, ANY))) is not None:
            return chosen
        kind = LADDER if kind == ANY else kind
        if kind != LADDER and kind in self._busy:
            return None
        if self._held + cost > self.capacity and workers == 1 and (chosen := self._warm(lambda idle: True)) is not None:
            return chosen
        while self._held + cost > self.capacity and self._idle:
            self._dismiss(self._idle.pop(0).lease)
        if self._held + cost > self.capacity:
            return None
        taken = self._busy.keys() | {idle.lease.name for idle in self._idle}
        name = kind if kind != LADDER else next(n for i in range(10**6) if (n := f"{LADDER}[{i}]") not in taken)
        lease = Lease(kind, name, workers, cost, self.start(name, workers))
        self._held += cost
        return lease

    def _warm(self, serves: Callable[[_Idle], bool]) -> Lease | None:
        """An idle worker that serves, no longer idle: one whose process is up, and the ladder's, before others."""
        idle = [i for i in self._idle if serves(i)]
        if not idle:
            return None
        chosen = min(idle, key=lambda i: (not self.up(i.lease.name), i.lease.kind != LADDER))
        self._idle.remove(chosen)
        return chosen.lease

    async def exchange(self, lease: Lease) -> Lease:
        """A worker that is up and idle, for one whose process the cluster has not started yet; the same where none is.

        The other stays, as an idle one: it may be up a moment later.
        """
        async with self._changed:
            warm = self._warm(lambda idle: self.up(idle.lease.name)) if lease.workers == 1 else None
            if warm is None:
                return lease
            del self._busy[lease.name]
            self._busy[warm.name] = warm
            self._idle.append(_Idle(lease, time.monotonic()))
            self._changed.notify_all()
            return warm

    async def give_back(self, lease: Lease, alive: bool) -> None:
        """Return a worker; a dead one, and a group's supervisor, are ended."""
        async with self._changed:
            self._busy.pop(lease.name, None)
            if alive and lease.workers == 1:
                self._idle.append(_Idle(lease, time.monotonic()))
            else:
                self._dismiss(lease)
            self._changed.notify_all()

    @property
    def busy(self) -> dict[str, Lease]:
        """The workers in use, by name."""
        return dict(self._busy)

    def idle_longer(self, seconds: float) -> bool:
        """Whether some worker has been idle for so long."""
        return any(time.monotonic() - idle.since >= seconds for idle in self._idle)

    async def dismiss_idle(self, seconds: float = 0.0) -> None:
        """End every worker that has been idle for so long, so that other work has its place."""
        async with self._changed:
            for idle in [i for i in self._idle if time.monotonic() - i.since >= seconds]:
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
