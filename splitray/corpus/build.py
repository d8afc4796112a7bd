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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from splitray import __version__
from splitray.corpus import fits, passes
from splitray.corpus.checks import check_documents, check_domains, check_tokenizer, count_domains, oversized_groups
from splitray.corpus.corpus import MANIFEST, Corpus, content_hash
from splitray.corpus.documents import Documents, Placed
from splitray.corpus.embedders import find_embedder
from splitray.corpus.given import Given, check_labelled
from splitray.corpus.holdout import DROPPED, SPLITS, TRAIN, VALIDATION, Decision, decide
from splitray.corpus.ray_tasks import Engine, own_context
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.shards import plan_shards
from splitray.corpus.sources import SourceFile, list_sources
from splitray.corpus.tokenizer import CharacterLoss, Encoder
from splitray.corpus.units import plan_units
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.storage.keys import CorpusKey
from splitray.storage.local import local_copy
from splitray.storage.probe import check_seen
from splitray.storage.store import Attempt, Store

_log = logging.getLogger(__name__)

# Bump when the same input and settings would give another corpus; 3: 64-bit shingles, formats by content.
# Not bumped for better names of domains: a corpus that exists keeps its names, and nothing is trained again.
RECIPE = 3
_PARTS = 64  # partitions of each domain and split: bounds the small files, keeps 64 tasks busy


def corpus_key(settings: CorpusSettings, seed: int, files: list[SourceFile]) -> str:
    """The name of the corpus in the store: identity settings, seed, recipe, and name, size and time of every file.

    Where sources are named as domains, every file has its domain too.
    """
    listed = ("sources", "source_domains")
    identity = {name: value for name, value in settings.identity().items() if name not in listed}
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


def _only(side: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The sides of some rows, all others as if they were dropped."""
    kept = np.full_like(side, DROPPED)
    kept[rows] = side[rows]
    return kept


class _Build:
    """One build. Each pass takes what earlier ones returned; only counts and seconds gather here."""

    def __init__(self, settings: CorpusSettings, seed: int, attempt: Attempt) -> None:
        self.settings, self.seed, self.attempt = settings, seed, attempt
        self.target = attempt.folder
        self.scratch = attempt.folder / "scratch"
        self.engine = Engine(settings)
        self.embedder, self.embedder_settings = find_embedder(settings.embedder), settings.embedder_settings
        self.dropped: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    def run(self, files: list[SourceFile], passed: Counter[str]) -> dict[str, Any]:
        """Fill the attempt's folder; returns what its marker tells."""
        settings = self.settings
        with self._timed("read") as counts:
            documents, given = self._read(files, passed)
            counts.append(f"{len(documents):,} documents, {documents.bytes / 1e6:,.1f} MB of text ({self._lost()})")
        with self._timed("split") as counts:
            decision, side = self._split(documents)
            if given is not None:
                given.check(side, self._lost())
            train, held_out = (int((side == which).sum()) for which in (TRAIN, VALIDATION))
            counts.append(f"{train:,} training and {held_out:,} validation documents ({self._lost()})")
        # The tokenizer needs no domains: it is fitted beside the embedder and the embedding pass.
        enough = documents.tokenizer_sample(side, settings.tokenizer.sample_megabytes, self.seed)
        tokenizer = self._start("tokenizer", fits.fit_tokens, documents.picks(enough), settings)
        sample = (given or documents).sample(side, settings.cluster.sample, self.seed)
        picks = documents.picks(sample)
        with self._timed("fit embedder"):
            arguments = (picks, self.embedder, self.embedder_settings, self.seed)
            self._finish(self._start("router/embedder", fits.fit_embedder, *arguments))
        with self._timed("embed"):
            # given domains need no vector of every document, only where each of them lies
            embedded = side if given is None else _only(side, sample)
            vectors = self._embed(documents.blocks(embedded), picks)
        with self._timed("find domains" if given is None else "place domains"):
            if given is None:
                gpus = settings.cluster.gpus
                started = self._start("router", fits.fit_domains, vectors, picks, settings, self.seed, gpus=gpus)
            else:
                placed_by_id = given.index[documents.by_id(sample)]
                started = self._start("router", fits.fit_given, vectors, picks, settings, given.names, placed_by_id)
            domains, picture = self._finish(started)
        with self._timed("wait for the tokenizer"):
            self._finish(tokenizer)
        with self._timed("tokenize"):
            placed, losses = self._tokenize(documents, side, given)
        check_domains(domains["names"], side, placed.domain)
        check_tokenizer(domains["names"], losses, settings.tokenizer)
        encoder = Encoder(local_copy((self.target / "tokenizer").address))
        with self._timed("write shards"):
            shards = self._shards(documents, side, placed, domains["names"], encoder)
        counted = count_domains(domains, documents, side, placed, losses)
        statistics = {
            "documents": len(documents),
            "bytes": documents.bytes,
            "domains": counted,
            "dropped": {reason: count for reason, count in sorted(self.dropped.items()) if count},
            "groups_split_by_row": oversized_groups(decision, self.scratch, documents),
            "seconds": self.seconds,
        }
        manifest = self._manifest(domains["names"], shards, encoder)
        self._write(manifest, statistics, picture)
        tokens = sum(domain["train"]["tokens"] for domain in counted.values())
        names = domains["names"]
        _log.info(f"corpus: {tokens:,} training tokens in {len(names)} domains: {', '.join(names)}")
        return {"content_hash": manifest["content_hash"], "domains": names}

    # the passes

    def _read(self, files: list[SourceFile], passed: Counter[str]) -> tuple[Documents, Given | None]:
        """Every clean document, and their domains where these are given."""
        units = plan_units(files, self.settings, passed)
        items = [{"unit": number, "files": json.dumps(unit)} for number, unit in enumerate(units)]
        work = partial(passes.read_unit, scratch=self.scratch, settings=self.settings)
        results = sorted(self.engine.over("read and clean", work, items), key=lambda row: row["unit"])
        self.dropped.update(passed)
        for result in results:
            self.dropped.update(json.loads(result["tally"]))
        documents = Documents.of([pair for r in results for pair in zip(r["blocks"], r["rows"], strict=True)])
        if not self.settings.given:
            return documents, None
        check_labelled([piece for r in results for piece in json.loads(r["labelled"])], self.settings)
        labels = {int(key): label for r in results for key, label in json.loads(r["labels"]).items()}
        hashes = b"".join(block for r in results for block in r["domains"])
        return documents, Given.of(
            labels, np.frombuffer(hashes, dtype=np.uint64), documents, self.settings, self._lost()
        )

    def _split(self, documents: Documents) -> tuple[Decision, np.ndarray]:
        """What was decided from the rows, and the side of each document once near-duplicates are gone too."""
        decision = decide(documents.rows, self.settings, self.seed)
        side = decision.side.copy()
        self.dropped += decision.dropped
        near = self.settings.near_duplicate
        if near is not None and (side == VALIDATION).any():
            blocks = {name: side[span] for name, span in documents.spans}
            self.engine.get(self.engine.task("index validation", passes.index_validation, blocks, self.scratch))
            starts = {name: span.start for name, span in documents.spans}
            work = partial(passes.find_near_duplicates, scratch=self.scratch, threshold=near)
            found = self.engine.over("find near-duplicates", work, documents.blocks(side))
            rows = [starts[row["block"]] + np.frombuffer(row["near"], dtype=np.int32) for row in found]
            near_duplicates = np.concatenate(rows)
            side[near_duplicates] = DROPPED
            self.dropped["near-duplicate of a validation document"] = len(near_duplicates)
        check_documents(side, self.settings.domains, self._lost())
        return decision, side

    def _embed(self, items: list[dict[str, Any]], picks: dict[str, np.ndarray]) -> np.ndarray:
        """The sample's vectors, in the order of `fits.gather`."""
        for item in items:
            item["sample"] = picks.get(item["block"], np.empty(0)).astype(np.int64).tobytes()
        # The class travels with the work: a worker need not know where it was registered.
        kind, address = self.embedder, (self.target / "router/embedder").address
        pool = kind.pool(self.embedder_settings)
        if pool is None:
            work = partial(passes.embed_with, scratch=self.scratch, kind=kind, address=address)
            results = list(self.engine.over("embed", work, items))
        else:
            arguments = (self.scratch, kind, address, pool.gpus > 0, pool.cpus)
            actors = self.engine.over_actors("embed", passes.EmbedActor, arguments, items, float(pool.cpus), pool.gpus)
            results = list(actors)
        dimensions = results[0]["dimensions"]
        vectors, order, content = (
            np.concatenate([np.frombuffer(row[name], dtype=kind) for row in results])
            for name, kind in (("vectors", np.float32), ("order", np.uint64), ("content", np.uint64))
        )
        return vectors.reshape(-1, dimensions)[np.lexsort((content, order))]

    def _tokenize(
        self, documents: Documents, side: np.ndarray, given: Given | None
    ) -> tuple[Placed, dict[int, CharacterLoss]]:
        """Where each document went, and what the tokenizer lost of a sample of each domain."""
        blocks, spans = documents.blocks(side), dict(documents.spans)
        for block in blocks:
            block["domain"] = b"" if given is None else given.index[spans[block["block"]]].tobytes()
        size = -(-len(blocks) // _PARTS)
        items: list[dict[str, Any]] = [
            {"part": part, **{f"{name}s": [b[name] for b in some] for name in ("block", "side", "domain")}}
            for part, some in enumerate(blocks[at : at + size] for at in range(0, len(blocks), size))
        ]
        part_of = {block: item["part"] for item in items for block in item["blocks"]}
        domain = np.full(len(documents), -1, dtype=np.int64)
        placed = Placed(domain, np.zeros_like(domain), np.zeros_like(domain))
        losses = dict[int, CharacterLoss]()
        work = partial(passes.tokenize_part, scratch=self.scratch, target=self.target)
        for row in self.engine.over("place and tokenize", work, items):
            for block, domains, counts in zip(row["blocks"], row["domains"], row["tokens"], strict=True):
                placed.domain[spans[block]] = np.frombuffer(domains, dtype=np.int16)
                placed.tokens[spans[block]] = np.frombuffer(counts, dtype=np.int32)
                placed.part[spans[block]] = part_of[block]
            for k, (characters, lost) in json.loads(row["lost"]).items():
                losses.setdefault(int(k), CharacterLoss()).merge(characters, lost)
        unplaced = int(((side != DROPPED) & (placed.domain < 0)).sum())
        if unplaced:
            self.dropped["no vector (no word known to the embedder, or not finite)"] = unplaced
        return placed, losses

    def _shards(
        self, documents: Documents, side: np.ndarray, placed: Placed, names: list[str], encoder: Encoder
    ) -> dict[str, dict[str, list[Any]]]:
        limit = self.settings.shard_tokens
        plans = plan_shards(documents.rows["order"], placed.tokens, placed.domain, side, placed.part, limit)
        work = partial(passes.gather_shard, scratch=self.scratch, target=self.target, dtype=encoder.dtype)
        items = [{"plan": json.dumps(asdict(plan))} for plan in plans]
        shards: dict[str, dict[str, list[Any]]] = {name: {split: [] for split in SPLITS} for name in names}
        rows = self.engine.over("write shards", work, items)
        for row in sorted(rows, key=lambda row: (row["domain"], row["side"], row["index"])):
            shards[names[row["domain"]]][SPLITS[row["side"]]].append(json.loads(row["shard"]))
            self._register("", json.loads(row["files"]))
        return shards

    # the fits

    def _start(self, folder: str, work: Callable[..., Any], *arguments: Any, gpus: float = 0.0) -> tuple[str, Any]:
        """Start a fit whose files go to a folder of the artifact."""
        places = fits.Places(self.scratch, self.target / folder)
        return folder, self.engine.task(work.__name__.replace("_", " "), work, places, *arguments, gpus=gpus)

    def _finish(self, started: tuple[str, Any]) -> Any:
        folder, reference = started
        files, result = self.engine.get(reference)
        self._register(f"{folder}/", files)
        return result

    def _register(self, prefix: str, files: dict[str, tuple[int, str]]) -> None:
        for name, (size, sha256) in files.items():
            self.attempt.register(prefix + name, size, sha256)

    # results

    @contextmanager
    def _timed(self, name: str) -> Iterator[list[str]]:
        """Time a pass and log it, with what the block adds to the list."""
        start, counts = time.monotonic(), list[str]()
        yield counts
        self.seconds[name] = round(time.monotonic() - start, 2)
        _log.info(f"corpus: {name}: {', '.join([*counts, f'{self.seconds[name]:.1f} s'])}")

    def _lost(self) -> str:
        lost = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common(8) if count)
        return f"dropped: {lost}" if lost else "none dropped"

    def _manifest(self, names: list[str], shards: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
        tokenizer = local_copy((self.target / "tokenizer").address)
        manifest = {
            "schema": str(MANIFEST),
            "recipe": RECIPE,
            "seed": self.seed,
            "settings": self.settings.identity(),
            "domains": names,
            "shards": shards,
            "tokenizer": {"sha256": sha256_file(tokenizer / "tokenizer.json"), "vocabulary": encoder.vocabulary},
            "end_token": encoder.end,
            "dtype": encoder.dtype.name,
            "versions": {"splitray": __version__, "ray": ray.__version__, "python": platform.python_version()},
        }
        manifest["content_hash"] = content_hash(manifest)
        manifest["validation_hash"] = content_hash(manifest, ("validation",))
        return manifest

    def _write(self, manifest: dict[str, Any], statistics: dict[str, Any], picture: pa.Table) -> None:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder)
            for name, value in (("manifest", manifest), ("statistics", statistics)):
                (local / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
            pq.write_table(picture, local / "projection.parquet")
            self.attempt.add_tree(local)
