"""A run folder: its config, the record of every finished stage, structured events, and what the user reads."""

import hashlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from splitray.config import Config, changes, dump, parse
from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage.checksum import checksummed, sha256_file
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)

T = TypeVar("T")
_FILE = 1 << 18  # bytes of events after which a new file begins: object stores append nothing, so each flush writes one
STAGES = ("corpus", "ladder", "law", "plan", "search", "base", "specialists", "evaluate", "report")


class RunFolder:
    """One run folder.

    A stage's record is written last, when its artifacts stand, and names the SHA-256 of each. A stage with a record is
    not run again, unless the record or a file of it is found damaged: then it is, from what the store holds.

    Raises:
        UserError: the folder holds a run whose identity settings differ.
    """

    def __init__(self, folder: Folder, config: Config) -> None:
        self.folder, self.config = folder, config
        self._lines: list[str] = []  # of the events file that is being filled
        self._begun, self._full = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}", 0
        self._flushed, self._unwritten = time.monotonic(), False
        self._writing = threading.RLock()  # progress is told from a thread of its own
        self._files: dict[str, str] = {}  # of the stage that runs: name -> SHA-256
        self._good: dict[str, str] = {}  # compared by this process, or written by it
        self._damaged: dict[str, dict[str, Any]] = {}  # records of stages whose files were found damaged
        self._claim()

    def _claim(self) -> None:
        if self.folder.exists("config.yaml"):
            before = parse(self.folder.read("config.yaml"), f"{self.folder.uri}/config.yaml")
            changed = list(changes(before.identity(), self.config.identity()))
            if changed:
                raise UserError(
                    f"{self.folder.uri} holds a run with other settings: {'; '.join(changed)}. "
                    "Give another --run-dir (the store is shared, so nothing is trained twice), or the old settings"
                )
        self.folder.write("config.yaml", dump(self.config).encode())

    def event(self, kind: str, **values: Any) -> None:
        """A structured event; flushed to the run folder every few seconds and at the end of a stage."""
        line = json.dumps({"at": round(time.time(), 3), "event": kind, **values}) + "\n"
        with self._writing:
            self._lines.append(line)
            self._unwritten = True
            if time.monotonic() - self._flushed > 10:
                self.flush()

    def flush(self) -> None:
        """Write the events file that is being filled, whole; files of one start are numbered in the order of events."""
        with self._writing:
            self._flushed = time.monotonic()
            if not self._unwritten:
                return
            data = "".join(self._lines).encode()
            self.folder.write(f"events/{self._begun}-{self._full:05d}.jsonl", data)
            self._unwritten = False
            if len(data) >= _FILE:
                self._lines, self._full = [], self._full + 1

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

    def done(self, stage: str) -> dict[str, Any] | None:
        """The record of a finished stage: `seconds`, `work` counters, `result` and `files` by SHA-256.

        A record that is damaged, or whose files are, is said, taken away and counted as none.
        """
        name = f"stages/{stage}.json"
        if not self.folder.exists(name):
            return None
        try:
            record = self.folder.read_checksummed(name)
            for file, sha256 in record["files"].items():
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

    def result(self, stage: str) -> dict[str, Any]:
        """What a finished stage left for the later ones."""
        record = self.done(stage)
        assert record is not None, stage
        return dict(record["result"])

    @contextmanager
    def stage(self, stage: str, work: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Do a stage: its result is what the block puts into the yielded dict; the record is written at its end."""
        begun, result = time.time(), dict[str, Any]()
        self._files = {}
        _log.info("== %s", stage)
        self.event("stage begins", stage=stage)
        try:
            yield result
            record = {"stage": stage, "began": begun, "seconds": time.time() - begun, "work": work(), "result": result}
            record = checksummed(record | {"files": self._files})
            self._supersede(stage, record)
            self.folder.write_json(f"stages/{stage}.json", record)
            self.event("stage ends", stage=stage, seconds=record["seconds"])
        finally:
            self.flush()

    def _supersede(self, stage: str, record: dict[str, Any]) -> None:
        """Take away the records of later stages, that rest on this one, unless it came out as it was before."""
        before = self._damaged.pop(stage, None) or self.done(stage)
        if before is None or any(before[part] != record[part] for part in ("result", "files")):
            for later in STAGES[STAGES.index(stage) + 1 :]:
                self.folder.delete(f"stages/{later}.json")
