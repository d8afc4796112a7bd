"""The domain filter on twenty sources: precision, recall, calibration and speed, beside fastText on the same labels.

    python -m benchmarks.domain_filter [--data ../shared/data/corpus] [--documents 4000]

For law (statutes, contracts, terms) and for medicine (biomed), documents of all twenty sources are mixed such that 5 %
are of the topic. The sources' names are the labels. A group, such as a book, goes to one side. Some documents are
labelled examples: they fit each filter, calibrate it, and set its threshold for a precision of 0.9. The others, which
no filter has seen, give what is reported. Hard negatives are named with the share of each that is kept: Portuguese
statutes, politics, speeches and encyclopedic text for law, chats and the dictionary for medicine.

Contamination: documents of the topic, of both halves, that share text with exams. Result: results/domain_filter/.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq

from benchmarks.machine import describe
from splitray.corpus.clean import hash64
from splitray.evaluate.exams import read_exam
from splitray.study import DomainFilter, Examples, FilterSettings
from splitray.study.calibration import best_by_size, calibration_error, precision_and_recall
from splitray.study.contamination import ExamIndex
from splitray.study.quality import quality

matplotlib.use("Agg")
OUT = Path(__file__).parent / "results" / "domain_filter"
SHARE, PRECISION = 0.05, 0.9
TOPICS = {"law": ("law_statutes", "law_contracts", "law_terms"), "medicine": ("biomed",)}
HARD = {
    "law": ("law_pt_statutes", "politics", "speeches", "encyclopedic"),
    "medicine": ("dialogue_chat", "dict_computing", "encyclopedic", "stackexchange"),
}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "embedding": {"classifier": "embedding"},
    "fasttext": {"classifier": "fasttext"},
}
EXAMS = {"law": ("legalbench_fewshot", "oab_pt", "lsat_lr"), "medicine": ("pubmed_qa", "sciq")}


@dataclass(frozen=True)
class Mix:
    """Documents of all sources: text, source, group (the file it is from), and whether it is of the topic."""

    texts: list[str]
    sources: np.ndarray
    groups: list[str]
    labels: np.ndarray


def mix(data: Path, topic: str, count: int) -> tuple[Mix, Mix]:
    """Examples and new documents, `count` each, `SHARE` of either of the topic; sides by group, samples by hash."""
    texts, sources, groups, ranks = [], [], [], []
    for path in sorted(data.glob("*.parquet")):
        table = pq.read_table(path, columns=["text", "source", "doc_id"])
        alone = len(set(table["source"].to_pylist())) < 20  # one large file: its rows are its groups
        for row in table.to_pylist():
            texts.append(row["text"])
            sources.append(path.stem)
            groups.append(f"{path.stem}/{row['doc_id' if alone else 'source']}")
            ranks.append(hash64(f"{path.stem}/{row['doc_id']}/{row['text'][:64]}"))
    source, rank = np.array(sources), np.array(ranks, dtype=np.uint64)
    right = np.isin(source, TOPICS[topic])
    side = np.array([hash64(f"side/{group}") % 2 for group in groups])
    found = []
    for half in (0, 1):
        rows = []
        for label, wanted in ((True, round(SHARE * count)), (False, count - round(SHARE * count))):
            own = np.flatnonzero((side == half) & (right == label))
            rows.append(own[np.argsort(rank[own], kind="stable")[:wanted]])
        every = np.sort(np.concatenate(rows))
        found.append(Mix([texts[row] for row in every], source[every], [groups[row] for row in every], right[every]))
    return found[0], found[1]


def measure(name: str, examples: Mix, new: Mix, topic: str) -> dict[str, Any]:
    """One classifier: fitted on the examples, measured on the new documents."""
    began = time.process_time()
    settings = FilterSettings(precision=PRECISION, **CLASSIFIERS[name])
    made = DomainFilter.fit(Examples(examples.texts, examples.labels, examples.groups), settings)
    fitted = time.process_time() - began
    began = time.process_time()
    probability = made.probability(new.texts)
    scored = time.process_time() - began
    precision, recall = precision_and_recall(probability, new.labels, made.threshold)
    kept = probability >= made.threshold
    size = np.array([len(text.encode()) for text in new.texts])
    return {
        "classifier": name,
        "threshold": made.threshold,
        "precision": precision,
        "recall": recall,
        "average_precision": average_precision(probability, new.labels),
        "calibration_error": calibration_error(probability, new.labels),
        "mean_probability": float(probability.mean()),
        "share": float(new.labels.mean()),
        "kept_documents": int(kept.sum()),
        "kept_megabytes": float(size[kept].sum() / 1e6),
        "kept_of_hard_negatives": {s: float(kept[new.sources == s].mean()) for s in HARD[topic]},
        "false_positives": dict(Counter(new.sources[kept & ~new.labels].tolist())),
        "fit_cpu_seconds": round(fitted, 2),
        "score_documents_per_cpu_second": round(len(new.texts) / scored),
        "score_megabytes_per_cpu_second": round(float(size.sum()) / 1e6 / scored, 2),
        "curve": curve(probability, new.labels),
    }


def control(new: Mix, megabytes: float) -> dict[str, Any]:
    """The documents of most quality, as many bytes as the default classifier keeps, and how many are of the topic."""
    scores, sizes = quality(new.texts), np.array([len(text.encode()) for text in new.texts])
    order = np.array([hash64(text) for text in new.texts], dtype=np.uint64)
    kept = best_by_size(scores, order, sizes, megabytes * 1e6)
    of_topic = {"of_documents": float(new.labels[kept].mean()), "of_bytes": float(sizes[kept & new.labels].sum())}
    of_topic["of_bytes"] /= float(sizes[kept].sum())
    return {
        "kept_documents": int(kept.sum()),
        "kept_megabytes": float(sizes[kept].sum() / 1e6),
        "of_the_best_score": float((scores[kept] == scores.max()).mean()),
        "share_of_the_topic": of_topic,
    }


def average_precision(score: np.ndarray, labels: np.ndarray) -> float:
    """Mean precision at the ranks of the topic's documents."""
    right = labels[np.argsort(-score, kind="stable")]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


def curve(score: np.ndarray, labels: np.ndarray, points: int = 60) -> list[list[float]]:
    """Recall and precision at some ranks."""
    right = np.cumsum(labels[np.argsort(-score, kind="stable")])
    ranks = np.unique(np.geomspace(1, len(labels), points).astype(int))
    return [[round(float(right[r - 1] / right[-1]), 4), round(float(right[r - 1] / r), 4)] for r in ranks]


def contamination(folder: Path, names: Sequence[str], every: Sequence[str]) -> dict[str, Any]:
    """Documents that share text with each exam, by how they were found."""
    found = {}
    for name in names:
        exam = read_exam(folder / f"{name}.jsonl")
        index = ExamIndex.build([exam])
        leaks = index.find(every)
        found[name] = {
            "questions": len(exam.questions),
            "questions_below_13_words": index.short,
            "documents_by_13_grams": int(leaks.grams.sum()),
            "documents_by_near_duplicates": int(leaks.near.sum()),
            "documents": int(leaks.any.sum()),
        }
    return found


def figure(results: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    picture, axes = plt.subplots(1, len(TOPICS), figsize=(7.2, 3.2), sharey=True)
    for place, topic in zip(axes, TOPICS, strict=True):
        for row, colour in zip(results["topics"][topic]["classifiers"], ("#0072b2", "#d55e00"), strict=True):
            recall, precision = zip(*row["curve"], strict=True)
            place.plot(recall, precision, color=colour, label=row["classifier"], linewidth=1.4)
            place.plot(row["recall"], row["precision"], "o", color=colour, markersize=5)
        place.axhline(PRECISION, color="#888888", linewidth=0.8, linestyle=":")
        place.set(title=topic, xlabel="recall", xlim=(0, 1.02), ylim=(0, 1.02))
    axes[0].set_ylabel("precision on new documents")
    axes[0].legend(frameon=False, loc="lower left")
    picture.tight_layout()
    picture.savefig(OUT / "domain_filter.svg")
    picture.savefig(OUT / "domain_filter.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/corpus"))
    parser.add_argument("--documents", type=int, default=4000, help="labelled examples, and as many new documents")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "machine": describe("scikit-learn", "numpy", "fasttext-community"),
        "share": SHARE,
        "precision_asked": PRECISION,
        "documents": options.documents,
        "topics": {},
    }
    for topic in TOPICS:
        examples, new = mix(options.data, topic, options.documents)
        own = [text for side in (examples, new) for text, right in zip(side.texts, side.labels, strict=True) if right]
        rows = [measure(name, examples, new, topic) for name in CLASSIFIERS]
        for row in rows:
            print(topic, {key: value for key, value in row.items() if key != "curve"}, flush=True)
        results["topics"][topic] = {
            "classifiers": rows,
            "quality_control": control(new, rows[0]["kept_megabytes"]),
            "contamination": contamination(options.data.parent / "exams", EXAMS[topic], own),
        }
        print(topic, results["topics"][topic]["quality_control"], results["topics"][topic]["contamination"], flush=True)
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / "domain_filter.json").write_text(json.dumps(results, indent=1) + "\n")
    figure(results)


if __name__ == "__main__":
    main()
