"""Alerts of a run: the end of a stage, a failure, a stall, the end; fed from the run's own log."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from splitray.pipeline.logs import attached, ended_of, stage_of
from splitray.pipeline.run_folder import RunFolder
from splitray.runtime.progress import PROGRESS, Progress, progress_of
from splitray.tracking.settings import AlertSettings, Occasion
from splitray.tracking.webhook import Alert, Webhook
from splitray.units import duration

_LOOK = 5.0  # seconds between looks for a stall, at most
_LEAVE = 1.5  # seconds that a run that was told to stop has for its last message: two until its process ends


@contextmanager
def alerted(run: RunFolder[Any]) -> Iterator[None]:
    """Post the alerts of a run as long as the block lasts, and how it ended.

    Raises:
        UserError: before the block, where the environment variable of the webhook is not set.
    """
    settings = run.config.alerts
    url = settings.address()
    if url is None:
        yield
        return
    webhook = Webhook(url)
    watch = _Watch(run, settings, webhook)
    patience = None
    try:
        with attached(watch):
            yield
        watch.say("end", Alert(f"{watch.name} is done."))
    except KeyboardInterrupt as error:
        patience = _LEAVE
        watch.say("failure", Alert(f"{watch.name} was stopped: {error or 'by a signal'}.", "warning"))
        raise
    except BaseException as error:
        watch.say("failure", Alert(f"{watch.name} failed in stage {watch.stage or 'none'}: {error}", "bad"))
        raise
    finally:
        watch.over.set()
        webhook.close() if patience is None else webhook.close(patience)


class _Watch(logging.Handler):
    """Hears the log of a run, and posts what is worth a message.

    Progress is a stage that begins or ends, work that begins, or work that is further than it ever was. Work that
    falls back, when a worker dies again and again, is none.
    """

    def __init__(self, run: RunFolder[Any], settings: AlertSettings, webhook: Webhook) -> None:
        super().__init__(PROGRESS)
        self.name, self.stage = f"splitray run {run.config.name}", ""
        self.over = threading.Event()
        self._folder, self._settings, self._webhook = run.folder.uri, settings, webhook
        self._furthest: dict[str, float | str] = {}  # by work of the stage
        self._moved, self._stalled = time.monotonic(), False
        if "stall" in settings.occasions:
            threading.Thread(target=self._look, daemon=True, name="stall").start()

    def emit(self, record: logging.LogRecord) -> None:
        if (stage := stage_of(record)) is not None:
            self.stage = stage
            self._furthest.clear()
            self._move()
        elif (ended := ended_of(record)) is not None:
            self._move()
            facts = {"time": duration(ended.seconds)}
            if ended.work is not None:
                facts |= {"tokens": f"{ended.work.trained:,}", "workers lost": str(ended.work.failures)}
            self.say("stage", Alert(f"{self.name}: stage {ended.stage} is done.", fields=facts))
        elif (progress := progress_of(record)) is not None and self._further(progress):
            self._move()

    def say(self, occasion: Occasion, alert: Alert) -> None:
        """Post a message where the settings want one on this occasion."""
        if occasion in self._settings.occasions:
            facts = {"run folder": self._folder, "stage": self.stage or "none", **alert.fields}
            self._webhook.put(Alert(alert.text, alert.mood, facts))

    def _further(self, progress: Progress) -> bool:
        before = self._furthest.get(progress.what)
        if progress.share is None:  # nobody knows how far it is: another text must do
            self._furthest[progress.what] = progress.text
            return before != progress.text
        if isinstance(before, float) and progress.share <= before:
            return False
        self._furthest[progress.what] = progress.share
        return True

    def _move(self) -> None:
        self._moved = time.monotonic()
        if self._stalled:
            self._stalled = False
            self.say("stall", Alert(f"{self.name} makes progress again."))

    def _look(self) -> None:
        limit = 60 * self._settings.stall_minutes
        while not self.over.wait(min(_LOOK, limit / 4)):
            passed = time.monotonic() - self._moved
            if passed >= limit and not self._stalled:
                self._stalled = True
                text = f"{self.name} has made no progress for {duration(passed)} in stage {self.stage or 'none'}."
                self.say("stall", Alert(text, "warning"))
