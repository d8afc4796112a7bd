"""The trackers of a run: fed from the run's own log, which has every look at a segment and every finished stage."""

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from splitray.errors import UserError
from splitray.law.law import Law
from splitray.pipeline.logs import attached
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.results.stages import StageRecord
from splitray.runtime.points import Point, point_of
from splitray.runtime.progress import PROGRESS
from splitray.tracking.feed import Feed
from splitray.tracking.records import law_values, values_of
from splitray.tracking.registry import check_packages
from splitray.tracking.tracker import TrackedRun, Tracker, TrackerSettings

_KEY = "trackers.json"
_READ = (".html", ".json")  # endings of the files that a tracker is given


@contextmanager
def tracked(run: RunFolder) -> Iterator[None]:
    """Feed the trackers of a run as long as the block lasts.

    Raises:
        UserError: before the block, where a tracker's package is missing, or it has no folder to write to.
    """
    entries = run.config.trackers
    if not entries:
        yield
        return
    check_packages(entries)
    key = _key(run)
    places = [_folder(run, place, entry) for place, entry in enumerate(entries)]
    config = run.config.model_dump(mode="json")
    feeds = [
        Feed(entry, TrackedRun(run.config.name, key, place, config))
        for entry, place in zip(entries, places, strict=True)
    ]
    with attached(_Trackers(run, feeds)) as trackers:
        for stage in STAGES:  # of earlier starts
            if (record := run.done(stage)) is not None:
                trackers.stage(record)
        yield


class _Trackers(logging.Handler):
    """Hears the log of a run, and gives what trackers want of it to each of them."""

    def __init__(self, run: RunFolder, feeds: list[Feed]) -> None:
        super().__init__(PROGRESS)
        self._run, self._feeds = run, feeds

    def emit(self, record: logging.LogRecord) -> None:
        if (point := point_of(record)) is not None:
            for feed in self._feeds:
                feed.put(partial(_metrics, point))
        elif isinstance(ended := getattr(record, "ended", None), StageRecord):
            self.stage(ended)

    def stage(self, record: StageRecord) -> None:
        """Give the numbers of a finished stage, and its files for people."""
        values = values_of(record)
        if record.stage in ("law", "search"):
            name = "law.json" if record.stage == "law" else "law_final.json"
            values |= law_values(self._run.kept(name, Law.load))
        for feed in self._feeds:
            feed.put(partial(_results, values))
            for name in record.files:
                if name.endswith(_READ):
                    feed.put(partial(_file, self._run, name))

    def close(self) -> None:
        for feed in self._feeds:
            feed.close()
        super().close()


def _metrics(point: Point, tracker: Tracker) -> None:
    values = {
        "loss": point.loss,
        "learning_rate": point.learning_rate,
        "tokens_per_second": point.tokens_per_second,
    }
    tracker.metrics(point.series, values, point.tokens)


def _results(values: Mapping[str, float | str], tracker: Tracker) -> None:
    tracker.results(values)


def _file(run: RunFolder, name: str, tracker: Tracker) -> None:
    tracker.file(run.folder.fetch(name), name)


def _key(run: RunFolder) -> str:
    """Names the run for trackers: drawn at the first start, and kept in the run folder."""
    run.folder.create_json(_KEY, {"key": secrets.token_hex(6)})
    return str(run.folder.read_json(_KEY)["key"])


def _folder(run: RunFolder, place: int, entry: TrackerSettings) -> Path:
    """The local folder of a tracker, made where there is none."""
    if entry.folder is not None:
        folder = Path(entry.folder).expanduser()
    elif run.folder.is_local:
        folder = run.folder.local_path(f"trackers/{entry.name}")
    else:
        raise UserError(
            f"trackers.{place}.folder: the run folder {run.folder.uri} is on no local disk, and the tracker "
            f"{entry.name} writes to one: name a local folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"trackers.{place}.folder: {folder} cannot be made ({error.strerror})") from error
    return folder
