"""The trackers of a run: fed from the run's own log, which has every look at a segment and every finished stage."""

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from splitray.errors import UserError
from splitray.law.law import Law
from splitray.pipeline.logs import attached, ended_of
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.results.stages import StageRecord
from splitray.runtime.points import Point, point_of
from splitray.runtime.progress import PROGRESS
from splitray.storage.folder import Folder
from splitray.tracking.feed import Feed
from splitray.tracking.records import law_values, values_of
from splitray.tracking.registry import check_packages, find_tracker
from splitray.tracking.tracker import TrackedRun, Tracker, TrackerSettings

_KEY = "trackers.json"
_FIGURES = "report/figures"
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
    config = run.config.model_dump(mode="json")
    with ExitStack() as stack:
        places = [_place(run, number, entry, stack) for number, entry in enumerate(entries)]
        feeds = [
            Feed(entry, TrackedRun(run.config.name, key, place.folder, config), place.copy if place.remote else None)
            for entry, place in zip(entries, places, strict=True)
        ]
        trackers = stack.enter_context(attached(_Trackers(run, feeds)))
        for stage in STAGES:  # of earlier starts
            if (record := run.done(stage)) is not None:
                trackers.stage(record)
        yield


class _Trackers(logging.Handler):
    """Hears the log of a run, and gives what trackers want of it to each of them."""

    def __init__(self, run: RunFolder, feeds: list[Feed]) -> None:
        super().__init__(PROGRESS)
        self._run, self._feeds, self._segments = run, feeds, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if (point := point_of(record)) is not None:
            first = point.segment not in self._segments
            self._segments.add(point.segment)
            for feed in self._feeds:
                if first:
                    feed.put(partial(_segment, point))
                feed.put(partial(_metrics, point))
        elif (ended := ended_of(record)) is not None:
            self.stage(ended)

    def stage(self, record: StageRecord) -> None:
        """Give the numbers of a finished stage, and its files for people."""
        values = values_of(record)
        if record.stage in ("law", "search"):
            name = "law.json" if record.stage == "law" else "law_final.json"
            values |= law_values(self._run.kept(name, Law.load))
        files = [name for name in record.files if name.endswith(_READ)]
        if record.stage == "report":
            files += [f"{_FIGURES}/{name}" for name in (self._run.folder / _FIGURES).names() if name.endswith(".png")]
        for feed in self._feeds:
            feed.put(partial(_results, values))
            for name in files:
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


def _segment(point: Point, tracker: Tracker) -> None:
    tracker.segment(point.series, {"key": point.segment, "source": point.source, "params": point.params})


def _results(values: Mapping[str, float | str], tracker: Tracker) -> None:
    tracker.results(values)


def _file(run: RunFolder, name: str, tracker: Tracker) -> None:
    tracker.file(run.folder.fetch(name), name)


def _key(run: RunFolder) -> str:
    """Names the run for trackers: drawn at the first start, and kept in the run folder."""
    run.folder.create_json(_KEY, {"key": secrets.token_hex(6)})
    return str(run.folder.read_json(_KEY)["key"])


@dataclass
class _Place:
    """Where a tracker writes: a local folder, and the one on an object store that it is copied to, if any."""

    folder: Path
    remote: Folder | None = None
    _copied: dict[str, tuple[int, int]] = field(default_factory=dict)  # size and time of what was copied, by name

    def copy(self) -> None:
        """Copy what has changed since the last time."""
        assert self.remote is not None
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            name, now = path.relative_to(self.folder).as_posix(), (path.stat().st_size, path.stat().st_mtime_ns)
            if self._copied.get(name) != now:
                self.remote.put(path, name)
                self._copied[name] = now


def _place(run: RunFolder, number: int, entry: TrackerSettings, stack: ExitStack) -> _Place:
    """Where a tracker writes, made where it is not there yet. A temporary folder goes with the stack.

    Raises:
        UserError: the place cannot be made, or is an object store and the tracker writes to a disk only.
    """
    if entry.folder is None:
        target = run.folder / f"trackers/{entry.name}"
        address = None if target.is_local else target
    else:
        address = Folder(entry.folder) if "://" in entry.folder else None
    if address is not None and not address.is_local:
        if not find_tracker(entry.name).copied:
            raise UserError(
                f"trackers.{number}.folder: {address.uri} is on no local disk, and the tracker {entry.name} writes to "
                "one: name a local folder"
            )
        return _Place(Path(stack.enter_context(TemporaryDirectory(prefix="splitray-tracker-"))), address)
    if address is not None:
        folder = address.local_path()
    elif entry.folder is not None:
        folder = Path(entry.folder).expanduser()
    else:
        folder = run.folder.local_path(f"trackers/{entry.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"trackers.{number}.folder: {folder} cannot be made ({error.strerror})") from error
    return _Place(folder)
