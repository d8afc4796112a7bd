"""Deleting stops at symbolic links: what they point to is somebody else's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from splitray.cli.prune import main
from splitray.errors import StorageError
from splitray.storage.keys import CheckpointKey, SegmentKey
from splitray.storage.store import Store

PRECIOUS = ["nonce/inner/precious", "nonce/precious", "precious"]
SEGMENT = SegmentKey(SegmentKey.line_of("a"), 64)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the store that holds what no artifact of it is."""
    (tmp_path / "outside/nonce/inner").mkdir(parents=True)
    for name in PRECIOUS:
        (tmp_path / "outside" / name).write_text("mine")
    return tmp_path / "outside"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.attempt(str(SEGMENT)).publish({})
    store.root.write("attempts/.keep", b"")
    return store


def whole(outside: Path) -> bool:
    return sorted(str(p.relative_to(outside)) for p in outside.rglob("*") if p.is_file()) == PRECIOUS


def link_the_key(root: Path, outside: Path) -> None:
    (root / "attempts/seg-b-000000000000064").symlink_to(outside)


def link_the_nonce(root: Path, outside: Path) -> None:
    (root / "attempts/seg-b-000000000000064").mkdir()
    (root / "attempts/seg-b-000000000000064/nonce").symlink_to(outside)


def link_inside(root: Path, outside: Path) -> None:
    (root / "attempts/seg-b-000000000000064/nonce").mkdir(parents=True)
    (root / "attempts/seg-b-000000000000064/nonce/weights").symlink_to(outside)
    (root / "attempts/seg-b-000000000000064/nonce/one").symlink_to(outside / "precious")


def link_all_attempts(root: Path, outside: Path) -> None:
    (root / "attempts/.keep").unlink()
    for folder in (root / "attempts").iterdir():
        folder.rename(outside.parent / folder.name)
    (root / "attempts").rmdir()
    (root / "attempts").symlink_to(outside)


def link_a_checkpoint(root: Path, outside: Path) -> None:
    """A checkpoint that pruning lists, whose files lie behind a link."""
    store, key = Store(root), str(CheckpointKey(SEGMENT, 32))
    attempt = store.attempt(key)
    attempt.publish({})
    (outside / "nonce").rename(outside / attempt.nonce)
    (root / f"attempts/{key}").symlink_to(outside)


LINKS = [link_the_key, link_the_nonce, link_inside, link_all_attempts]


@pytest.mark.parametrize("link", LINKS)
def test_pruning_deletes_nothing_outside(
    store: Store, outside: Path, link: Callable[[Path, Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(store.root.path)
    link(root, outside)
    code = main([str(root), "--delete"])
    assert whole(outside), capsys.readouterr()
    err = capsys.readouterr().err
    if link is link_all_attempts:
        assert code == 1 and "lies behind the symbolic link attempts" in err
    else:
        assert code == 0, err
        assert (root / "attempts/seg-b-000000000000064/nonce").exists() == (link is not link_inside)


def test_invalidating_unpublishes_and_leaves_what_is_outside(
    store: Store, outside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link_a_checkpoint(Path(store.root.path), outside)
    key = str(CheckpointKey(SEGMENT, 32))
    store.invalidate(key)
    assert store.find(key) is None and (outside / "precious").exists()
    assert [p.name for p in outside.rglob("precious")] == ["precious"] * len(PRECIOUS)
    assert "lies behind the symbolic link" in caplog.text


def test_a_link_itself_is_deleted(store: Store, outside: Path) -> None:
    root = Path(store.root.path)
    (root / "link").symlink_to(outside)
    (root / "one").symlink_to(outside / "precious")
    (root / "broken").symlink_to(outside / "nothing")
    for name in ("link", "one", "broken", "never there"):
        store.root.delete(name)
        assert not (root / name).is_symlink()
    assert whole(outside)
    (root / "folder").symlink_to(outside)
    with pytest.raises(StorageError, match=r"folder/precious lies behind the symbolic link folder"):
        store.root.delete("folder/precious")
    assert whole(outside)


def test_a_store_behind_a_link_is_a_store(store: Store, tmp_path: Path) -> None:
    """The user's own link to the store is followed: it is the store's address."""
    (tmp_path / "name").symlink_to(store.root.path)
    Store(tmp_path / "name").invalidate(str(SEGMENT))
    assert store.find(str(SEGMENT)) is None
