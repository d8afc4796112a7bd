"""A corpus that exceeds the cache: with spans of shards its shards pass by, each downloaded about once an epoch."""

import fcntl
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitray.config import Config
from splitray.corpus import Corpus
from splitray.corpus.mapped import MappedShard
from splitray.errors import StorageError, UserError
from splitray.executor.node_caches import NodeCache
from splitray.executor.worker import RunContext, order_of
from splitray.pipeline.dry_run import foresee
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.room import check_room, room_of
from splitray.pipeline.standing import Standing
from splitray.storage import holds
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.data import Order
from splitray.training.feed import Feed, reach
from splitray.training.recipe import recipe
from splitray.training.tree import MIXTURE, Phase, Segment
from tests.support import readers, tiny
from tests.support.configs import PLAIN
from tests.support.stand import Stand

pytest.importorskip("moto.server", reason="needs the dev extra (moto) for an S3 server")

WORLD, DOMAINS, PIECES = 4, ["a", "b"], 6
SETTINGS = tiny.training(global_batch_size=16, shuffle_tokens=1)  # a shard a span


@pytest.fixture(scope="module")
def corpus(stand: Stand) -> tuple[str, str]:
    """Two domains with six training shards each: where they are, and their key."""
    texts = {d: [f"{d}{n} {d * 3} word{n % 17} {n % 101} " * 60 for n in range(402)] for d in DOMAINS}
    store = Store(stand.uri("passing"))
    key = tiny.write_corpus(store, {d: {"train": t, "validation": t[:1]} for d, t in texts.items()}, pieces=PIECES)
    return stand.uri("passing"), key


def programme(opened: Corpus, **training: Any) -> Programme:
    values = PLAIN | {"training": PLAIN["training"] | {"global_batch_size": 16, "sequence_length": 16} | training}
    return Programme(Config(**values), CorpusFacts.of(opened), "fp32")


def test_a_run_is_refused_before_it_trains_and_told_a_size_that_fits(
    corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment of the mixture takes both domains whole, or two shards of each; room is for nine of the twelve."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = Corpus.open(Store(corpus[0]), corpus[1])
    sizes = {d: sorted(opened._published.files[s["file"]].bytes for s in opened._shards(d, "train")) for d in DOMAINS}
    whole = sum(map(sum, sizes.values()))
    limit = 9 * max(map(max, sizes.values()))
    assert limit < whole
    nodes = {"10.0.0.1": NodeCache(2.0 * whole, 1), "10.0.0.2": NodeCache(float(limit), 3)}
    with pytest.raises(
        UserError, match=r"10\.0\.0\.2 \(.* GB\)\. Nothing was trained: .*shuffle_tokens to (\d+) or"
    ) as told:
        check_room(programme(opened), opened, nodes)
    assert "10.0.0.1" not in str(told.value)
    fits = int(re.findall(r"shuffle_tokens to (\d+)", str(told.value))[0])
    assert (
        room_of(programme(opened), opened, fits).at_once <= limit < room_of(programme(opened), opened, 2 * fits).at_once
    )
    check_room(programme(opened, shuffle_tokens=fits), opened, nodes)
    assert "10.0.0.2 trains up to 3 segments at once" in caplog.text, "each at another place"
    caplog.clear()
    check_room(programme(opened, shuffle_tokens=1), opened, {"n": NodeCache(float(limit), 2)})
    assert not caplog.text, "four shards each"
    # a domain alone takes all its shards where mixture is replayed too, since both ends are read
    replayed = room_of(programme(opened, replay_share=0.5), opened, 1)
    largest = {d: s[-1] + s[-2] for d, s in sizes.items()}
    assert room_of(programme(opened), opened, 1).at_once == sum(largest.values())
    assert replayed.at_once == max(sum(sizes[d][-4:]) + sum(largest.values()) - largest[d] for d in DOMAINS)
    least = 1.5 * max(map(max, sizes.values()))
    with pytest.raises(UserError, match="a span is at least a shard"):
        check_room(programme(opened, shuffle_tokens=1), opened, {"n": NodeCache(least, 1)})


def test_the_dry_run_says_what_a_node_caches(
    corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = Corpus.open(Store(corpus[0]), corpus[1])
    made = programme(opened)
    standing = Standing(corpus=made.corpus, built=opened)
    assert "GB of text, of which a segment needs" in (
        said := " ".join(str(foresee(made.config, corpus[0], standing)).split())
    )
    assert "shuffle_tokens" not in said
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", "0.0005")
    said = " ".join(str(foresee(made.config, corpus[0], standing)).split())
    assert "cache may have 0.0005 GB: set SPLITRAY_CACHE_GIGABYTES" in said and "training.shuffle_tokens to" in said


def segment(epochs: float, opened: Corpus) -> Segment:
    made = recipe(tiny.SHAPE, SETTINGS, opened.identity(), {"a": 0.5, "b": 0.5}, 0)
    tokens = epochs * sum(opened.counts(d, "train")["tokens"] for d in DOMAINS)
    return Segment(made, (Phase(MIXTURE, int(tokens // made.batch_tokens) * made.batch_tokens),))


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """The bytes in a cache, looked at again and again while nobody makes room in it."""
    over, sizes = threading.Event(), [0]

    def look() -> None:
        while not over.wait(0.005):
            found = dict[str, int]()
            for lock in folder.glob("splitray-marks-*/lock-room"):
                with lock.open("a") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX)
                    for path in folder.glob("splitray-cache-*/*"):
                        try:
                            found[path.name[:64]] = path.stat().st_size  # a download is renamed in between
                        except FileNotFoundError:
                            continue
            sizes.append(sum(found.values()))

    watcher = threading.Thread(target=look)
    watcher.start()
    yield sizes
    over.set()
    watcher.join()


def test_shards_pass_by_within_the_limit(
    stand: Stand, corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes, twelve shards, room for four of them: two epochs take about two downloads a shard."""
    (here := tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    opened = Corpus.open(Store(corpus[0]), corpus[1])
    mixture = segment(2.0, opened)
    arrays = {d: [np.load(opened._published.fetch(s["file"])) for s in opened._shards(d, "train")] for d in DOMAINS}
    order = Order(arrays, mixture.recipe.weights, 16, 0, mixture.recipe.shuffle_tokens)
    at_once = order.at_once([MIXTURE], **reach(16))
    assert at_once == {"a": 2, "b": 2}
    room = opened.room(at_once, "train") + opened._published.files["manifest.json"].bytes
    stand.gets.clear()
    with watched(tmp_path) as sizes:
        told = readers.read_all(readers.Site(*corpus, str(tmp_path), room), mixture, WORLD)
    assert [one["error"] for one in told] == [""] * WORLD
    for rank, one in enumerate(told):
        rows = (order.sequences(MIXTURE, step * 16 + rank * 4, 4) for step in range(len(one["batches"])))
        assert one["batches"] == [sha256(batch.tobytes()).hexdigest() for batch in rows]
    got = stand.shards()
    assert len(got) == 12 and max(got.values()) <= 3 and sum(got.values()) <= 2 * 12 + 4, got
    assert room / 2 < max(sizes) <= room


def test_whole_domains_are_refused_where_they_do_not_fit_and_would_be_fetched_again_and_again(
    stand: Stand, corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = Store(corpus[0])
    opened = Corpus.open(store, corpus[1])
    mixture = segment(1.0, opened)
    whole = Segment(replace(mixture.recipe, shuffle_tokens=None), mixture.phases)
    room = opened.room({"a": 2, "b": 2}, "train") + opened._published.files["manifest.json"].bytes
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", str(room / 1e9))
    context = RunContext(store, corpus[1], None, "none")  # type: ignore[arg-type]
    stand.gets.clear()
    with pytest.raises(StorageError, match=r"12 shards .* are needed at once.* training.shuffle_tokens to less"):
        order_of(context, whole)()
    assert not stand.shards(), "before a download"
    assert downloads(stand, opened, whole) > 60, "of 12 shards, by 150 sequences"
    (fresh := tmp_path / "fresh").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(fresh))
    assert downloads(stand, opened, mixture) == 2, "a shard of each domain"


def downloads(stand: Stand, opened: Corpus, segment: Segment) -> int:
    """How many the first 150 sequences take, where the cache may drop a shard as soon as a sequence of it is drawn."""
    order = ordered(opened, segment)
    stand.gets.clear()
    for index in range(150):
        order.sequences(MIXTURE, index, 1)
        for domain in DOMAINS:
            for shard in order.shards(domain):
                assert isinstance(shard, MappedShard)
                shard.close()
    return stand.shards().total()


def test_training_waits_for_room_that_others_use_and_stops_at_once_where_it_is_told_to(
    stand: Stand, corpus: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """A file that was handed out a moment ago fills the cache; it goes once its ten minutes are over."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = Corpus.open(Store(corpus[0]), corpus[1])
    mixture = segment(1.0, opened)
    room = opened.room({"a": 2, "b": 2}, "train") + opened._published.files["manifest.json"].bytes
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", str(room / 1e9))
    other = bytes(room - 40_000)
    Folder(stand.uri("other")).write("state", other)
    path = Folder(stand.uri("other")).fetch("state", sha256(other).hexdigest())
    stopped, feed = (Feed(ordered(opened, mixture), mixture, 0, 0, 16) for _ in range(2))
    feed.wait(2.0)
    assert not feed.ready() and "training waits up to 11 minutes: the cache" in " ".join(logged)
    began = time.monotonic()
    stopped.close()
    assert time.monotonic() - began < 3, "the other one waits on"
    for used in (path, holds.folder() / f"handed-{path.name}"):
        os.utime(used, (time.time() - 7200, time.time() - 7200))
    assert feed.next().shape == (16, 17) and not path.exists()
    feed.close()


def ordered(opened: Corpus, segment: Segment) -> Order:
    shards: dict[str, list[MappedShard]] = {d: opened.mapped(d, "train") for d in DOMAINS}
    return Order(shards, segment.recipe.weights, 16, 0, segment.recipe.shuffle_tokens)
