"""Pruning keeps what is published and deletes only when told."""

from pathlib import Path

import pytest

from splitray.cli.prune import main
from splitray.storage.keys import CheckpointKey, SegmentKey
from splitray.storage.store import Store

FINISHED, UNFINISHED, KILLED = (SegmentKey(SegmentKey.line_of(name), 1) for name in "abc")


def publish(store: Store, key: str, folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * 100)
    attempt = store.attempt(key)
    attempt.add(folder / "file", "file")
    attempt.publish({})


def test_lists_then_deletes_only_waste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    publish(store, str(FINISHED), tmp_path)
    publish(store, str(CheckpointKey(FINISHED, 5)), tmp_path)  # its segment is published
    publish(store, str(CheckpointKey(UNFINISHED, 5)), tmp_path)  # its segment is not: a killed run continues from here
    (tmp_path / "file").write_bytes(b"y" * 50)
    store.attempt(str(KILLED)).add(tmp_path / "file", "file")  # a killed writer's

    assert main([str(tmp_path / "store")]) == 0
    told = capsys.readouterr().out
    assert f"part-{FINISHED}" in told and f"attempts/{KILLED}" in told and f"part-{UNFINISHED}" not in told
    assert store.find(str(CheckpointKey(FINISHED, 5))) is not None, "listing deletes nothing"

    assert main([str(tmp_path / "store"), "--delete"]) == 0
    assert store.keys() == [str(CheckpointKey(UNFINISHED, 5)), str(FINISHED)]
    published = store.find(str(FINISHED))
    assert published is not None and published.fetch("file").read_bytes() == b"x" * 100
    assert list(store.orphaned_attempts()) == []
    assert main([str(tmp_path / "store")]) == 0 and "0.0 MiB in 0 places" in capsys.readouterr().out


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    assert "is not a store" in capsys.readouterr().err
