"""Hours of devices held and used, by stage and purpose, from the records of what workers did. No Ray."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from splitray.results.ledger import DeviceTime, together
from splitray.runtime.worker_state import WorkerState

EVENT = "worker"  # the kind of the events that carry a `WorkerState`
_PURPOSES = {  # of a stage: what its workers do while they train, and otherwise
    "evaluate": ("baselines", "evaluation"),
    "proof": ("proof", "proof"),
}


def purpose_of(stage: str, state: str) -> str:
    """What a worker's time in a stage is for. A stage that is not listed has one purpose, its own name."""
    training, otherwise = _PURPOSES.get(stage, (stage, stage))
    return training if state == "train" else otherwise


@dataclass(frozen=True)
class StageHours:
    """What workers held and used in one stage of a start. A stage that is done twice comes twice."""

    stage: str
    devices: tuple[DeviceTime, ...]


class DeviceHours:
    """Sums the time between records, cut where a stage begins. Records may come late, those of a worker in order.

    Time that goes backwards, as the events of an older splitray tell it where a machine's clock was set, stands still.
    """

    def __init__(self) -> None:
        self._stages: list[tuple[float, str]] = []  # when each began, in seconds since the epoch
        self._open: dict[str, WorkerState] = {}  # the last record of every worker that lives
        self._counting: set[str] = set()  # those of them whose devices have counted energy
        self._waiting: dict[str, dict[int, tuple[DeviceTime, ...]]] = {}  # of the others, by stage: may yet turn out so
        self._sums: list[list[DeviceTime]] = []  # by stage

    def begin(self, stage: str, at: float) -> None:
        """A stage begins; the one before it is over."""
        self._stages.append((max(at, self._stages[-1][0]) if self._stages else at, stage))
        self._sums.append([])

    def see(self, record: WorkerState) -> None:
        """Take in a record."""
        if not record.worker:  # another coordinator: it knows of none of the workers before it
            for worker in list(self._open):
                self._close(worker, record.at)
            self._counting.clear()
            self._waiting.clear()
            return
        if (before := self._open.get(record.worker)) is not None and record.at < before.at:
            record = replace(record, at=before.at)
        self._close(record.worker, record.at, record.joules)
        if record.state != "gone":
            self._open[record.worker] = record
        else:
            self._counting.discard(record.worker)
            self._waiting.pop(record.worker, None)

    def until(self, at: float) -> list[StageHours]:
        """By stage, in their order: what was held and used up to a time. Workers that live count up to it."""
        sums = [list(times) for times in self._sums]
        for worker, record in self._open.items():
            for place, time in self._cut(record, at):
                sums[place].append(replace(time, counted=time.held if worker in self._counting else 0.0))
        return [StageHours(stage, together(times)) for (_, stage), times in zip(self._stages, sums, strict=True)]

    def _close(self, worker: str, at: float, joules: float | None = None) -> None:
        record = self._open.pop(worker, None)
        if record is None:
            return
        pieces = list(self._cut(record, at))
        whole = sum(time.held for _, time in pieces)
        if joules is not None:
            self._counting.add(worker)
        waiting = self._waiting.setdefault(worker, {})
        for place, time in pieces:
            counted = DeviceTime(time.purpose, time.device, counted=time.held)
            waiting[place] = together([*waiting.get(place, ()), counted])
        if worker in self._counting:
            for place, times in self._waiting.pop(worker).items():
                self._sums[place] = list(together([*self._sums[place], *times]))
        for place, time in pieces:
            if joules is not None and whole:
                energy = DeviceTime(time.purpose, time.device, joules=joules * time.held / whole)
                time = time.plus(energy)
            self._sums[place] = list(together([*self._sums[place], time]))

    def _cut(self, record: WorkerState, end: float) -> Iterable[tuple[int, DeviceTime]]:
        """The time from a record to an end, by the place of the stage that it lies in."""
        nexts = [begin for begin, _ in self._stages[1:]] + [math.inf]
        for place, ((begin, stage), over) in enumerate(zip(self._stages, nexts, strict=True)):
            seconds = min(end, over) - max(record.at, begin)
            if seconds > 0:
                held = seconds * record.devices
                used = 0.0 if record.state == "idle" else held
                yield place, DeviceTime(purpose_of(stage, record.state), record.device, held, used)


def event_of(record: WorkerState) -> dict[str, Any]:
    """A record as the values of an event."""
    return asdict(record)


def hours_in(events: Iterable[Mapping[str, Any]], until: float | None = None) -> list[StageHours]:
    """What the events of one start say of the hours held and used, by stage.

    Args:
        events: of one start, as the lines of its files in `events/` hold them.
        until: when the start ended, in seconds since the epoch; default: the last event.
    """
    hours, last = DeviceHours(), 0.0
    for event in events:
        last = max(last, float(event["at"]))
        if event["event"] == "stage begins":
            hours.begin(event["stage"], event["at"])
        elif event["event"] == EVENT:
            hours.see(WorkerState(**{k: v for k, v in event.items() if k != "event"}))
    return hours.until(last if until is None else until)
