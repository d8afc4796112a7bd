"""The corpus stage at 10 thousand, 100 thousand and a million documents: seconds a document, memory, and its k-means.

    python -m benchmarks.corpus_scale [--documents 10000 100000 1000000] [--workers 2] [--data ../shared/data/corpus]

The documents are those of the data folder, again and again, each copy under an id of its own and with its sentences in
another order. Memory is the sum of the proportional set sizes (PSS) of this process and all Ray processes below it, so
that what they share is counted once; its peak is sampled every two seconds, and their processor seconds with it, which
other work on the machine disturbs less than the clock. Beside it, in one process: assignment of
10 million generated vectors, in chunks, against plain faiss, and the inertia of k-means on the stage's sample against
faiss on all points. Result: benchmarks/results/corpus_scale/scale.json, added to by size.
"""

import argparse
import json
import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from benchmarks.clusters import HERE
from benchmarks.machine import describe
from splitray.corpus import CorpusSettings, build_corpus
from splitray.corpus.kmeans import fit_centroids, nearest
from splitray.corpus.settings import ClusterSettings
from splitray.pipeline.logs import logged_to
from splitray.storage.store import Store

DOMAINS, ROWS = 16, 20_000
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")


def documents(data: Path, count: int) -> Iterator[dict[str, str]]:
    """The data folder's documents in a random order, then copies of them with shuffled sentences."""
    rows = [row for path in sorted(data.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    draw = random.Random(0)
    draw.shuffle(rows)
    for number in range(count):
        row, copy = rows[number % len(rows)], number // len(rows)
        text = row["text"]
        if copy:
            sentences = _SENTENCE.split(text)
            draw.shuffle(sentences)
            text = " ".join(sentences)
        yield {"text": text, "source": f"{row['source']}/{copy}"}


def write_documents(data: Path, folder: Path, count: int) -> int:
    """Write them as Parquet, `ROWS` a file; the bytes of their text."""
    rows, size, files = [], 0, 0
    for row in documents(data, count):
        rows.append(row)
        size += len(row["text"].encode())
        if len(rows) == ROWS:
            pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{files:04}.parquet", row_group_size=2000)
            rows, files = [], files + 1
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{files:04}.parquet", row_group_size=2000)
    return size


class Watch(threading.Thread):
    """Peaks by pass of the summed PSS of this process and all below it, bytes, and the processor seconds they used."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks, self.over = dict[str, int](), threading.Event()
        self._used: dict[int, float] = {}
        self._since = 0

    def said(self, text: str) -> None:
        """The build reports at the end of a pass, or within it: what was seen since its last line is that pass's."""
        print(text, flush=True)
        name = text.removeprefix("corpus: ").split(":")[0]
        self.peaks[name] = max(self.peaks.get(name, 0), self._since)
        self._since = 0

    @property
    def processor_seconds(self) -> float:
        return sum(self._used.values())

    def run(self) -> None:
        me = psutil.Process()
        while not self.over.wait(2.0):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                    times = process.cpu_times()
                    self._used[process.pid] = times.user + times.system
                except psutil.Error:
                    continue
            self._since = max(self._since, total)


def stage(data: Path, count: int, workers: int) -> dict[str, Any]:
    """One build of a corpus of `count` documents in a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="splitray-scale-") as folder:
        source = Path(folder, "data")
        source.mkdir()
        size = write_documents(data, source, count)
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        settings = CorpusSettings(sources=[str(source)], domains=DOMAINS, group_column="source")
        watch, begun = Watch(), time.monotonic()
        watch.start()
        with logged_to(watch.said):
            corpus = build_corpus(settings, 1, Store(Path(folder, "store")))
        seconds = time.monotonic() - begun
        watch.over.set()
        watch.join()
        ray.shutdown()
        return {
            "documents": count,
            "text_megabytes": round(size / 1e6, 1),
            "seconds": round(seconds, 1),
            "processor_seconds": round(watch.processor_seconds, 1),
            "documents_per_second": round(count / seconds, 1),
            "peak_pss_megabytes": max(watch.peaks.values()) // 2**20,
            "peak_pss_megabytes_by_pass": {name: peak // 2**20 for name, peak in watch.peaks.items()},
            "seconds_by_pass": corpus.statistics["seconds"],
            "dropped": corpus.statistics["dropped"],
            "workers": workers,
        }


def assignment(vectors: int, dimensions: int = 64, chunk: int = 1 << 17) -> dict[str, float]:
    """Vectors a second, ours and plain faiss's, over generated chunks; paired chunk by chunk, one thread."""
    faiss.omp_set_num_threads(1)
    draw = np.random.default_rng(0)
    centroids = draw.normal(size=(DOMAINS, dimensions)).astype(np.float32)
    index = faiss.IndexFlatIP(dimensions)
    index.add(centroids)
    ours = plain = 0.0
    for number in range(-(-vectors // chunk)):
        block = draw.standard_normal((chunk, dimensions), dtype=np.float32)
        for which in ("ours", "plain") if number % 2 else ("plain", "ours"):
            begun = time.perf_counter()
            if which == "ours":
                nearest(block, centroids, True, np.zeros(DOMAINS))
                ours += time.perf_counter() - begun
            else:
                index.search(block, 1)
                plain += time.perf_counter() - begun
    done = -(-vectors // chunk) * chunk
    return {"vectors": done, "ours_per_second": done / ours, "faiss_per_second": done / plain, "ratio": plain / ours}


def inertia(points: int = 400_000, dimensions: int = 64) -> dict[str, float]:
    """Mean squared distance to the nearest centroid over all points: k-means on the stage's sample, and on all."""
    draw, settings = np.random.default_rng(1), ClusterSettings()
    means = draw.normal(size=(DOMAINS, dimensions))
    vectors = means[draw.integers(DOMAINS, size=points)] + 1.5 * draw.normal(size=(points, dimensions))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found: dict[str, float] = {"sample": settings.sample, "points": points}
    for name, used in (("on_sample", vectors[: settings.sample]), ("on_all", vectors)):
        centroids = fit_centroids(used, DOMAINS, settings, 0)
        placed = nearest(vectors, centroids, True, np.zeros(DOMAINS))
        found[name] = float(((vectors - centroids[placed]) ** 2).sum(axis=1).mean())
    return found | {"ratio": found["on_sample"] / found["on_all"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--vectors", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE.parent / "../shared/data/corpus")
    options = parser.parse_args()
    target = HERE / "results/corpus_scale/scale.json"
    told = json.loads(target.read_text()) if target.exists() else {"sizes": {}}
    told["machine"] = describe("ray", "pyarrow", "numpy", "faiss-cpu", "tokenizers", "scikit-learn")
    if options.vectors:
        told |= {"assignment": assignment(options.vectors), "inertia": inertia()}
        print(json.dumps({k: told[k] for k in ("assignment", "inertia")}, indent=1), flush=True)
    for count in options.documents:
        told["sizes"][str(count)] = stage(options.data, count, options.workers)
        print(json.dumps(told["sizes"][str(count)], indent=1), flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(told, indent=1) + "\n")
    sizes = told["sizes"]
    if {"100000", "1000000"} <= sizes.keys():
        small, large = sizes["100000"], sizes["1000000"]
        told["ratios"] = {
            "peak_pss_1M_to_100k": large["peak_pss_megabytes"] / small["peak_pss_megabytes"],
            "seconds_a_document_1M_to_100k": large["seconds"] / small["seconds"] / 10,
            "processor_seconds_a_document_1M_to_100k": large["processor_seconds"] / small["processor_seconds"] / 10,
        }
        print(json.dumps(told["ratios"], indent=1))
    target.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
