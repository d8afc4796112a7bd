"""What a person sees of a run: its log on the console, and a live display of the work that is under way."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from splitray.pipeline.logs import LOGGER, attached, marked, stage_of
from splitray.runtime.progress import PROGRESS, Progress, progress_of

_FIRST, _LAST = 5.0, 60.0  # seconds between lines of progress in a file: at first, and at most
_GROWTH = 6.0  # a line of progress comes when the work has lasted a sixth longer
_BAR = 30  # columns

Later = Callable[[str], float | None]


class RunLog(logging.Handler):
    """The one handler of a run: feeds the console, or the job log that it is written to, and the run's events.

    In a terminal the last lines are a live display of the work that is under way. In a file progress is a line now and
    then, at growing intervals, so that the log of a day stays readable; lines there begin with the time and are never
    wrapped.

    Args:
        structured: whether every line is an object of JSON, see `structured_line`. Then nothing is shown live.
    """

    def __init__(self, console: Console, structured: bool = False) -> None:
        super().__init__(PROGRESS)
        self._console, self._structured = console, structured
        self._event: Callable[..., None] | None = None
        self._later: Later | None = None
        self._live: Live | None = None
        self._stage = self._title = ""
        self._lines: dict[str, tuple[float, float]] = {}  # by work: seen first, and written last, in seconds

    def follow(self, event: Callable[..., None]) -> None:
        """Feed messages to the events of a run as well."""
        self._event = event

    def foresee(self, later: Later) -> None:
        """Show an estimate for the whole run.

        Args:
            later: by stage, the effort (see `runtime.progress.effort`) of all stages after it; None if unknown.
        """
        self._later = later

    def emit(self, record: logging.LogRecord) -> None:
        if (progress := progress_of(record)) is not None:
            self._show(progress)
        elif record.levelno >= logging.INFO:
            self._line(record)

    def rest(self) -> None:
        """Take the live display away; the next message of progress brings it back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        """End the live display."""
        self.rest()
        super().close()

    def _line(self, record: logging.LogRecord) -> None:
        text, level = marked(record), record.levelname.lower()
        if (stage := stage_of(record)) is not None:
            self._stage, self._title = stage, text
            self._lines.clear()
        if self._structured:
            self._write(structured_line(level, self._stage, record.getMessage()))
        elif self._console.is_terminal:
            if stage is not None:
                self._refresh(Text(text))  # before the line is printed above what the last stage showed
            style = "yellow" if record.levelno >= logging.WARNING else "bold" if stage is not None else ""
            self._console.print(Text(text, style))
        else:
            self._write_at(text)
        if self._event is not None:
            self._event("log", text=record.getMessage(), level=level)

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, emoji=False, soft_wrap=True)

    def _write_at(self, text: str) -> None:
        self._write(f"{time.strftime('%H:%M:%S')} {text}")

    def _show(self, progress: Progress) -> None:
        now = time.monotonic()
        began, written = self._lines.setdefault(progress.what, (now, now))
        if self._console.is_terminal and not self._structured:
            self._refresh(self._picture(progress))
        elif now - written >= min(_LAST, max(_FIRST, (now - began) / _GROWTH)):
            self._lines[progress.what] = began, now
            if self._structured:
                facts = {"what": progress.what, "share": progress.share, "seconds_left": progress.left}
                self._write(structured_line("progress", self._stage, progress.text, **facts))
                return
            detail = f"; {progress.detail}" if progress.detail else ""
            self._write_at(f"   {', '.join([f'{progress.what}: {progress.text}', *self._times(progress)])}{detail}")

    def _times(self, progress: Progress) -> list[str]:
        """The time left: of the work, and of the run where that is known."""
        if progress.left is None:
            return []
        times = [f"about {roughly(progress.left)} left"]
        rest = self._later(self._stage) if self._later is not None and progress.rate > 0 else None
        if rest:
            times.append(f"the run at most {roughly(progress.left + rest / progress.rate)}")
        return times

    def _picture(self, progress: Progress) -> RenderableType:
        first = Table.grid(padding=(0, 2))
        row: list[RenderableType] = [Text(self._title)]
        if progress.share is not None:
            row += [ProgressBar(1.0, progress.share, width=_BAR), Text(f"{progress.share:.0%}")]
        first.add_row(*row, Text(", ".join(self._times(progress))))
        lines: list[RenderableType] = [first, Text(f"   {progress.what}: {progress.text}", no_wrap=True)]
        if progress.detail:
            lines.append(Text(f"   {progress.detail}", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _refresh(self, picture: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(picture, refresh=True)


def structured_line(level: str, stage: str, message: str, **facts: float | str | None) -> str:
    """One line of a job log for programs: an object of JSON.

    Args:
        level: info, warning, error or progress.
        stage: that goes on; empty before the first.
        facts: of progress: `what` is done, the `share` of it that is done, and `seconds_left`.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": level, "stage": stage, "message": message, **facts}, ensure_ascii=False)


def roughly(seconds: float) -> str:
    """A time as precise as an estimate is: 40 s, 12 min, 3.5 h, 2 days."""
    for size, unit in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= 2 * size:
            return f"{round(seconds / size, 1 if seconds < 10 * size else 0):g} {unit}"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds < 20 else f"{5 * round(seconds / 5)} s"


@contextmanager
def shown(console: Console, structured: bool = False) -> Iterator[RunLog]:
    """The package's log goes to a console, and nowhere else, as long as the block runs; see `RunLog`."""
    log, propagates = RunLog(console, structured), LOGGER.propagate
    LOGGER.propagate = False
    try:
        with attached(log):
            yield log
    finally:
        LOGGER.propagate = propagates
