"""One look at the workers after another, and writes that fail meanwhile."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray

from splitray.pipeline import ledger as ledgers
from splitray.pipeline.job import Job
from splitray.pipeline.ledger import Ledger
from splitray.pipeline.metering import Gauges, Metering
from splitray.runtime.worker_state import WorkerState
from splitray.storage.folder import Folder

FULL = OSError("no space left on device")


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0})
    monkeypatch.setattr(ledgers, "_EVERY", 0.0)
    ledger = Ledger(Folder(tmp_path), "1", lambda params, tokens: None)
    ledger.begin("ladder")
    return ledger


def held(ledger: Ledger) -> float:
    return sum(time.held for stage in ledger.record.stages for time in stage.devices)


def metering(ledger: Ledger, batches: list[list[WorkerState]], event: Any) -> tuple[Metering, list[float]]:
    """Looks at batches of records; and what the gauges saw of it."""
    seen: list[float] = []
    executor = SimpleNamespace(usage=lambda: batches.pop(0))
    job = SimpleNamespace(
        run=SimpleNamespace(event=event), executor=executor, executes=True, ledger=ledger, device="GPU"
    )
    gauges = SimpleNamespace(spent=lambda record: seen.append(record.written))
    return Metering(cast(Job, job), cast(Gauges, gauges)), seen


def batches(ledger: Ledger) -> list[list[WorkerState]]:
    """A worker with 8 devices comes, and goes after 4 seconds."""
    begin = ledger.record.began + 10
    return [
        [WorkerState(begin, "a", "train", "GPU", 8.0), WorkerState(begin + 1, "a", "idle", "GPU", 8.0)],
        [WorkerState(begin + 4, "a", "gone", "GPU", 8.0)],
        [],
    ]


def test_events_that_cannot_be_written_cost_no_hours(begun: Ledger, logged: list[str]) -> None:
    """The coordinator gives each record once."""
    tried: list[str] = []

    def event(kind: str, **values: Any) -> None:
        tried.append(values["state"])
        raise FULL

    look, seen = metering(begun, batches(begun), event)
    for _ in range(3):
        look.look()
    assert held(begun) == pytest.approx(32.0)
    assert tried == ["train", "idle", "gone"] and len(seen) == 3
    assert [line for line in logged if "no space left" in line] == [
        "what workers do was not written to the events: OSError: no space left on device"
    ]


def test_a_ledger_that_cannot_be_written_costs_no_events(
    begun: Ledger, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    look, seen = metering(begun, batches(begun), lambda kind, **values: written.append(values["state"]))

    def full(*args: object) -> None:
        raise FULL

    with monkeypatch.context() as context:
        context.setattr(Folder, "write_checksummed", full)
        for _ in range(3):
            look.look()
    assert held(begun) == pytest.approx(32.0)
    assert written == ["train", "idle", "gone"] and len(seen) == 3
    assert [line for line in logged if "no space left" in line] == [
        "what this start has spent was not written to its ledger: OSError: no space left on device"
    ]
