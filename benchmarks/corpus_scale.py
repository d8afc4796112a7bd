"""Memory and time of the corpus stage on many documents.

    python benchmarks/corpus_scale.py [--documents 1000000] [--workers 2]

Writes synthetic documents (eight topics, Zipf words, 5 % repeats) to Parquet, builds the corpus, and samples the
resident memory of the driver and of every Ray worker once a second. Result: benchmarks/results/corpus_scale/.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from clusters import HERE, machine

from splitray.corpus import CorpusSettings, build
from splitray.store import Store

TOPICS, VOCABULARY, WORDS, FILES = 8, 20_000, 60, 10


def write_documents(folder: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(draw.choice(letters, draw.integers(3, 11))) for _ in range(VOCABULARY)])
    own = [draw.permutation(VOCABULARY) for _ in range(TOPICS)]
    for file in range(FILES):
        texts = []
        for _ in range(count // FILES):
            if texts and draw.random() < 0.05:
                texts.append(texts[draw.integers(len(texts))])
                continue
            ranks = np.minimum((draw.pareto(1.1, WORDS) * 4).astype(int), VOCABULARY - 1)
            texts.append(" ".join(words[own[draw.integers(TOPICS)][ranks]]))
        groups = [f"book-{file}-{n // 50}" for n in range(len(texts))]
        table = pa.table({"text": texts, "book": groups})
        pq.write_table(table, folder / f"part-{file}.parquet", row_group_size=10_000, compression="zstd")


class Watch(threading.Thread):
    """Peak resident bytes of this process and of single Ray workers, less what they share (the object store)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver, self.worker, self.workers, self.over = 0, 0, 0, threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.over.wait(1.0):
            sizes = []
            for child in me.children(recursive=True):
                try:
                    if child.name().startswith("ray::"):
                        info = child.memory_info()
                        sizes.append(info.rss - info.shared)
                except psutil.NoSuchProcess:
                    continue
            info = me.memory_info()
            self.driver = max(self.driver, info.rss - info.shared)
            self.worker = max([self.worker, *sizes])
            self.workers = max(self.workers, sum(sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        write_documents(data, arguments.documents)
        described = machine()
        ray.init(address="local", num_cpus=arguments.workers, include_dashboard=False, log_to_driver=False)
        settings = CorpusSettings(
            sources=[str(data)], domains=TOPICS, group_column="book", tokenizer={"sample_megabytes": 8}
        )
        watch = Watch()
        watch.start()
        start = time.monotonic()
        corpus = build(settings, 1, Store(Path(folder, "store")), lambda message: print(message, flush=True))
        seconds = time.monotonic() - start
        watch.over.set()
        statistics = corpus.statistics
        result = {
            "documents": statistics["documents"],
            "text_megabytes": round(statistics["bytes"] / 1e6, 1),
            "seconds": round(seconds, 1),
            "seconds_by_pass": statistics["seconds"],
            "dropped": statistics["dropped"],
            "peak_megabytes": {
                "driver": watch.driver // 2**20,
                "largest_worker": watch.worker // 2**20,
                "all_workers": watch.workers // 2**20,
            },
            "workers": arguments.workers,
            "machine": described,
        }
    target = HERE / "results/corpus_scale"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{arguments.documents}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
