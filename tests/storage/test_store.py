"""The store and its folders on a real disk: published once, checked when read, honest when the disk is not."""

import json
import os
import pickle
import threading
from pathlib import Path

import pytest

from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage.folder import Folder
from splitray.storage.store import Published, Store
from tests.support.disk import remount


def write(store: Store, key: str, text: str = "weights", **meta: str) -> Published:
    attempt = store.attempt(key)
    source = store.root.local_path() / "source.tmp"
    source.write_text(text)
    attempt.add(source, "part/file.bin")
    source.unlink()
    return attempt.publish(dict(meta))


def test_publish_and_fetch(tmp_path: Path) -> None:
    store = Store(tmp_path / "new/store")
    store.root.write("here", b"")
    assert store.find("k") is None and store.keys() == []
    made = write(store, "k", who="first")
    found = pickle.loads(pickle.dumps(store)).find("k")  # noqa: S301 - our own object, as Ray sends it
    assert found is not None and found.meta == {"who": "first"} and found.nonce == made.nonce
    assert found.fetch("part/file.bin").read_text() == "weights" and found.bytes == 7
    with pytest.raises(CorruptError, match=r"k holds no file other; it has part/file\.bin"):
        found.fetch("other")


def test_nothing_counts_before_the_marker(tmp_path: Path) -> None:
    store = Store(tmp_path)
    attempt = store.attempt("k")
    attempt.folder.write("file", b"data")
    assert store.find("k") is None and store.keys() == []
    assert list(store.orphaned_attempts()) == [(f"attempts/k/{attempt.nonce}", 4)]
    attempt.publish({})
    assert not list(store.orphaned_attempts())


def test_the_first_marker_wins(tmp_path: Path) -> None:
    store = Store(tmp_path)
    late = store.attempt("k")
    late.folder.write("file", b"late")
    first = write(store, "k", who="first")
    assert late.publish({"who": "late"}).nonce == first.nonce
    assert list(store.orphaned_attempts()) == [(f"attempts/k/{late.nonce}", 4)]


def test_concurrent_writers_agree_on_one(tmp_path: Path) -> None:
    """Sixteen threads let go at once: whoever asks later, and each of them, sees the same one."""
    store, gate = Store(tmp_path), threading.Barrier(16)
    told: list[str] = []

    def race() -> None:
        attempt = store.attempt("k")
        attempt.folder.write("file", attempt.nonce.encode())
        gate.wait()
        told.append(attempt.publish({}).nonce)

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.find("k")
    assert found is not None and told == [found.nonce] * 16
    assert found.folder.read("file").decode() == found.nonce
    assert len(list(store.orphaned_attempts())) == 15


@pytest.mark.parametrize(
    "torn", [b"", b'{"key": "k", "non', b"[]", b'{"key": "other", "nonce": "n", "files": {}, "meta": {}}']
)
def test_a_torn_or_foreign_marker_counts_as_absent_and_gives_way(tmp_path: Path, torn: bytes) -> None:
    store = Store(tmp_path)
    store.root.write("done/k.json", torn)
    assert store.find("k") is None and store.keys() == ["k"]
    made = write(store, "k")
    found = store.find("k")
    assert found is not None and found.nonce == made.nonce


def test_damage_is_found_when_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = write(store, "k", "weights")
    path = made.folder.local_path("part/file.bin")
    path.write_text("weighty")
    with pytest.raises(CorruptError, match=r"part/file\.bin has SHA-256 .* recorded is"):
        made.fetch("part/file.bin")
    assert made.fetch("part/file.bin", check=False).read_text() == "weighty"
    path.unlink()
    with pytest.raises(CorruptError, match="cannot be read"):
        made.fetch("part/file.bin")


def test_withdrawing_spares_writers_at_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    working = store.attempt("k")
    working.folder.write("file", b"new")
    rotten = write(store, "k")
    store.invalidate("k")
    assert store.find("k") is None and not rotten.folder.exists("part/file.bin")
    assert working.publish({}).nonce == working.nonce
    assert working.folder.read("file") == b"new"
    store.invalidate("never there")


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../b", "a//b", "", ".", "a/", "a\\b"])
def test_names_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path / "inside")
    for act in (
        folder.read,
        folder.exists,
        folder.delete,
        folder.fetch,
        lambda n: folder.write(n, b""),
        folder.__truediv__,
    ):
        with pytest.raises(UserError, match="is not a name inside"):
            act(name)
    for act in (Store(folder).find, Store(folder).invalidate):
        with pytest.raises(UserError, match="is not a name inside"):
            act("../../out")
    assert list(tmp_path.iterdir()) == []


def test_readers_see_whole_files(tmp_path: Path) -> None:
    """A reader beside a writer sees one value or the other, never a mixture or nothing."""
    folder = Folder(tmp_path)
    values = [bytes([c]) * 100_000 for c in b"ab"]
    folder.write("f", values[0])
    over, seen = threading.Event(), set()

    def read() -> None:
        while not over.is_set():
            data = folder.read("f")
            seen.add(data if data in values else data[:20])

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        folder.write("f", values[turn % 2])
    over.set()
    reader.join()
    assert seen <= set(values) and sorted(p.name for p in tmp_path.iterdir()) == ["f"]


def test_json_that_is_not(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("x.json", b"{")
    with pytest.raises(CorruptError, match=r"x\.json is not JSON"):
        folder.read_json("x.json")
    with pytest.raises(ValueError, match="JSON compliant"):
        folder.write_json("y.json", float("nan"))


def test_a_full_disk_is_said_and_survived(small_disk: Path, tmp_path: Path) -> None:
    store = Store(small_disk / "store")
    source = tmp_path / "big"
    source.write_bytes(os.urandom(2_000_000))
    attempt = store.attempt("k")
    with pytest.raises(StorageError, match=r"big\.bin: the disk is full"):
        attempt.add(source, "big.bin")
    with pytest.raises(StorageError, match="the disk is full"):
        store.root.write("big.bin", source.read_bytes())
    assert attempt.folder.names() == [], "a part of the file was left"
    assert write(store, "small").bytes == 7


def test_a_read_only_disk_is_said_and_still_read(small_disk: Path) -> None:
    store = Store(small_disk)
    made = write(store, "k")
    remount(small_disk, "ro")
    found = store.find("k")
    assert found is not None and found.fetch("part/file.bin").read_text() == "weights"
    attempt = store.attempt("other")
    for act in (lambda: attempt.publish({}), lambda: store.invalidate("k"), lambda: store.root.write("f", b"")):
        with pytest.raises(StorageError, match="the file system is read-only"):
            act()
    assert json.loads((small_disk / "done/k.json").read_text())["nonce"] == made.nonce
