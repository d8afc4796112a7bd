"""Looks at what the workers do and what the cluster has, as long as a run lasts.

Every look goes to the run's ledger, to its events, and to Ray's metrics.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from splitray.executor import metrics
from splitray.pipeline.device_usage import usage_of
from splitray.pipeline.hours import EVENT, event_of
from splitray.pipeline.ledger import starts
from splitray.pipeline.logs import attached, ended_of, stage_of
from splitray.pipeline.session import Session
from splitray.results.ledger import StartRecord
from splitray.runtime.progress import PROGRESS, Progress, progress_of

_log = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between looks
_RARELY = 5  # looks between questions for what the cluster has, which the control store must answer


class Metering:
    """One look after another. What fails in one is a warning once; the rest of it, and the run, go on."""

    def __init__(self, job: Session[Any], gauges: "Gauges") -> None:
        self._job, self._gauges = job, gauges
        self._count, self._devices = 0, 0.0
        self._lock, self._said = threading.Lock(), set[str]()
        self.over = threading.Event()  # the run has ended: what fails now is of no interest

    def look(self) -> None:
        """Take over what workers have done since the last look."""
        with self._lock, self._warned("the hours of devices are not counted"):
            self._look()

    def _look(self) -> None:
        job = self._job
        records = job.executor.usage() if job.executes else []
        # The coordinator has given them away: the ledger comes first, and no fault of a write may keep it from one.
        with self._warned("what this start has spent was not written to its ledger"):
            job.ledger.look(records, self._devices)
        for record in records:
            with self._warned("what workers do was not written to the events"):
                job.run.event(EVENT, **event_of(record))
        self._gauges.spent(job.ledger.record)
        if self._count % _RARELY == 0:
            self._devices = float(ray.cluster_resources().get(job.device, 0.0))
        self._count += 1

    @contextmanager
    def _warned(self, what: str) -> Iterator[None]:
        """Have a fault end the block, not the run, and be a warning the first time."""
        try:
            yield
        except Exception as error:  # an account of the run must not end it
            if what not in self._said and not self.over.is_set():
                self._said.add(what)
                _log.warning("%s: %s: %s", what, type(error).__name__, error)


class Gauges(logging.Handler):
    """The run's metrics of the driver: how far the stage is, and what all starts have spent.

    Args:
        run: its name.
        before: the records of earlier starts.
    """

    def __init__(self, run: str, before: list[StartRecord]) -> None:
        super().__init__(PROGRESS)
        self._run, self._before, self._stage = run, before, ""
        self._opened: dict[metrics.Metric, Any] = {metric: metric.open() for metric in metrics.BY_DRIVER}

    def emit(self, record: logging.LogRecord) -> None:
        if (stage := stage_of(record)) is not None:
            self._stage = stage
            self._progress(Progress(stage, "", share=0.0))
        elif ended_of(record) is not None:
            self._progress(Progress(self._stage, "", share=1.0, left=0.0))
        elif (progress := progress_of(record)) is not None and self._stage:
            self._progress(progress)

    def spent(self, now: StartRecord) -> None:
        """Set what all starts have spent, and the workers that this start has lost."""
        for stage in now.stages:
            self._set(metrics.RESTARTS, stage.failures, stage=stage.stage)
        usage = usage_of([*self._before, now])
        if usage is None:
            return
        self._set(metrics.HOURS_PROVISIONED, usage.hours_provisioned)
        for each in usage.purposes:
            self._set(metrics.HOURS_HELD, each.hours_held, purpose=each.name, device=each.device)
            self._set(metrics.HOURS_USED, each.hours_used, purpose=each.name, device=each.device)
            if each.energy_kwh is not None:
                self._set(metrics.ENERGY, each.energy_kwh, purpose=each.name, device=each.device)
            if each.money is not None:
                self._set(metrics.MONEY, each.money, purpose=each.name, currency=usage.currency)

    def _progress(self, progress: Progress) -> None:
        if progress.share is not None:
            self._set(metrics.STAGE_PROGRESS, progress.share, stage=self._stage)
        if progress.left is not None:
            self._set(metrics.SECONDS_LEFT, progress.left, stage=self._stage)

    def _set(self, metric: metrics.Metric, value: float, **tags: str) -> None:
        with suppress(Exception):  # whatever Ray meets: a log record must not end the run
            self._opened[metric].set(float(value), {"run": self._run, **tags})


@contextmanager
def metered(job: Session[Any]) -> Iterator[None]:
    """Look once a second as long as the block lasts, and once more whenever the job asks for it."""
    job.ledger.priced(job.price)
    gauges = Gauges(job.settings.name, starts(job.run.folder))
    metering = Metering(job, gauges)

    def go() -> None:
        while not metering.over.wait(_EVERY):
            metering.look()

    job.look = metering.look
    threading.Thread(target=go, daemon=True, name="metering").start()
    try:
        with attached(gauges):
            yield
    finally:
        metering.over.set()  # not waited for: a run that was told to stop has two seconds to leave
