"""A run folder: its config, the record of every finished stage, structured events, and what the user reads."""

import hashlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, cast

from typing_extensions import TypeVar

from splitray.config import Config, changes, dump, parse
from splitray.errors import CorruptError, StageError, StorageError, UserError
from splitray.results.codec import to_json
from splitray.results.stages import RESULTS, StageRecord, StageResult, Work
from splitray.results.stages import STAGES as STAGES
from splitray.runtime.clock import steady
from splitray.settings import Settings
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.storage.folder import Folder
from splitray.units import duration

_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", bound=StageResult)
C = TypeVar("C", bound=Settings, default=Config)
_FILE = 1 << 18  # bytes of events after which a new file begins: object stores append nothing, so each flush writes one
_FLUSH, _FLUSH_REMOTE = 2.0, 10.0  # seconds between writes of events: a kill hides those since; a put costs money
_CONFIG = "config.yaml"
_FITS = STAGES[STAGES.index("law") :]  # stages that rest on the fit


class RecordGone(StageError):
    """The record of a stage that was done is there no longer: another start of the same run has taken it away."""


def stages_of(config: Config, until: str = STAGES[-1]) -> tuple[str, ...]:
    """The stages of a run up to one, in their order: without exams where the configuration names none."""
    wanted = STAGES[: STAGES.index(until) + 1]
    return tuple(stage for stage in wanted if stage != "exams" or config.evaluate.exams)


class RunFolder(Generic[C]):
    """One run folder; of the main job, where no kind of configuration is named.

    `results` has the stages of a run in their order, with what each leaves, and `fits` those that rest on the fit.

    A stage's record is written last, when its artifacts stand, and names the SHA-256 of each. A stage with a record is
    not run again, unless the record or a file of it is found damaged: then it is, from what the store holds.

    Raises:
        UserError: the folder holds a run whose identity settings differ.
    """

    results: ClassVar[Mapping[str, type[StageResult]]] = RESULTS
    fits: ClassVar[tuple[str, ...]] = _FITS

    def __init__(self, folder: Folder, config: C) -> None:
        self.folder, self.config = folder, config
        self._lines: list[str] = []  # of the events file that is being filled
        self._begun, self._full = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}", 0
        self._flushed, self._unwritten = time.monotonic(), False
        self._writing = threading.RLock()  # progress is told from a thread of its own
        self._files: dict[str, str] = {}  # of the stage that runs: name -> SHA-256
        self._good: dict[str, str] = {}  # compared by this process, or written by it
        self._damaged: dict[str, StageRecord] = {}  # records of stages whose files were found damaged
        self._vanished = False  # whether it was said that the folder is gone
        self._identity, self._fit = fingerprint(config.identity()), fingerprint(config.refit())
        self._claim()

    @property
    def start(self) -> str:
        """The name of this start of the run."""
        return self._begun

    def _parse(self, text: bytes, where: str) -> C:
        """The configuration that the folder holds."""
        return cast(C, parse(text, where))

    def _claim(self) -> None:
        """Refuse a folder of another run; where only the fit changed, take away what rests on the law."""
        if self.folder.exists(_CONFIG):
            before = self._parse(self.folder.read(_CONFIG), f"{self.folder.uri}/{_CONFIG}")
            changed = list(changes(before.identity(), self.config.identity()))
            if changed:
                raise UserError(
                    f"{self.folder.uri} holds a run with other settings: {'; '.join(changed)}. "
                    "Give another --run-dir (the store is shared, so nothing is trained twice), or the old settings"
                )
            self._refit("; ".join(changes(before.refit(), self.config.refit())))
        else:
            self._claim_by_records()
        self.folder.write(_CONFIG, dump(self.config).encode())

    def _claim_by_records(self) -> None:
        """`_claim` for a folder that lost its config: the records know which settings made them, not what they were.

        Records of the first release know nothing and are taken as they are.
        """
        records = [record for stage in self.results if (record := self.done(stage)) is not None]
        for record in records:
            if record.identity not in (None, self._identity):
                raise UserError(
                    f"{self.folder.uri} holds a run with other settings: its stage {record.stage} was done with other "
                    "identity settings, or by another version, and config.yaml, which would name them, is gone. "
                    "Give another --run-dir (the store is shared, so nothing is trained twice), or the old settings"
                )
        if any(record.refit not in (None, self._fit) for record in records if record.stage in self.fits):
            self._refit("its law or plan was made with other settings")

    def _refit(self, changed: str) -> None:
        """Take away the records that rest on the law, before the config says that it changed."""
        stale = [stage for stage in self.fits if self.folder.exists(f"stages/{stage}.json")] if changed else []
        if stale:
            _log.info(
                "only the fit changed (%s): %s are done again. The ladder stands; models are trained only where the "
                "new plan needs others",
                changed,
                ", ".join(stale),
            )
        for stage in reversed(stale):
            self.folder.delete(f"stages/{stage}.json")

    def stages(self, until: str = STAGES[-1]) -> tuple[str, ...]:
        """The stages of this run up to one, in their order: without exams where the configuration names none."""
        assert isinstance(self.config, Config), self.config
        return stages_of(self.config, until)

    def event(self, kind: str, **values: Any) -> None:
        """A structured event; flushed to the run folder every few seconds and at the end of a stage."""
        line = json.dumps({"at": round(steady(), 3), "event": kind, **values}) + "\n"
        with self._writing:
            self._lines.append(line)
            self._unwritten = True
            if time.monotonic() - self._flushed > (_FLUSH if self.folder.is_local else _FLUSH_REMOTE):
                self.flush()

    def flush(self) -> None:
        """Write the events file that is being filled, whole; files of one start are numbered in the order of events."""
        with self._writing:
            self._flushed = time.monotonic()
            if not self._unwritten:
                return
            if not self._vanished and (loss := self._loss()):
                self._vanished = True
                _log.warning("%s", loss)
            data = "".join(self._lines).encode()
            self.folder.write(f"events/{self._begun}-{self._full:05d}.jsonl", data)
            self._unwritten = False
            if len(data) >= _FILE:
                self._lines, self._full = [], self._full + 1

    def _loss(self) -> str | None:
        """What is to be said where the folder has vanished since it was claimed."""
        if self.folder.exists(_CONFIG):
            return None
        return (
            f"the run folder {self.folder.uri} was deleted or moved while the run goes on, and the records of its "
            "stages with it. The run ends with this stage: start it again, and it continues from what the store has"
        )

    def _check_there(self) -> None:
        """Stop where the folder has vanished: a record must not be added where those before it are lost."""
        if loss := self._loss():
            raise StorageError(loss)

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Keep a file of the stage that runs: `write` is given a local path, the run folder gets what it wrote."""
        with tempfile.TemporaryDirectory(prefix="splitray-") as folder:
            path = Path(folder) / "kept"
            try:
                write(path)
            except OSError as error:
                raise StorageError(f"the temporary folder takes no {name}: {error.strerror or error}") from error
            self.folder.put(path, name)
            self._files[name] = self._good[name] = sha256_file(path)

    def note(self, name: str) -> None:
        """Count a file that lies in the run folder among those of the stage that runs."""
        self._files[name] = self._good[name] = hashlib.sha256(self.folder.read(name)).hexdigest()

    def kept(self, name: str, read: Callable[[Path], T]) -> T:
        """What `read` makes of a file that a finished stage kept; `CorruptError` where it is not what was kept."""
        return read(self.folder.fetch(name, self._good.get(name)))

    def done(self, stage: str) -> StageRecord | None:
        """The record of a finished stage.

        A record that is damaged, or whose files are, is said, taken away and counted as none.
        """
        name = f"stages/{stage}.json"
        if not self.folder.exists(name):
            return None
        try:
            record = StageRecord.parse(self.folder.read_checksummed(name), f"{self.folder.uri}/{name}")
            for file, sha256 in record.files.items():
                if self._good.get(file) != sha256:
                    self._damaged[stage] = record
                    self.folder.fetch(file, sha256)
                    del self._damaged[stage]
                    self._good[file] = sha256
            return record
        except CorruptError as error:
            _log.warning("%s; the stage %s is done again", error, stage)
            self.folder.delete(name)
            return None

    def result(self, kind: type[R]) -> R:
        """What the finished stage of this kind of result left for the later ones.

        Raises:
            RecordGone: its record was taken away since.
        """
        stage = next(name for name, known in self.results.items() if known is kind)
        record = self.done(stage)
        if record is None:
            self._check_there()
            raise RecordGone(
                f"the record of stage {stage} was taken away from {self.folder.uri} while the run goes on, by another "
                "start or by hand"
            )
        assert isinstance(record.result, kind), stage
        return record.result

    def carry_out(self, stage: str, make: Callable[[], StageResult], work: Callable[[], Work | None]) -> None:
        """Do a stage and write its record at the end.

        Args:
            make: does the stage's work and gives its result.
            work: asked at the end for what was trained; gives None where the stage trains nothing.
        """
        self._check_there()
        begun, self._files = time.time(), {}
        stages = self.stages()
        _log.info("stage %d of %d: %s", stages.index(stage) + 1, len(stages), stage, extra={"stage": stage})
        self.event("stage begins", stage=stage)
        try:
            result = make()
            assert isinstance(result, self.results[stage]), (stage, result)
            seconds = time.time() - begun
            record = StageRecord(stage, begun, seconds, work(), result, self._files, self._identity, self._fit)
            self._check_there()
            self._supersede(record)
            self.folder.write_checksummed(f"stages/{stage}.json", record.plain())
            self.event("stage ends", stage=stage, seconds=seconds)
            _log.info("   %s: done in %s", stage, duration(seconds), extra={"ended": record})
        finally:
            self.flush()

    def _supersede(self, record: StageRecord) -> None:
        """Take away the records of later stages, that rest on this one, unless it came out as it was before."""
        before = self._damaged.pop(record.stage, None) or self.done(record.stage)
        if before is None or (to_json(before.result), before.files) != (to_json(record.result), record.files):
            order = tuple(self.results)
            for later in order[order.index(record.stage) + 1 :]:
                self.folder.delete(f"stages/{later}.json")
