"""The run folder: who may use it, what a finished stage leaves, and what a broken one does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from splitray.config import Config, load
from splitray.errors import StorageError, UserError
from splitray.executor.client import ExecutorClient
from splitray.pipeline.run_folder import RunFolder
from splitray.storage.folder import Folder
from tests.support.configs import PLAIN


def run(path: Path, **changes: Any) -> RunFolder:
    return RunFolder(Folder(path), Config(**PLAIN | changes))


def test_the_resolved_config_is_kept_and_compared(tmp_path: Path) -> None:
    run(tmp_path)
    assert load(tmp_path / "config.yaml") == Config(**PLAIN)
    run(tmp_path, resources={"base_workers": 2})
    assert load(tmp_path / "config.yaml").resources.base_workers == 2, "operational fields may change"
    with pytest.raises(
        UserError, match=r"holds a run with other settings: budget: 65536 -> 131072; seed: 0 -> 3\. Give"
    ):
        run(tmp_path, budget=131072, seed=3)
    assert load(tmp_path / "config.yaml").budget == 65536, "a refused config must not be written"


def test_a_foreign_config_in_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\nflavour: sweet\n")
    with pytest.raises(UserError, match=r"config\.yaml: .*unknown key flavour"):
        run(tmp_path)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [\n", "\x00"])
def test_a_torn_config_in_the_folder_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        run(tmp_path)


def test_a_stage_that_ends_well_is_done(tmp_path: Path, logged: list[str]) -> None:
    one = run(tmp_path)
    assert one.done("law") is None
    with one.stage("law", lambda: {"trained": 5}) as result:
        assert run(tmp_path).done("law") is None, "done before its end"
        result["form"] = "release"
    record = run(tmp_path).done("law")
    assert record is not None and record["result"] == {"form": "release"} and record["work"] == {"trained": 5}
    assert record["stage"] == "law" and record["seconds"] >= 0 and logged == ["== law"]
    assert one.result("law") == {"form": "release"}


def test_a_stage_that_breaks_leaves_no_record_but_its_events(tmp_path: Path) -> None:
    one = run(tmp_path)
    with pytest.raises(RuntimeError), one.stage("law", dict):
        one.event("tried", form="release")
        raise RuntimeError
    assert run(tmp_path).done("law") is None
    assert [e["event"] for e in events(tmp_path)] == ["stage begins", "tried"]


def test_two_starts_keep_their_events_apart(tmp_path: Path) -> None:
    for number in range(2):
        one = run(tmp_path)
        one.event("start", number=number)
        one.flush()
    assert [e["number"] for e in events(tmp_path)] == [0, 1]
    assert len(list((tmp_path / "events").iterdir())) == 2


def events(path: Path) -> list[dict[str, Any]]:
    """Every event of a run folder, as a reader of `events/*.jsonl` in the order of names finds them."""
    return [json.loads(line) for file in sorted((path / "events").iterdir()) for line in file.open()]


def test_a_long_run_writes_each_event_a_few_times_and_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand events, flushed after every hundred: nothing is lost, little is written twice or held."""
    one, written, held = run(tmp_path), list[int](), 0
    write = one.folder.write

    def counted(name: str, data: bytes) -> None:
        written.append(len(data))
        write(name, data)

    monkeypatch.setattr(one.folder, "write", counted)
    for number in range(100_000):
        one.event("tick", number=number)
        if number % 100 == 99:
            one.flush()
            one.flush()  # nothing new: nothing to write
            held = max(held, sum(map(len, one._lines)))
    assert len(written) == 1000 and max(written) < 300_000 and held < 300_000
    assert [e["number"] for e in events(tmp_path)] == list(range(100_000))


def test_events_that_could_not_be_written_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(tmp_path)

    def refuse(name: str, data: bytes) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(one.folder, "write", refuse)
        one.event("first")
        with pytest.raises(StorageError):
            one.flush()
    one.event("second")
    one.flush()
    assert [e["event"] for e in events(tmp_path)] == ["first", "second"]


def test_an_event_of_progress_does_not_grow_with_the_hosts(tmp_path: Path) -> None:
    one, client = run(tmp_path), object.__new__(ExecutorClient)
    client._event = one.event
    host = {"segment": "seg-x", "source": "mixture", "tokens": 10, "call_tokens": 10, "loss": 1.0, "rate": 2.5}
    counters = {"segments": 9, "finished": 1, "tokens": 1000, "trained": 100}
    client.tell({**counters, "running": {f"ladder[{i}]": host for i in range(64)}})
    one.flush()
    (event,) = events(tmp_path)
    assert {k: event[k] for k in counters} == counters and (event["workers"], event["rate"]) == (64, 160.0)
    assert len(json.dumps(event)) < 250
