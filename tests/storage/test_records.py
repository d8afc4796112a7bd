"""Markers and records by their fields and versions: what is not whole counts as absent, and is never a KeyError."""

from pathlib import Path
from typing import Any

import pytest

from splitray.errors import CorruptError, UserError
from splitray.storage.checksum import Schema, checksummed
from splitray.storage.store import MARKER, Store
from splitray.training.state import load

GOOD: dict[str, Any] = {"key": "k", "nonce": "n", "files": {"f": {"bytes": 4, "sha256": "0" * 64}}, "meta": {"step": 1}}
BAD: list[tuple[str, dict[str, Any]]] = [
    *((f"lacks {name}", {k: v for k, v in GOOD.items() if k != name}) for name in GOOD),
    *(("a field of another type", GOOD | {name: value}) for name in GOOD for value in (None, 3, [])),
    ("lacks the size or the SHA-256", GOOD | {"files": {"f": {"bytes": 4}}}),
    ("lacks the size or the SHA-256", GOOD | {"files": {"f": {"sha256": "0" * 64}}}),
    ("lacks the size or the SHA-256", GOOD | {"files": {"f": {"bytes": -1, "sha256": "0" * 64}}}),
    ("lacks the size or the SHA-256", GOOD | {"files": {"f": {"bytes": "4", "sha256": "0" * 64}}}),
    ("lacks the size or the SHA-256", GOOD | {"files": {"f": {"bytes": 4, "sha256": "../x"}}}),
    ("lacks the size or the SHA-256", GOOD | {"files": {"f": None}}),
    ("no name of an attempt", GOOD | {"nonce": "../../elsewhere"}),
    ("is the marker of other", GOOD | {"key": "other"}),
    ("is not a marker", GOOD | {"schema": "splitray-law-2"}),
    ("is not a marker", GOOD | {"schema": 2}),
]


@pytest.mark.parametrize(("reason", "record"), BAD)
def test_a_marker_that_is_not_whole_counts_as_absent_and_gives_way(
    tmp_path: Path, reason: str, record: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.root.write_json("done/k.json", checksummed(record))
    assert store.find("k") is None
    assert reason in caplog.text and "counts as absent" in caplog.text
    assert list(store.orphaned_attempts()) == []
    written = store.attempt("k").publish({"step": 2})
    found = store.find("k")
    assert found is not None and found.nonce == written.nonce and found.meta == {"step": 2}


def test_markers_of_both_schemas_are_read(tmp_path: Path) -> None:
    """The first release's name none; its own reader takes those of today, which add a field."""
    store = Store(tmp_path)
    for record in (checksummed(GOOD), MARKER.close(GOOD)):
        store.root.write_json("done/k.json", record)
        found = store.find("k")
        assert found is not None and (found.nonce, found.meta, found.bytes) == ("n", {"step": 1}, 4)
        assert found.files["f"].sha256 == "0" * 64


def test_a_newer_marker_is_refused_and_stays(tmp_path: Path) -> None:
    """To count it as absent would be to write over what a later version has published."""
    store, newer = Store(tmp_path), Schema("marker", MARKER.version + 1).close({"other": "fields"})
    store.root.write_json("done/k.json", newer)
    for ask in (lambda: store.find("k"), lambda: store.attempt("k").publish({}), lambda: store.invalidate("k")):
        with pytest.raises(UserError, match=r"done/k\.json was written by a newer splitray .*: update splitray"):
            ask()
    assert store.root.read_json("done/k.json") == newer


def test_a_state_without_its_step_is_corrupt(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "weights.safetensors")
    attempt = Store(tmp_path / "store").attempt("seg")
    attempt.add(tmp_path / "weights.safetensors", "weights.safetensors")
    with pytest.raises(CorruptError, match="the marker of seg records no step"):
        load(attempt.publish({"loss": 1.0}), moments=False)
