"""Build a corpus on Ray Data: five streaming passes over blocks on a scratch folder, one published artifact.

Text never travels between tasks: a pass reads and writes blocks in the scratch folder and sends back narrow rows
(hashes, sizes, domains; about 60 bytes a document), from which the driver decides for the whole corpus. So no pass
shuffles, memory is bounded by one block a task, and nothing depends on the order in which tasks end.
"""

import json
import logging
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from splitray import __version__
from splitray.corpus import fits, passes
from splitray.corpus.checks import check_documents, check_domains, count_domains, oversized_groups
from splitray.corpus.corpus import MANIFEST, Corpus, content_hash
from splitray.corpus.holdout import DROPPED, ROW, SPLITS, TRAIN, VALIDATION, Decision, chosen, decide, mixed
from splitray.corpus.ray_tasks import Engine, own_context
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.shards import plan_shards
from splitray.corpus.sources import SourceFile, list_sources, plan_units
from splitray.corpus.tokenizer import Encoder
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.storage.keys import CorpusKey
from splitray.storage.local import local_copy
from splitray.storage.probe import check_seen
from splitray.storage.store import Attempt, Store

_log = logging.getLogger(__name__)

RECIPE = 2  # bump when the same input and settings would give another corpus
_PARTS = 64  # partitions of each domain and split: bounds the small files, keeps 64 tasks busy

Say = Callable[[str], None]


def corpus_key(settings: CorpusSettings, seed: int, files: list[SourceFile]) -> str:
    """The name of the corpus in the store: identity settings, seed, recipe, and name, size and time of every file."""
    identity = {name: value for name, value in settings.identity().items() if name != "sources"}
    return CorpusKey(fingerprint([RECIPE, identity, seed, [file.listing() for file in files]])).format()


def build(settings: CorpusSettings, seed: int, store: Store) -> Corpus:
    """The corpus that the settings describe: opened where the store holds it, else built. Ray must be running.

    Raises `UserError` where the input cannot make a corpus (missing path, no such column, fewer documents than
    domains, a store that the cluster's nodes do not see); an unfinished build leaves nothing published.
    """
    files, passed = list_sources(settings)
    key = corpus_key(settings, seed, files)
    if store.find(key) is not None:
        _log.info(f"corpus: {key} stands in the store")
        return Corpus.open(store, key)
    check_seen(store, workers=True)
    megabytes = sum(file.size for file in files) / 1e6
    _log.info(f"corpus: {len(files):,} files, {megabytes:,.1f} MB, to {key}")
    attempt = store.attempt(key)
    with own_context():
        _publish(store, _Build(settings, seed, attempt), files, passed)
    return Corpus.open(store, key)


def _publish(store: Store, work: "_Build", files: list[SourceFile], passed: Counter[str]) -> None:
    """Run a build and publish what it made; an unfinished one leaves nothing."""
    attempt, done = work.attempt, False
    try:
        meta = work.run(files, passed)
        attempt.folder.delete("scratch")
        attempt.publish(meta)
        done = True
    finally:
        if not done:
            work.engine.stop()  # a task that still runs would write into the folder after it is gone
            store.root.delete(f"attempts/{attempt.key}/{attempt.nonce}")


class _Build:
    """One build: `rows` are the narrow rows of all documents, `side` says where each goes, `spans` where blocks lie."""

    def __init__(self, settings: CorpusSettings, seed: int, attempt: Attempt) -> None:
        self.settings, self.seed, self.attempt = settings, seed, attempt
        self.target = attempt.folder
        self.scratch = attempt.folder / "scratch"
        self.engine = Engine(settings)
        self.dropped: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    def run(self, files: list[SourceFile], passed: Counter[str]) -> dict[str, Any]:
        """Fill the attempt's folder; returns what its marker tells."""
        with self._timed("read"):
            self._read(files, passed)
        with self._timed("split"):
            decision = self._split()
        sample = self._chosen(self.settings.cluster.sample, "cluster")
        # The tokenizer needs no domains: it is fitted beside the embedder and the embedding pass.
        tokenizer = self._start("tokenizer", fits.fit_tokens, self._tokenizer_sample(), self.settings)
        with self._timed("fit embedder"):
            picks = self._picks(sample)
            self._finish(self._start("router/embedder", fits.fit_embedder, picks, self.settings, self.seed))
        with self._timed("embed"):
            vectors = self._embed(sample)
        with self._timed("find domains"):
            found = self._start("router", fits.fit_domains, vectors, picks, self.settings, self.seed)
            domains, picture = self._finish(found)
        with self._timed("wait for the tokenizer"):
            self._finish(tokenizer)
        with self._timed("tokenize"):
            placed, tokens, part = self._tokenize()
        check_domains(domains["names"], self.side, placed)
        with self._timed("write shards"):
            shards = self._shards(placed, tokens, part, domains["names"])
        statistics = {
            "documents": len(self.rows),
            "bytes": int(self.rows["bytes"].sum()),
            "domains": count_domains(domains, self.rows["bytes"], self.side, placed, tokens),
            "dropped": {reason: count for reason, count in sorted(self.dropped.items()) if count},
            "groups_split_by_row": oversized_groups(decision, self.scratch, self.spans),
            "seconds": self.seconds,
        }
        return self._describe(domains["names"], picture, shards, statistics)

    # the passes

    def _read(self, files: list[SourceFile], passed: Counter[str]) -> None:
        units = plan_units(files, self.settings, passed)
        items = [{"unit": number, "files": json.dumps(unit)} for number, unit in enumerate(units)]
        work = partial(passes.read_unit, scratch=self.scratch, settings=self.settings)
        results = sorted(self.engine.over("read and clean", work, items), key=lambda row: row["unit"])
        self.dropped.update(passed)
        for result in results:
            self.dropped.update(json.loads(result["tally"]))
        parts = [np.frombuffer(rows, dtype=ROW) for result in results for rows in result["rows"]]
        self.rows = np.concatenate([*parts, np.empty(0, dtype=ROW)])
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        names = (name for result in results for name in result["blocks"])
        self.spans = [(name, slice(*span)) for name, span in zip(names, pairwise(ends), strict=True)]

    def _split(self) -> Decision:
        decision = decide(self.rows, self.settings, self.seed)
        self.side = decision.side
        self.dropped += decision.dropped
        near = self.settings.near_duplicate
        if near is not None and (self.side == VALIDATION).any():
            blocks = {name: self.side[span] for name, span in self.spans}
            self.engine.get(self.engine.task("index validation", passes.index_validation, blocks, self.scratch))
            starts = {name: span.start for name, span in self.spans}
            work = partial(passes.find_near_duplicates, scratch=self.scratch, threshold=near)
            found = self.engine.over("find near-duplicates", work, self._blocks())
            rows = [starts[row["block"]] + np.frombuffer(row["near"], dtype=np.int32) for row in found]
            near_duplicates = np.concatenate(rows)
            self.side[near_duplicates] = DROPPED
            self.dropped["near-duplicate of a validation document"] = len(near_duplicates)
        check_documents(self.side, self.settings.domains, self._lost())
        return decision

    def _embed(self, sample: np.ndarray) -> np.ndarray:
        """The sample's vectors, in the order of `fits.gather`."""
        items = self._blocks()
        picks = self._picks(sample)
        for item in items:
            item["sample"] = picks.get(item["block"], np.empty(0)).astype(np.int64).tobytes()
        address = (self.target / "router/embedder").address
        if self.settings.embedder == "tfidf":
            work = partial(passes.embed_with, scratch=self.scratch, address=address)
            results = list(self.engine.over("embed", work, items))
        else:
            threads, gpus = self.settings.sentence.threads, self.settings.sentence.gpus
            arguments = (self.scratch, address, gpus > 0, threads)
            results = list(self.engine.over_actors("embed", passes.EmbedActor, arguments, items, float(threads), gpus))
        dimensions = results[0]["dimensions"]
        vectors, order, content = (
            np.concatenate([np.frombuffer(row[name], dtype=kind) for row in results])
            for name, kind in (("vectors", np.float32), ("order", np.uint64), ("content", np.uint64))
        )
        return vectors.reshape(-1, dimensions)[np.lexsort((content, order))]

    def _tokenize(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Domain (-1 for none), tokens and partition of every row."""
        blocks = self._blocks()
        size = -(-len(blocks) // _PARTS)
        items: list[dict[str, Any]] = [
            {"part": part, "blocks": [b["block"] for b in some], "sides": [b["side"] for b in some]}
            for part, some in enumerate(blocks[at : at + size] for at in range(0, len(blocks), size))
        ]
        part_of = {block: item["part"] for item in items for block in item["blocks"]}
        placed = np.full(len(self.rows), -1, dtype=np.int64)
        tokens, part = np.zeros_like(placed), np.zeros_like(placed)
        spans = dict(self.spans)
        work = partial(passes.tokenize_part, scratch=self.scratch, target=self.target)
        for row in self.engine.over("place and tokenize", work, items):
            for block, domains, counts in zip(row["blocks"], row["domains"], row["tokens"], strict=True):
                placed[spans[block]] = np.frombuffer(domains, dtype=np.int16)
                tokens[spans[block]] = np.frombuffer(counts, dtype=np.int32)
                part[spans[block]] = part_of[block]
        lost = int(((self.side != DROPPED) & (placed < 0)).sum())
        if lost:
            self.dropped["no vector (no word known to the embedder, or not finite)"] = lost
        return placed, tokens, part

    def _shards(
        self, placed: np.ndarray, tokens: np.ndarray, part: np.ndarray, names: list[str]
    ) -> dict[str, dict[str, list[Any]]]:
        plans = plan_shards(self.rows["order"], tokens, placed, self.side, part, self.settings.shard_tokens)
        work = partial(passes.gather_shard, scratch=self.scratch, target=self.target, dtype=self.encoder.dtype)
        items = [{"plan": json.dumps(asdict(plan))} for plan in plans]
        shards: dict[str, dict[str, list[Any]]] = {name: {split: [] for split in SPLITS} for name in names}
        rows = self.engine.over("write shards", work, items)
        for row in sorted(rows, key=lambda row: (row["domain"], row["side"], row["index"])):
            shards[names[row["domain"]]][SPLITS[row["side"]]].append(json.loads(row["shard"]))
            self._register("", json.loads(row["files"]))
        return shards

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(local_copy((self.target / "tokenizer").address))

    # samples

    def _chosen(self, count: int, purpose: str) -> np.ndarray:
        return chosen(self.rows, self.side == TRAIN, count, self.seed, purpose)

    def _tokenizer_sample(self) -> dict[str, np.ndarray]:
        ranked = mixed(self.rows["order"], self.seed, "tokenizer")
        train = np.flatnonzero(self.side == TRAIN)
        train = train[np.argsort(ranked[train], kind="stable")]
        enough = np.searchsorted(np.cumsum(self.rows["bytes"][train]), self.settings.tokenizer.sample_megabytes * 1e6)
        return self._picks(np.sort(train[: int(enough) + 1]))

    def _picks(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return passes.picks_of(self.spans, rows)

    def _blocks(self) -> list[dict[str, Any]]:
        """An item for each block of which something is kept."""
        sides = ((name, self.side[span]) for name, span in self.spans)
        return [{"block": name, "side": side.tobytes()} for name, side in sides if (side != DROPPED).any()]

    # results

    def _start(self, folder: str, work: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
        """Start a fit whose files go to a folder of the artifact."""
        places = (self.scratch, self.target / folder)
        return folder, self.engine.task(work.__name__.replace("_", " "), work, places, *arguments)

    def _finish(self, started: tuple[str, Any]) -> Any:
        folder, reference = started
        files, result = self.engine.get(reference)
        self._register(f"{folder}/", files)
        return result

    def _register(self, prefix: str, files: dict[str, tuple[int, str]]) -> None:
        for name, (size, sha256) in files.items():
            self.attempt.register(prefix + name, size, sha256)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)
        _log.info(f"corpus: {name}: {self._progress(name)}{self.seconds[name]:.1f} s")

    def _lost(self) -> str:
        lost = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common(8) if count)
        return f"dropped: {lost}" if lost else "none dropped"

    def _progress(self, name: str) -> str:
        if name == "read":
            return f"{len(self.rows):,} documents, {self.rows['bytes'].sum() / 1e6:,.1f} MB of text ({self._lost()}), "
        if name == "split":
            counts = [int((self.side == side).sum()) for side in (TRAIN, VALIDATION)]
            return f"{counts[0]:,} training and {counts[1]:,} validation documents ({self._lost()}), "
        return ""

    def _describe(
        self, names: list[str], picture: pa.Table, shards: dict[str, Any], statistics: dict[str, Any]
    ) -> dict[str, Any]:
        """Write manifest, statistics and picture; returns what the marker tells."""
        tokenizer = local_copy((self.target / "tokenizer").address)
        manifest = {
            "schema": str(MANIFEST),
            "recipe": RECIPE,
            "seed": self.seed,
            "settings": self.settings.identity(),
            "domains": names,
            "shards": shards,
            "tokenizer": {"sha256": sha256_file(tokenizer / "tokenizer.json"), "vocabulary": self.encoder.vocabulary},
            "end_token": self.encoder.end,
            "dtype": self.encoder.dtype.name,
            "versions": {"splitray": __version__, "ray": ray.__version__, "python": platform.python_version()},
        }
        manifest["content_hash"] = content_hash(manifest)
        manifest["validation_hash"] = content_hash(manifest, ("validation",))
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder)
            for name, value in (("manifest", manifest), ("statistics", statistics)):
                (local / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
            pq.write_table(picture, local / "projection.parquet")
            self.attempt.add_tree(local)
        tokens = sum(domain["train"]["tokens"] for domain in statistics["domains"].values())
        _log.info(f"corpus: {tokens:,} training tokens in {len(names)} domains: {', '.join(names)}")
        return {"content_hash": manifest["content_hash"], "domains": names}
