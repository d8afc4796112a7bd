"""A run folder: its config, the record of every finished stage, structured events, and what the user reads."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from splitray.config import Config, changes, dump, parse
from splitray.errors import UserError
from splitray.folder import Folder

STAGES = ("corpus", "ladder", "law", "plan", "search", "base", "specialists", "evaluate", "report")


class Run:
    """One run folder.

    A stage's record is written last, when its artifacts stand; a stage with a record is not run again.

    Raises:
        UserError: the folder holds a run whose identity settings differ.
    """

    def __init__(self, folder: Folder, config: Config, say: Callable[[str], None]) -> None:
        self.folder, self.config, self._say = folder, config, say
        self._events: list[dict[str, Any]] = []
        self._event_file = f"events/{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl"
        self._flushed = time.monotonic()
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

    def say(self, text: str) -> None:
        """A line for the person who watches, and an event."""
        self._say(text)
        self.event("said", text=text)

    def event(self, kind: str, **values: Any) -> None:
        """A structured event; flushed to the run folder every few seconds and at the end of a stage."""
        self._events.append({"at": round(time.time(), 3), "event": kind, **values})
        if time.monotonic() - self._flushed > 10:
            self.flush()

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if self._events:
            self.folder.write(self._event_file, "".join(json.dumps(e) + "\n" for e in self._events).encode())

    def done(self, stage: str) -> dict[str, Any] | None:
        """The record of a finished stage: `seconds`, `work` counters and `result`."""
        name = f"stages/{stage}.json"
        return dict(self.folder.read_json(name)) if self.folder.exists(name) else None

    def result(self, stage: str) -> dict[str, Any]:
        """What a finished stage left for the later ones."""
        record = self.done(stage)
        assert record is not None, stage
        return dict(record["result"])

    @contextmanager
    def stage(self, stage: str, work: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Run a stage: its result is what the block puts into the yielded dict; the record is written at its end."""
        begun, result = time.time(), dict[str, Any]()
        self.say(f"== {stage}")
        self.event("stage begins", stage=stage)
        try:
            yield result
            record = {"stage": stage, "began": begun, "seconds": time.time() - begun, "work": work(), "result": result}
            self.folder.write_json(f"stages/{stage}.json", record)
            self.event("stage ends", stage=stage, seconds=record["seconds"])
        finally:
            self.flush()
