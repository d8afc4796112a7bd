"""Processes of one machine that draw their batches of a segment from one object store: what each did, and saw."""

import multiprocessing
import os
import tempfile
import threading
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from splitray.corpus import Corpus
from splitray.errors import SplitrayError
from splitray.executor.worker import RunContext, order_of
from splitray.storage import cache
from splitray.storage.store import Store
from splitray.training.feed import Feed
from splitray.training.tree import Segment


@dataclass(frozen=True)
class Site:
    """Where the processes read from, where they keep what they have read, and how many bytes of it at most."""

    store: str
    corpus: str
    temporary: str
    limit: int | None = None


def read_all(site: Site, segment: Segment, world: int) -> list[dict[str, Any]]:
    """Let so many new processes draw a segment at once, each its share of every batch, in step as in training.

    Each tells `work` (downloads, hash passes), a digest of every batch, the names of the `mapped` cache files, the
    bytes of all files in the cache while every process has its files mapped, and the message of its `error`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    waits, said = (context.Barrier(world), context.Barrier(world)), context.Queue()
    processes = [context.Process(target=_read, args=(site, segment, r, world, *waits, said)) for r in range(world)]
    for process in processes:
        process.start()
    told = [said.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=20)
    return [one for _, one in sorted(told, key=lambda pair: pair[0])]


def _read(site: Site, segment: Segment, rank: int, world: int, together: Barrier, in_step: Barrier, said: Any) -> None:
    tempfile.tempdir = site.temporary
    os.environ.pop(cache.LIMIT, None)  # that of the first processes, which others are forked from
    if site.limit is not None:
        os.environ[cache.LIMIT] = str(site.limit / 1e9)
    context = RunContext(Store(site.store), site.corpus, None, "none")  # type: ignore[arg-type]
    told: dict[str, Any] = {"error": ""}
    together.wait(60)
    try:
        open_order = order_of(context, segment)
        before = cache.work_done()
        assert before == {"downloaded": 0, "hashed": 0}, "a rank downloads before its first collective"
        order = open_order()
        feed = Feed(order, segment, 0, rank, segment.recipe.global_batch_size // world)
        steps = segment.tokens // segment.recipe.batch_tokens
        told["batches"] = []
        for _ in range(steps):
            told["batches"].append(sha256(feed.next().tobytes()).hexdigest())
            in_step.wait(60)
        feed.close()
    except SplitrayError as error:
        told["error"] = str(error)
        in_step.abort()
    except threading.BrokenBarrierError:
        told["error"] = "another process ended"
    together.wait(60)
    lines = Path("/proc/self/maps").read_text().splitlines()
    maps = {line.rsplit("/", 1)[-1] for line in lines if "splitray-cache" in line}
    told |= {"work": cache.work_done(), "mapped": sorted(maps), "cached": _size(Path(site.temporary))}
    told["shards"] = shard_names(site)
    together.wait(60)
    said.put((rank, told))


def _size(temporary: Path) -> int:
    return sum(path.stat().st_size for path in temporary.glob("splitray-cache-*/*"))


def shard_names(site: Site) -> dict[str, str]:
    """The SHA-256 of the training shard of each domain, by which the cache names it."""
    corpus = Corpus.open(Store(site.store), site.corpus)
    return {d: corpus.manifest["shards"][d]["train"][0]["sha256"] for d in corpus.domains}
