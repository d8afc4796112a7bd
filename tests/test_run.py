"""The run folder: who may use it, what a finished stage leaves, and what a broken one does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_config import PLAIN

from splitray.config import Config, load
from splitray.errors import UserError
from splitray.folder import Folder
from splitray.run import Run


def run(path: Path, said: list[str] | None = None, **changes: Any) -> Run:
    return Run(Folder(path), Config(**PLAIN | changes), (said if said is not None else []).append)


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


def test_a_stage_that_ends_well_is_done(tmp_path: Path) -> None:
    said: list[str] = []
    one = run(tmp_path, said)
    assert one.done("law") is None
    with one.stage("law", lambda: {"trained": 5}) as result:
        assert run(tmp_path).done("law") is None, "done before its end"
        result["form"] = "release"
    record = run(tmp_path).done("law")
    assert record is not None and record["result"] == {"form": "release"} and record["work"] == {"trained": 5}
    assert record["stage"] == "law" and record["seconds"] >= 0 and said == ["== law"]
    assert one.result("law") == {"form": "release"}


def test_a_stage_that_breaks_leaves_no_record_but_its_events(tmp_path: Path) -> None:
    one = run(tmp_path)
    with pytest.raises(RuntimeError), one.stage("law", dict):
        one.event("tried", form="release")
        raise RuntimeError
    assert run(tmp_path).done("law") is None
    (events,) = (tmp_path / "events").iterdir()
    kinds = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    assert kinds == ["said", "stage begins", "tried"]


def test_two_starts_keep_their_events_apart(tmp_path: Path) -> None:
    for number in range(2):
        one = run(tmp_path)
        one.event("start", number=number)
        one.flush()
    lines = [line for file in (tmp_path / "events").iterdir() for line in file.read_text().splitlines()]
    assert sorted(json.loads(line)["number"] for line in lines) == [0, 1]
