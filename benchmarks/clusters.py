"""How well the found domains match the sources of the shared corpus: normalised mutual information and ARI.

    python -m benchmarks.clusters [--data ../shared/data/corpus] [--only NAME ...]

Runs the real corpus stage on Ray Data in a temporary store, on a whole set of sources or a fixed sample, and writes
benchmarks/results/clusters/<case>.json and .png. The source label is the file name and never a feature.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import ray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from benchmarks.machine import describe
from splitray.corpus import Corpus, CorpusSettings, build_corpus
from splitray.storage.store import Store

HERE = Path(__file__).resolve().parent
SIX = ["law_statutes", "biomed", "code_c", "fiction", "dialogue_task", "math"]
TWELVE = [*SIX, "law_contracts", "code_python", "history", "politics", "encyclopedic", "techdocs"]
MINILM = {"embedder": "sentence-transformers", "max_documents": 6000}
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "six-tfidf": (SIX, {}),
    "six-tfidf-256": (SIX, {"tfidf": {"dimensions": 256}}),
    "six-tfidf-balanced": (SIX, {"cluster": {"balanced": True}}),
    "six-minilm": (SIX, MINILM),
    "twelve-tfidf": (TWELVE, {"max_documents": 24_000}),
    "twelve-minilm": (TWELVE, MINILM),
}
SEEDS = {"six-tfidf": (1, 2, 3)}  # one seed elsewhere


def measure(corpus: Corpus, seconds: float) -> dict[str, Any]:
    """Agreement of domains and sources over all documents, and what the build cost."""
    found, label = [], []
    for k, domain in enumerate(corpus.domains):
        for split in ("train", "validation"):
            ids = corpus.documents(domain, split)["id"].to_pylist()
            found += [k] * len(ids)
            label += [i.split(".parquet:")[0] for i in ids]
    sources = sorted(set(label))
    table = np.zeros((len(sources), len(corpus.domains)), dtype=int)
    np.add.at(table, ([sources.index(name) for name in label], found), 1)
    return {
        "documents": len(label),
        "normalised_mutual_information": round(float(normalized_mutual_info_score(label, found)), 4),
        "adjusted_rand_index": round(float(adjusted_rand_score(label, found)), 4),
        "seconds": round(seconds, 1),
        "seconds_by_pass": corpus.statistics["seconds"],
        "dropped": corpus.statistics["dropped"],
        "sources": sources,
        "domains": corpus.domains,
        "documents_by_source_and_domain": table.tolist(),
    }


def draw(result: dict[str, Any], corpus: Corpus, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    table = np.array(result["documents_by_source_and_domain"])
    left.imshow(table / table.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(len(result["domains"])), result["domains"], rotation=60, ha="right", fontsize=8)
    left.set_yticks(range(len(result["sources"])), result["sources"], fontsize=8)
    for row, column in np.ndindex(table.shape):
        share = table[row, column] / table[row].sum()
        if share >= 0.01:
            left.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="w" if share > 0.5 else "k",
            )
    left.set_title("share of each source by found domain, %")
    points = corpus.projection()
    domains = np.array(points["domain"].to_pylist())
    for k, name in enumerate(result["domains"]):
        here = domains == name
        right.scatter(
            points["x"].to_numpy()[here], points["y"].to_numpy()[here], s=3, color=plt.cm.tab20(k), label=name
        )
    right.legend(fontsize=7, markerscale=4)
    right.set_title("sample in the plane of the centroids")
    figure.suptitle(f"{path.stem}: NMI {result['normalised_mutual_information']}")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def machine() -> dict[str, Any]:
    packages = ("ray", "numpy", "scikit-learn", "faiss-cpu", "torch", "sentence-transformers", "tokenizers")
    return describe(*packages) | {"load_at_start": round(os.getloadavg()[0], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/corpus")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    results = HERE / "results/clusters"
    results.mkdir(parents=True, exist_ok=True)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    for case in arguments.only:
        sources, fields = CASES[case]
        paths = [str(arguments.data / f"{name}.parquet") for name in sources]
        settings = CorpusSettings(sources=paths, domains=len(sources), group_column="source", **fields)
        runs: list[Any] = []
        for seed in SEEDS.get(case, (1,)):
            described = machine()
            with tempfile.TemporaryDirectory() as folder:
                start = time.monotonic()
                corpus = build_corpus(settings, seed, Store(folder))
                result = {"seed": seed, **measure(corpus, time.monotonic() - start), "machine": described}
                if not runs:
                    draw(result, corpus, results / f"{case}.png")
            runs.append(result)
            print(case, seed, "NMI", result["normalised_mutual_information"], f"{result['seconds']} s", flush=True)
        identity = {name: value for name, value in settings.identity().items() if name != "sources"}
        report = {"case": case, "settings": identity, "runs": runs}
        (results / f"{case}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
