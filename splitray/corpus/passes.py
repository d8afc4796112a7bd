"""The work of each pass over one block, on a scratch folder: plain functions, which `ray_tasks` runs.

clean/<block>.parquet       id, group, order, content, text of the clean documents
shingles/<block>.parquet    their sampled shingles
vectors/<block>.npy         float32, one row for each document that is kept
partitions/<part>/...       tokens by domain and split
"""

import io
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from splitray.corpus.clean import Document, clean_documents, hash64
from splitray.corpus.duplicates import ValidationIndex, shingles
from splitray.corpus.embedders import Embedder
from splitray.corpus.given import MOST
from splitray.corpus.holdout import DROPPED, ROW, VALIDATION, narrow
from splitray.corpus.read import read_file
from splitray.corpus.records import Raw, no_domain
from splitray.corpus.router import Placement
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.shards import PARTITION, ShardPlan, partition_name, read_table, write_shard, write_table
from splitray.corpus.sources import SourceFile
from splitray.corpus.tokenizer import CharacterLoss, Encoder
from splitray.errors import UserError
from splitray.storage.checksum import sha256_file
from splitray.storage.folder import Folder
from splitray.storage.local import local_copy

_CHECKED = 8  # one document in so many, by hash of its id, is compared with what its tokens give back
_BLOCK_BYTES = 64 << 20  # text of one block at most: what a task holds in memory

Files = dict[str, tuple[int, str]]  # name -> bytes, SHA-256


def upload(source: Path, target: Folder) -> Files:
    """Copy every file below a local folder to `target`; returns what `Attempt.register` wants."""
    done: Files = {}
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source).as_posix()
        target.put(path, name)
        done[name] = (path.stat().st_size, sha256_file(path))
    return done


def read_unit(item: dict[str, Any], scratch: Folder, settings: CorpusSettings) -> dict[str, Any]:
    """Read and clean one unit of files into blocks. Returns the blocks' names, their narrow rows and what was
    skipped."""
    tally: Counter[str] = Counter()
    files = [SourceFile(**plain) for plain in json.loads(item["files"])]
    labelled: list[tuple[str, bool]] = []
    raw = (document for file in files for document in _read(file, settings, tally, labelled))
    documents = clean_documents(raw, settings.min_characters, settings.max_characters, tally)
    names, rows, domains, labels = [], [], [], dict[int, str]()
    for number, block in enumerate(_blocks(documents)):
        name = f"{item['unit']:06d}-{number:04d}"
        texts = [d.text for d in block]
        columns: dict[str, pa.Array] = {
            "id": pa.array([d.id for d in block]),
            "group": pa.array([d.group for d in block]),
            "order": pa.array([d.order for d in block], pa.uint64()),
            "content": pa.array([d.content[0] for d in block], pa.uint64()),
            "text": pa.array(texts),
        }
        write_table(scratch, f"clean/{name}.parquet", pa.table(columns))
        if settings.near_duplicate is not None:
            sets = pa.array(map(shingles, texts), pa.list_(pa.uint64()))
            write_table(scratch, f"shingles/{name}.parquet", pa.table({"shingles": sets}))
        names.append(name)
        rows.append(np.array([narrow(d) for d in block], dtype=ROW).tobytes())
        labels |= {hash64(label): label for label in {d.domain for d in block if d.domain is not None}}
        hashes = [0 if d.domain is None else hash64(d.domain) for d in block]
        domains.append(np.array(hashes, dtype=np.uint64).tobytes())
        if len(labels) > MOST:
            raise UserError(
                f"corpus.domain_column: {settings.domain_column!r} has more than {MOST} values, such as "
                f"{next(iter(labels.values()))!r}: name a column of domains"
            )
    told = {"labels": labels, "labelled": labelled, "tally": tally}
    read = {"blocks": names, "rows": rows, "domains": domains}
    return {"unit": item["unit"], **read, **{name: json.dumps(value) for name, value in told.items()}}


def _read(
    file: SourceFile, settings: CorpusSettings, tally: Counter[str], labelled: list[tuple[str, bool]]
) -> Iterator[Raw]:
    """The documents of one file, or of those row groups of it that belong to a unit.

    labelled: takes the file's name and whether a row of this piece says its domain; not where rows need not.
    """
    reason, count = no_domain(settings), 0
    before = tally[reason]
    for document in read_file(file, settings, tally):
        count += 1
        yield document
    if settings.domain_column is not None and (count or tally[reason] > before):
        labelled.append((file.name, count > 0))


def _blocks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    block: list[Document] = []
    size = 0
    for document in documents:
        block.append(document)
        size += 4 * len(document.text)  # the most that UTF-8 needs
        if size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def index_validation(blocks: dict[str, np.ndarray], scratch: Folder) -> None:
    """Index the shingles of the validation documents. `blocks`: side of each document by block."""
    sets: list[np.ndarray] = []
    for name, side in blocks.items():
        if (side == VALIDATION).any():
            sets += _shingles(scratch, name, np.flatnonzero(side == VALIDATION))
    index = ValidationIndex.build(sets)
    for field in ("keys", "starts", "documents", "sizes"):
        _write_array(scratch, f"index/{field}.npy", getattr(index, field))


@lru_cache(maxsize=2)
def _index(address: str) -> ValidationIndex:
    folder = local_copy(address)
    names = ("keys", "starts", "documents", "sizes")
    return ValidationIndex(*(np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in names))


def find_near_duplicates(item: dict[str, Any], scratch: Folder, threshold: float) -> dict[str, Any]:
    """Which of a block's training documents are near-duplicates of validation documents, as row numbers."""
    rows = np.flatnonzero(np.frombuffer(item["side"], dtype=np.int8) == 0)
    index = _index((scratch / "index").address)
    near = index.near_duplicates(_shingles(scratch, item["block"], rows), threshold)
    return {"block": item["block"], "near": rows[near].astype(np.int32).tobytes()}


def _shingles(scratch: Folder, block: str, rows: np.ndarray) -> list[np.ndarray]:
    column: Any = read_table(scratch, f"shingles/{block}.parquet")["shingles"].combine_chunks()
    values, starts = column.values.to_numpy(), column.offsets.to_numpy()
    # copies: a view of one document would keep the shingles of its whole block, and an index holds documents of all
    return [values[starts[row] : starts[row + 1]].copy() for row in rows]


def _strings(column: pa.ChunkedArray) -> list[str]:
    return [str(cell) for cell in column.to_pylist()]


def group_names(scratch: Folder, picks: dict[str, np.ndarray]) -> list[str]:
    """The groups of some rows, in the order of the blocks and rows."""
    names: list[str] = []
    for block, rows in picks.items():
        names += read_table(scratch, f"clean/{block}.parquet", ["group"])["group"].to_numpy()[rows].tolist()
    return names


@lru_cache(maxsize=1)
def _embedder(kind: type[Embedder], address: str) -> Embedder:
    return kind.load(local_copy(address))


def embed_with(item: dict[str, Any], scratch: Folder, kind: type[Embedder], address: str) -> dict[str, Any]:
    """`embed_block` with the embedder that lies at `address`, loaded once a process."""
    return embed_block(item, scratch, _embedder(kind, address))


class EmbedActor:
    """`embed_block` in an actor that keeps its model."""

    def __init__(self, scratch: Folder, kind: type[Embedder], address: str, gpu: bool, threads: int) -> None:
        self.scratch, self.embedder = scratch, kind.load(local_copy(address), gpu, threads)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return embed_block(item, self.scratch, self.embedder)


def embed_block(item: dict[str, Any], scratch: Folder, embedder: Embedder) -> dict[str, Any]:
    """Embed a block's kept documents; returns the vectors of those in the sample."""
    kept = np.flatnonzero(np.frombuffer(item["side"], dtype=np.int8) != DROPPED)
    table = read_table(scratch, f"clean/{item['block']}.parquet", ["order", "content", "text"]).take(kept)
    vectors = embedder.embed(_strings(table["text"]))
    _write_array(scratch, f"vectors/{item['block']}.npy", vectors)
    sample = np.searchsorted(kept, np.frombuffer(item["sample"], dtype=np.int64))
    return {
        "dimensions": vectors.shape[1],
        "vectors": vectors[sample].tobytes(),
        "order": table["order"].to_numpy()[sample].tobytes(),
        "content": table["content"].to_numpy()[sample].tobytes(),
    }


@lru_cache(maxsize=1)
def _encoder(address: str) -> Encoder:
    return Encoder(local_copy(address))


def tokenize_part(item: dict[str, Any], scratch: Folder, target: Folder) -> dict[str, Any]:
    """Place and tokenize some blocks and write them by domain and split. Where domains are given, the item has them.

    Returns for each block the domain of every row (int16, -1 where dropped or without a vector) and its tokens; and
    what the tokenizer lost of a sample of the documents, by domain.
    """
    placement = Placement.load(local_copy((target / "router").address))
    encoder = _encoder((target / "tokenizer").address)
    parts: dict[tuple[int, int], list[pa.Table]] = {}
    domains, tokens, losses = [], [], defaultdict[int, CharacterLoss](CharacterLoss)
    for block, sides, given in zip(item["blocks"], item["sides"], item["domains"], strict=True):
        side = np.frombuffer(sides, dtype=np.int8)
        kept = np.flatnonzero(side != DROPPED)
        if given:
            placed = np.frombuffer(given, dtype=np.int16)[kept].astype(np.int64)
        else:
            vectors = np.load(io.BytesIO(scratch.read(f"vectors/{block}.npy")), allow_pickle=False)
            placed = np.where(vectors.any(axis=1), placement.place(vectors), -1)
        kept, placed = kept[placed >= 0], placed[placed >= 0]
        table = read_table(scratch, f"clean/{block}.parquet").take(kept)
        texts = _strings(table["text"])
        encoded = encoder.encode(texts)
        checked = np.flatnonzero(table["order"].to_numpy() % _CHECKED == 0).tolist()
        for row, decoded in zip(checked, encoder.decode([encoded[row] for row in checked]), strict=True):
            losses[int(placed[row])].add(texts[row], decoded)
        table = table.append_column("bytes", pa.array([len(t.encode()) for t in texts], pa.uint32()))
        table = table.append_column("tokens", pa.array([t.tobytes() for t in encoded], pa.large_binary()))
        for domain, where in sorted(set(zip(placed.tolist(), side[kept].tolist(), strict=True))):
            rows = np.flatnonzero((placed == domain) & (side[kept] == where))
            part = table.take(rows).select(PARTITION.names).cast(PARTITION)
            parts.setdefault((domain, where), []).append(part)
        all_domains, all_tokens = np.full(len(side), -1, np.int16), np.zeros(len(side), np.int32)
        all_domains[kept], all_tokens[kept] = placed, [len(t) for t in encoded]
        domains.append(all_domains.tobytes())
        tokens.append(all_tokens.tobytes())
    for (domain, where), tables in parts.items():
        write_table(scratch, partition_name(item["part"], domain, where), pa.concat_tables(tables))
    lost = {k: [loss.characters, loss.lost] for k, loss in losses.items()}
    return {"blocks": item["blocks"], "domains": domains, "tokens": tokens, "lost": json.dumps(lost)}


def gather_shard(item: dict[str, Any], scratch: Folder, target: Folder, dtype: np.dtype) -> dict[str, Any]:
    """Write one shard and its documents; returns its counts and files as JSON."""
    plan = ShardPlan(**json.loads(item["plan"]))
    with tempfile.TemporaryDirectory() as local:
        counts = write_shard(scratch, plan, dtype, Path(local))
        files = upload(Path(local), target)
    shard = f"shards/{plan.name}.npy"
    return {
        "domain": plan.domain,
        "side": plan.side,
        "index": plan.index,
        "shard": json.dumps({"file": shard, **counts, "sha256": files[shard][1]}),
        "files": json.dumps(files),
    }


def _write_array(folder: Folder, name: str, array: np.ndarray) -> None:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    folder.write(name, sink.getvalue())
