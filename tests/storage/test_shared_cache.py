"""Eight processes of one machine that train from one object store: who downloads and hashes what, and what stays."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from splitray.corpus import Corpus
from splitray.errors import StorageError
from splitray.storage import cache, holds
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.data import Order
from splitray.training.tree import MIXTURE, Phase, Segment
from tests.support import ROOT, readers, tiny
from tests.support.stand import Stand

pytest.importorskip("moto.server", reason="needs the dev extra (moto) for an S3 server")

WORLD, DOMAINS = 8, ["a", "b", "c", "d", "e", "f"]
SETTINGS = tiny.training(global_batch_size=16)


@pytest.fixture(scope="module")
def corpus(stand: Stand) -> tuple[str, str]:
    """Six domains with a training shard each: where they are, and their key."""
    words = {d: [f"{d}{n} {d * 3} word{n % 17} " * 40 for n in range(40)] for d in DOMAINS}
    texts = {d: {"train": t, "validation": t[:1]} for d, t in words.items()}
    store = Store(stand.uri("shared"))
    return stand.uri("shared"), tiny.write_corpus(store, texts)


def segment(source: str, steps: int = 12) -> Segment:
    recipe = tiny.recipe(tiny.SHAPE, SETTINGS, {"content_hash": "six", "vocab": 300, "end_token": 0},
                         {d: 1 / len(DOMAINS) for d in DOMAINS}, 0)  # fmt: skip
    return Segment(recipe, (Phase(source, steps * recipe.batch_tokens),))


def test_a_machine_downloads_and_hashes_a_shard_once(stand: Stand, corpus: tuple[str, str], tmp_path: Path) -> None:
    """8 processes, 6 shards: 6 downloads and 6 hash passes, then 0 and 0, and the batches of a process of its own."""
    site = readers.Site(*corpus, str(tmp_path))
    mixture, opened = segment(MIXTURE), Corpus.open(Store(corpus[0]), corpus[1])
    files = ["manifest.json", *(f"shards/{d}-train.npy" for d in DOMAINS)]
    stand.gets.clear()
    first = readers.read_all(site, mixture, WORLD)
    assert [told["error"] for told in first] == [""] * WORLD
    assert stand.shards() == {f"{d}-train.npy": 1 for d in DOMAINS}, "downloads at the first start"
    work = [sum(told["work"][what] for told in first) for what in ("downloaded", "hashed")]
    assert work == [len(files)] * 2 and stand.gets["manifest.json"] == 1, "the six, and the manifest"
    assert {told["cached"] for told in first} == {sum(opened._published.files[f].bytes for f in files)}
    assert sum(set(told["mapped"]) == set(told["shards"].values()) for told in first) == WORLD, "all map all"
    stand.gets.clear()
    second = readers.read_all(site, mixture, WORLD)
    assert not stand.shards() and not stand.gets["manifest.json"], "downloads at the second start"
    assert [told["work"] for told in second] == [{"downloaded": 0, "hashed": 0}] * WORLD
    assert [told["batches"] for told in second] == [told["batches"] for told in first]
    assert [told["batches"] for told in first] == in_one_process(site, mixture)


def in_one_process(site: readers.Site, mixture: Segment) -> list[list[str]]:
    """The batches of every rank, drawn from whole arrays without a cache of ours."""
    opened = Corpus.open(Store(site.store), site.corpus)
    arrays = {d: [np.load(opened._published.fetch(f"shards/{d}-train.npy"))] for d in DOMAINS}
    order, share = Order(arrays, mixture.recipe.weights, 16, 0), 16 // WORLD
    ranks: list[list[str]] = [[] for _ in range(WORLD)]
    for step in range(12):
        batch = order.sequences(MIXTURE, step * 16, 16)
        for rank, digests in enumerate(ranks):
            digests.append(sha256(batch[rank * share : (rank + 1) * share].tobytes()).hexdigest())
    return ranks


def test_a_specialist_opens_its_own_domain_only(stand: Stand, corpus: tuple[str, str], tmp_path: Path) -> None:
    stand.gets.clear()
    told = readers.read_all(readers.Site(*corpus, str(tmp_path)), segment("c"), 2)
    assert [one["error"] for one in told] == ["", ""] and stand.shards() == {"c-train.npy": 1}
    assert all(one["mapped"] == [one["shards"]["c"]] for one in told)


def test_the_limit_holds_with_every_file_mapped(
    stand: Stand, corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache with room for the six shards and no more: old files go, and all six are mapped within the limit."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = Corpus.open(Store(corpus[0]), corpus[1])
    sizes = [opened._published.files[f"shards/{d}-train.npy"].bytes for d in DOMAINS]
    small = opened._published.files["manifest.json"].bytes + 1000
    limit = sum(sizes) + small
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", str(limit / 1e9))
    Folder(stand.uri("old")).write("f", bytes(sizes[0]))
    old = Folder(stand.uri("old")).fetch("f", sha256(bytes(sizes[0])).hexdigest())
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    shards = [shard for d in DOMAINS for shard in opened.mapped(d, "train")]
    arrays = [shard.open() for shard in shards]
    assert not old.exists() and all(array.sum() > 0 for array in arrays)
    cached = list(tmp_path.glob("splitray-cache-*/*"))
    assert len(holds.taken()) == len(DOMAINS) and sum(p.stat().st_size for p in cached) <= limit
    for path in cached:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    Folder(stand.uri("old")).fetch("f", sha256(bytes(sizes[0])).hexdigest())
    assert {s["sha256"] for d in DOMAINS for s in opened.manifest["shards"][d]["train"]} <= {
        p.name for p in tmp_path.glob("splitray-cache-*/*")
    }, "a file in use was deleted"
    part = arrays[0][5:9]
    del arrays, shards
    assert len(holds.taken()) == 1 and part.sum() >= 0, "the map of a cut array is in use, the others are not"


def test_a_corpus_that_does_not_fit_is_refused_before_a_download(
    stand: Stand, corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = Corpus.open(Store(corpus[0]), corpus[1])
    sizes = [opened._published.files[f"shards/{d}-train.npy"].bytes for d in DOMAINS]
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", str((sum(sizes) - 1) / 1e9))
    stand.gets.clear()
    with pytest.raises(
        StorageError,
        match=r"6 domains .* GB, and this machine's cache may have .* or TMPDIR to .*training.shuffle_tokens",
    ):
        opened.check_room(dict.fromkeys(DOMAINS, 1), "train")
    assert not stand.shards()
    opened.check_room({"a": 1}, "train")
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", str(1.5 * sizes[0] / 1e9))
    (first,), (second,) = opened.mapped("a", "train"), opened.mapped("b", "train")
    first.open()
    with pytest.raises(StorageError, match=r"are in use, and .* GB more are needed"):
        second.open()
    first.close()
    manifest = next(p for p in tmp_path.glob("splitray-cache-*/*") if p.stat().st_size < min(sizes))
    assert second.open().sum() > 0, "what was closed makes room"
    assert manifest.exists(), "a path that was handed out a moment ago may not have been opened yet"


DIES = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from splitray.storage import holds
with holds.locked("room"):
    holds.take("x" * 64)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_holds_nothing_and_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    held = subprocess.Popen([sys.executable, "-c", DIES, str(tmp_path)], env=env, stdin=-1, stdout=-1, text=True)
    assert held.stdout is not None and held.stdout.readline() == "held\n"
    assert holds.taken() == {"x" * 64}
    held.kill()
    held.wait()
    with holds.locked("room"):
        assert holds.taken() == set() and not list(holds.folder().glob("held-*"))


DOWNLOADS = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from splitray.storage import cache
def download(draft):
    print("began", flush=True)
    sys.stdin.read()
cache.obtain("y" * 64, 6000, download, hold=True)
"""


def test_a_running_download_takes_room_and_a_killed_one_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", str(10_000 / 1e9))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", DOWNLOADS, str(tmp_path)], env=env, stdin=-1, stdout=-1, text=True)
    assert other.stdout is not None and other.stdout.readline() == "began\n"
    content = bytes(6000)
    name = sha256(content).hexdigest()

    def download(draft: Path) -> str:
        draft.write_bytes(content)
        return name

    with pytest.raises(cache.NoRoomError, match="6e-06 GB of it are in use"):
        cache.obtain(name, 6000, download, hold=True)
    other.kill()
    other.wait()
    assert cache.obtain(name, 6000, download, hold=True).read_bytes() == content
    assert [path.name for path in tmp_path.glob("splitray-cache-*/*")] == [name]
    holds.release(name)


def test_a_download_counts_whole_from_its_beginning(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MB come in blocks; by the size of the file others know how much room is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content, sizes = os.urandom(1 << 24), list[int]()
    Folder(stand.uri("large")).write("f", content)
    fetched = threading.Thread(
        target=lambda: Folder(stand.uri("large")).fetch("f", sha256(content).hexdigest(), len(content)), daemon=True
    )
    fetched.start()
    while fetched.is_alive():
        sizes += [path.stat().st_size for path in tmp_path.glob("splitray-cache-*/*.draft") if path.exists()]
    assert len(sizes) > 5 and set(sizes) <= {0, len(content)} and sizes[-1] == len(content)


def test_the_list_of_held_files_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus that passes by for days takes and releases its shards again and again."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with holds.locked("room"):
        holds.take("a" * 64)
        for number in range(5000):
            holds.take(f"{number:064}")
            if number >= 3:
                holds.release(f"{number:064}")
            if number % 1000 == 999:
                assert holds.taken() == {"a" * 64, *(f"{n:064}" for n in range(3))}
        (list_,) = holds.folder().glob("held-*")
        assert list_.stat().st_size < 2000 * 66
        for number in range(3):
            holds.release(f"{number:064}")
        holds.release("a" * 64)
        assert holds.taken() == set()


def test_a_local_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path, whole = tmp_path / "f", sha256(b"data").hexdigest()
    path.write_bytes(b"data")
    hashed = cache.work_done()["hashed"]
    assert cache.verify(path, whole) and cache.verify(path, whole)
    assert cache.work_done()["hashed"] == hashed + 2, "it was written a moment ago: its mark could not be trusted"
    os.utime(path, (time.time() - 60, time.time() - 60))
    assert cache.verify(path, whole) and cache.verify(path, whole)
    assert cache.work_done()["hashed"] == hashed + 3
    path.write_bytes(b"dat4")
    assert not cache.verify(path, whole)
