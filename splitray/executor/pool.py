"""Workers within the cluster's capacity: reused while warm, started when there is room, let go for who needs room."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import StageError

LADDER, ANY = "ladder", "any"


@dataclass(frozen=True)
class Lease:
    """A worker in use. `cost` is what it holds of the capacity while it lives."""

    kind: str
    name: str
    workers: int
    cost: float
    actor: Any


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
    asks for `any` gets a warm worker of whatever kind, else one of the ladder's: ending a specialist's worker to start
    another for its loss costs 6 s.

    Args:
        capacity: CPUs (GPUs where `unit` says so) that workers may hold together.
        per_worker: what one worker holds.
        start: makes the actor of a name and a number of workers.
        end: ends an actor at once.
    """

    capacity: float
    per_worker: float
    unit: str
    start: Callable[[str, int], Any]
    end: Callable[[Any], None]
    _held: float = 0.0
    _idle: list[Lease] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
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
                        self._busy.add(lease.name)
                        return lease
                    await self._changed.wait()
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _now(self, kind: str, workers: int, cost: float) -> Lease | None:
        warm = [lease for lease in self._idle if kind in (lease.kind, ANY)]
        if warm:
            chosen = min(warm, key=lambda lease: lease.kind != LADDER)
            self._idle.remove(chosen)
            return chosen
        kind = LADDER if kind == ANY else kind
        if kind != LADDER and kind in self._busy:
            return None
        while self._held + cost > self.capacity and self._idle:
            self._dismiss(self._idle.pop(0))
        if self._held + cost > self.capacity:
            return None
        taken = self._busy | {lease.name for lease in self._idle}
        name = kind if kind != LADDER else next(n for i in range(10**6) if (n := f"{LADDER}[{i}]") not in taken)
        lease = Lease(kind, name, workers, cost, self.start(name, workers))
        self._held += cost
        return lease

    async def give_back(self, lease: Lease, alive: bool) -> None:
        """Return a worker; a dead one, and a group's supervisor, are ended."""
        async with self._changed:
            self._busy.discard(lease.name)
            if alive and lease.workers == 1:
                self._idle.append(lease)
            else:
                self._dismiss(lease)
            self._changed.notify_all()

    async def dismiss_idle(self) -> None:
        """End every idle worker, so that other work has its place."""
        async with self._changed:
            while self._idle:
                self._dismiss(self._idle.pop())
            self._changed.notify_all()

    async def close(self) -> None:
        """Lend nothing more; those who wait are told."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    def _dismiss(self, lease: Lease) -> None:
        self._held -= lease.cost
        self.end(lease.actor)
