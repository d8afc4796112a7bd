"""A folder of a corpus in which one topic has a given share of the documents.

    python -m benchmarks.study_corpus --data DATA --topic biomed --share 0.05 --out runs/medicine-corpus

The tables of the topic keep the documents with the smallest hash of their ids, so the same are kept every time. Other
tables are linked as they are. `configs/medicine-small.yaml` reads such a folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.clean import hash64


def thin(data: Path, topic: Sequence[str], share: float, out: Path) -> dict[str, int]:
    """Write the folder; returns the documents of each table of the topic.

    Args:
        topic: names of the topic's tables, without the ending.
        share: of the topic in all documents that are kept, below what it has now.
    """
    paths = {path.stem: path for path in sorted(data.glob("*.parquet"))}
    rows = {name: pq.read_metadata(path).num_rows for name, path in paths.items()}
    mine, other = sum(rows[name] for name in topic), sum(n for name, n in rows.items() if name not in topic)
    wanted = share * other / (1 - share) / mine  # of the topic's documents
    if wanted > 1:
        raise SystemExit(f"{', '.join(topic)} has {mine / (mine + other):.3f} of the documents, less than {share}")
    out.mkdir(parents=True, exist_ok=True)
    kept = {}
    for name, path in paths.items():
        target = out / path.name
        target.unlink(missing_ok=True)
        if name in topic:
            table = pq.read_table(path)
            ranks = np.array([hash64(f"{name}/{key}") for key in table["doc_id"].to_pylist()], np.uint64)
            kept[name] = round(wanted * rows[name])
            first = np.sort(np.argsort(ranks, kind="stable")[: kept[name]])
            pq.write_table(table.take(pa.array(first)), target)
        else:
            target.symlink_to(path.resolve())
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--topic", nargs="+", required=True, help="names of the topic's tables")
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for name, count in thin(given.data, given.topic, given.share, given.out).items():
        print(f"{name}: {count} documents")


if __name__ == "__main__":
    main()
