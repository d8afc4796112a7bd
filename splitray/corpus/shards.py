"""Token shards: one domain's documents of one split in the order of their id hashes, each followed by the end token."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from splitray.corpus.holdout import SPLITS, VALIDATION
from splitray.storage.folder import Folder

_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "group": pa.string(),
    "order": pa.uint64(),
    "content": pa.uint64(),
    "bytes": pa.uint32(),
    "tokens": pa.large_binary(),
    "text": pa.string(),
}
PARTITION = pa.schema(_COLUMNS)


@dataclass(frozen=True)
class ShardPlan:
    """The documents whose id hash lies in `low`..`high` (both inside), found in the partitions `parts`."""

    domain: int
    side: int
    index: int
    low: int
    high: int
    parts: list[int]

    @property
    def name(self) -> str:
        return f"{self.domain:03d}-{SPLITS[self.side]}-{self.index:04d}"


def partition_name(part: int, domain: int, side: int) -> str:
    return f"partitions/{part:05d}/{domain:03d}-{SPLITS[side]}.parquet"


def plan_shards(
    order: np.ndarray, tokens: np.ndarray, domain: np.ndarray, side: np.ndarray, part: np.ndarray, limit: int
) -> list[ShardPlan]:
    """Cut each domain's documents of each split, sorted by id hash, into shards of at most `limit` tokens (one
    document at least). All arrays have shape (documents,); rows with a negative domain are left out."""
    plans = []
    for k in range(int(domain.max(initial=-1)) + 1):
        for s in range(len(SPLITS)):
            rows = np.flatnonzero((domain == k) & (side == s))
            rows = rows[np.argsort(order[rows], kind="stable")]
            start = index = 0
            while start < len(rows):
                filled = np.cumsum(tokens[rows[start:]])
                end = start + max(1, int(np.searchsorted(filled, limit, side="right")))
                while end < len(rows) and order[rows[end]] == order[rows[end - 1]]:  # equal ids stay together
                    end += 1
                ids = order[rows[start:end]]
                parts = np.unique(part[rows[start:end]]).tolist()
                plans.append(ShardPlan(k, s, index, int(ids[0]), int(ids[-1]), parts))
                start, index = end, index + 1
    return plans


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="lz4")
    folder.write(name, sink.getvalue())


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(pa.BufferReader(folder.read(name)), columns=columns)


def write_shard(scratch: Folder, plan: ShardPlan, dtype: np.dtype, target: Path) -> dict[str, Any]:
    """Gather one shard from the partitions and write its tokens (.npy) and documents (.parquet) below `target`.

    Returns its counts. Ties of the id hash are broken by the hash of the text, so the order is total. The text of
    training documents is not read, and the tokens are copied once: with both, and with all parts held at a time, a
    task took 1.2 GiB for a domain of 22M tokens.
    """
    names = [name for name in PARTITION.names if name != "text" or plan.side == VALIDATION]
    inside = []
    for part in plan.parts:
        table = read_table(scratch, partition_name(part, plan.domain, plan.side), names)
        order = table["order"].to_numpy()
        inside.append(table.filter(pa.array((order >= plan.low) & (order <= plan.high))))
    table = pa.concat_tables(inside)
    del inside
    rows = pc.sort_indices(table, sort_keys=[("order", "ascending"), ("content", "ascending")])
    tokens = table["tokens"]
    arrays = [np.frombuffer(tokens[row].as_buffer(), dtype=dtype) for row in rows.to_pylist()]
    table = table.drop_columns("tokens").take(rows)
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    stream = np.concatenate(arrays)
    columns = {
        "id": table["id"],
        "group": table["group"],
        "start": pa.array(np.cumsum(lengths) - lengths),
        "tokens": pa.array(lengths),
        "bytes": pc.cast(table["bytes"], pa.int64()),
    }
    if plan.side == VALIDATION:
        columns["text"] = table["text"]
    (target / "shards").mkdir(parents=True, exist_ok=True)
    (target / "documents").mkdir(exist_ok=True)
    np.save(target / f"shards/{plan.name}.npy", stream, allow_pickle=False)
    pq.write_table(pa.table(columns), target / f"documents/{plan.name}.parquet", compression="zstd")
    return {
        "tokens": int(lengths.sum()),
        "documents": len(lengths),
        "bytes": int(pc.sum(columns["bytes"]).as_py() or 0),
    }
