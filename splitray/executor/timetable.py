"""Who trains what, and when: a timetable by list scheduling, made before anything starts. A pure function. No Ray.

Of the work that is ready, the one with the longest way to its last descendant goes first (Graham 1969; Hu 1961 for
trees). The pool lends its workers in the same order and by the same rules, so that what is foretold is what happens.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True)
class Task:
    """A call of a worker.

    Args:
        parts: what it trains, one after the other: a key, and its seconds. Children start when their part is through.
        after: keys that must be through before it starts.
        devices: that it holds: 0.5 shares one with another, 4 is a group of four.
        lane: tasks of one lane follow one another, as they have one worker group between them.
        first: goes before all that is not: it scores a leaf.
    """

    parts: tuple[tuple[str, float], ...]
    after: tuple[str, ...] = ()
    devices: float = 1.0
    lane: str | None = None
    first: bool = False

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.parts)


@dataclass(frozen=True)
class Starts:
    """Seconds until a new worker works, and a new group; seconds of idleness after which a worker is let go."""

    worker: float
    group: float
    idle: float


@dataclass(frozen=True)
class Slot:
    """A task's place in the timetable, in seconds; `started` of them are the start of its worker.

    `devices` are those of its worker, which may be larger than it asks for.
    """

    task: Task
    begin: float
    end: float
    started: float
    devices: float


@dataclass(frozen=True)
class Timetable:
    """What a list of tasks takes.

    Args:
        slots: by their begin.
        makespan: seconds until the last task ends.
        peak: devices that are held at once.
        held: device-seconds from the start of a worker to its end. used: device-seconds of tasks.
    """

    slots: tuple[Slot, ...]
    makespan: float
    peak: float
    held: float
    used: float

    @property
    def utilisation(self) -> float:
        """Used of held; 1 where nothing is held."""
        return self.used / self.held if self.held else 1.0


def ways(tasks: Sequence[Task]) -> dict[str, float]:
    """Seconds from the begin of every part to the end of its last descendant, by its key."""
    children: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        for key in task.after:
            children[key].append(task)
    found: dict[str, float] = {}

    def way(key: str, seconds: float, later: float) -> float:
        return seconds + max([later, *(found[child.parts[0][0]] for child in children[key])])

    for task in reversed(_ordered(tasks, children)):
        later = 0.0
        for key, seconds in reversed(task.parts):
            found[key] = later = way(key, seconds, later)
    return found


def _ordered(tasks: Sequence[Task], children: Mapping[str, Sequence[Task]]) -> list[Task]:
    """Tasks after those that they wait for."""
    known = {key for task in tasks for key, _ in task.parts}
    waits = {id(task): sum(key in known for key in task.after) for task in tasks}
    ready, result = [task for task in tasks if not waits[id(task)]], list[Task]()
    while ready:
        task = ready.pop()
        result.append(task)
        for key, _ in task.parts:
            for child in children.get(key, ()):
                waits[id(child)] -= 1
                if not waits[id(child)]:
                    ready.append(child)
    assert len(result) == len(tasks), "a task waits for itself"
    return result


def timetable(tasks: Sequence[Task], capacity: float, starts: Starts) -> Timetable:
    """The timetable of tasks on `capacity` devices."""
    return _Plan(tasks, _Workers(capacity, starts)).run()


@dataclass(eq=False)
class _Worker:
    """A single worker that is idle: what it holds, and since when."""

    devices: float
    since: float


@dataclass(eq=False)
class _Workers:
    """What the pool holds, by the rules of `Pool`."""

    capacity: float
    starts: Starts
    in_use: float = 0.0
    idle: list[_Worker] = field(default_factory=list)
    held: float = 0.0  # device-seconds of idle workers
    peak: float = 0.0

    def place(self, task: Task, now: float) -> tuple[float, float] | None:
        """The devices that a task gets and the seconds until it works on them; None where it has to wait."""
        need = task.devices
        if need <= 1:
            own = next((w for w in self.idle if w.devices == need), None)
            larger = next((w for w in self.idle if w.devices >= need), None)
            warm = own or (larger if task.first or not self._fits(need) else None)
            if warm is not None:
                self.idle.remove(warm)
                self.held += (now - warm.since) * warm.devices
                self.in_use += warm.devices
                return warm.devices, 0.0
        while not self._fits(need) and self.idle:
            oldest = self.idle.pop(0)
            self.held += (now - oldest.since) * oldest.devices
        if not self._fits(need):
            return None
        self.in_use += need
        self.peak = max(self.peak, self.holds)
        return need, self.starts.group if need > 1 else self.starts.worker

    def give_back(self, devices: float, now: float) -> None:
        """A task is over: a single worker stays for the next, a group ends."""
        self.in_use -= devices
        if devices <= 1:
            self.idle.append(_Worker(devices, now))

    def let_go(self, now: float) -> None:
        """End those that have been idle for long."""
        while self.idle and now - self.idle[0].since >= self.starts.idle:
            self.held += self.starts.idle * self.idle.pop(0).devices

    @property
    def holds(self) -> float:
        return self.in_use + sum(w.devices for w in self.idle)

    def _fits(self, need: float) -> bool:
        return self.holds + need <= self.capacity + 1e-9


class _Plan:
    """The clock: what ends when, what is ready, and what goes first."""

    def __init__(self, tasks: Sequence[Task], workers: _Workers) -> None:
        self.tasks, self.workers, self.now = tasks, workers, 0.0
        self.slots: list[Slot] = []
        self._order, self._numbers = ways(tasks), {id(task): number for number, task in enumerate(tasks)}
        self._children: dict[str, list[Task]] = defaultdict(list)
        self._waits: dict[int, int] = {}
        self._ready: list[tuple[bool, float, int, Task]] = []
        self._lanes: set[str | None] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def run(self) -> Timetable:
        known = {key for task in self.tasks for key, _ in task.parts}
        for task in self.tasks:
            self._waits[id(task)] = sum(key in known for key in task.after)
            for key in task.after:
                self._children[key].append(task)
            if not self._waits[id(task)]:
                self._add(task)
        self._dispatch()
        while self._events:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now + 1e-9:
                heapq.heappop(self._events)[2]()
            self.workers.let_go(self.now)
            self._dispatch()
        assert not self._ready, "a task needs more than there is"
        used = sum(task.seconds * task.devices for task in self.tasks)
        held = sum((slot.end - slot.begin) * slot.devices for slot in self.slots) + self.workers.held
        return Timetable(tuple(self.slots), self.now, self.workers.peak, held, used)

    def _add(self, task: Task) -> None:
        entry = (not task.first, -self._order[task.parts[0][0]], self._numbers[id(task)], task)
        heapq.heappush(self._ready, entry)

    def _dispatch(self) -> None:
        later = []
        while self._ready:
            task = self._ready[0][3]
            if task.lane is not None and task.lane in self._lanes:  # its group has other work: not its turn yet
                later.append(heapq.heappop(self._ready))
                continue
            given = self.workers.place(task, self.now)
            if given is None:
                break
            heapq.heappop(self._ready)
            self._start(task, *given)
        for entry in later:
            heapq.heappush(self._ready, entry)

    def _start(self, task: Task, devices: float, delay: float) -> None:
        time = self.now + delay
        for key, seconds in task.parts:
            time += seconds
            self._at(time, partial(self._through, key))
        self._at(time, partial(self._over, task, devices))
        self._lanes.add(task.lane)
        self.slots.append(Slot(task, self.now, time, delay, devices))

    def _at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, self._count, action))
        self._count += 1

    def _through(self, key: str) -> None:
        for child in self._children[key]:
            self._waits[id(child)] -= 1
            if not self._waits[id(child)]:
                self._add(child)

    def _over(self, task: Task, devices: float) -> None:
        self.workers.give_back(devices, self.now)
        self._lanes.discard(task.lane)
