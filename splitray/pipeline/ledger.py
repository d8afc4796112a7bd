"""The ledger of a run: what each of its starts has spent, known even of those that were killed."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from splitray import __version__
from splitray.errors import CorruptError
from splitray.pipeline.hours import DeviceHours
from splitray.results.ledger import LEDGER, Price, StageSpending, StartRecord
from splitray.runtime.clock import steady
from splitray.runtime.worker_state import WorkerState
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)

_EVERY, _EVERY_REMOTE = 1.0, 10.0  # seconds between writes: a kill hides what was spent since; a put costs money
_FOLDER = "ledger"

Flops = Callable[[int, int], float | None]


class Ledger:
    """The record of this start; see `splitray.results.ledger`. It is first written when a stage begins.

    Args:
        start: the name of this start.
        flops: those of training a model of N parameters on some tokens; None where the model is not known.
    """

    def __init__(self, run: Folder, start: str, flops: Flops) -> None:
        self._folder, self._flops = run / _FOLDER, flops
        self._every = _EVERY if run.is_local else _EVERY_REMOTE
        self._record = StartRecord(start, steady(), steady(), None, __version__)
        self._stage: StageSpending | None = None
        self._began, self._written = 0.0, 0.0
        self._before = StageSpending("")  # by coordinators of this stage that died
        self._last = StageSpending("")  # by the one that counts now
        self._hours = DeviceHours()
        self._provisioned, self._looked = list[float](), 0.0  # device-seconds of the cluster, by stage
        self._lock = threading.Lock()  # the search is followed by a thread of its own, and the cluster by another

    @property
    def start(self) -> str:
        return self._record.start

    def priced(self, price: Price | None) -> None:
        """Say what a device costs in this start; None where nobody has set a price."""
        with self._lock:
            self._record = replace(self._record, price=price)

    def begin(self, stage: str) -> None:
        """A stage begins."""
        with self._lock:
            self._close_stage()
            self._stage, self._began = StageSpending(stage), time.monotonic()
            self._before = self._last = StageSpending("")
            self._hours.begin(stage, steady())
            self._provisioned.append(0.0)
            self._looked = time.monotonic()
            self._write()

    def look(self, records: Iterable[WorkerState], provisioned: float) -> None:
        """Take over what workers did since the last look.

        Args:
            records: of the coordinator, in its order.
            provisioned: devices that the cluster has now.
        """
        with self._lock:
            for record in records:
                self._hours.see(record)
            if self._stage is None:
                return
            now = time.monotonic()
            self._provisioned[-1] += provisioned * (now - self._looked)
            self._looked = now
            if now - self._written >= self._every:
                self._write()

    def see(self, counters: Mapping[str, Any]) -> None:
        """Take over the stage's counters; see `Coordinator.progress`. They begin anew where its process died."""
        spent: dict[int, int] = counters["spent"]
        by_model = [self._flops(params, tokens) for params, tokens in spent.items()]
        known = [value for value in by_model if value is not None]
        now = StageSpending(
            "",
            tokens=sum(spent.values()),
            flops=sum(known) if len(known) == len(by_model) else None,
            training_seconds=counters["training_seconds"],
            failures=counters["failures"],
        )
        with self._lock:
            if self._stage is None:
                return
            if now.tokens < self._last.tokens:
                self._before = self._before.plus(self._last)
            self._last = now
            if time.monotonic() - self._written >= self._every:
                self._write()

    def flush(self) -> None:
        """Write what is known, now."""
        with self._lock:
            if self._stage is not None:
                self._write()

    def end_stage(self) -> StageSpending:
        """The stage is over, done or not; what this start has spent on it."""
        with self._lock:
            self._close_stage()
            return self._write().stages[-1]

    @property
    def record(self) -> StartRecord:
        """What this start has spent by now."""
        with self._lock:
            return self._now()

    def end(self, how: str) -> None:
        """This start is over: "done" or "failed". Nothing is written where it did nothing."""
        with self._lock:
            self._close_stage()
            self._record = replace(self._record, ended=how)
            if self._record.stages:
                self._write()

    def _close_stage(self) -> None:
        if (stage := self._open()) is not None:
            self._record = replace(self._record, stages=(*self._record.stages, stage))
        self._stage = None

    def _open(self) -> StageSpending | None:
        """The stage that goes on, as far as it is."""
        if self._stage is None:
            return None
        seconds = time.monotonic() - self._began
        return replace(self._before.plus(self._last), stage=self._stage.stage, seconds=seconds)

    def _now(self) -> StartRecord:
        """The record as it is at this moment: workers hold their devices on, also after a stage has ended."""
        now, stage = steady(), self._open()
        spent = (*self._record.stages, *([stage] if stage is not None else []))
        counted = zip(spent, self._hours.until(now), self._provisioned, strict=True)
        stages = tuple(replace(s, devices=h.devices, provisioned=p) for s, h, p in counted)
        return replace(self._record, stages=stages, written=now)

    def _write(self) -> StartRecord:
        self._written, record = time.monotonic(), self._now()
        self._folder.write_checksummed(f"{record.start}.json", record.plain(), LEDGER)
        return record


def starts(run: Folder) -> list[StartRecord]:
    """The records of all starts of a run that did something, in their order. Damaged ones are named and left out."""
    folder, found = run / _FOLDER, []
    for name in folder.names():
        try:
            found.append(StartRecord.parse(folder.read_checksummed(name, LEDGER), f"{folder.uri}/{name}"))
        except CorruptError as error:
            _log.warning("%s; what that start has spent is not counted", error)
    return found
