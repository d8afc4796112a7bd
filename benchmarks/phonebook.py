"""When to split, on facts that are learned by heart: the paper's synthetic phonebook (its Figure 2), on this tree.

    python -m benchmarks.phonebook              # everything; continues where it stopped
    python -m benchmarks.phonebook --quick      # two overlaps, one seed
    python -m benchmarks.phonebook --minutes 5  # stops cleanly

A fact is a name of three letters and a number of four digits, `abc:0123`, all drawn from one seed. Two clusters hold
FACTS facts each, of which a share (the overlap) is common to both. A base is trained on both for a part of all steps,
then two copies go on, each on its own cluster, for half of what is left: all models together draw the same tokens
wherever the split lies. Accuracy is the share of a cluster's facts whose number its model writes without a fault, by
greedy decoding from `abc:`. Two budgets: sufficient, where half of it suffices a cluster alone from step 0 for every
fact, and limited, where it does not. Results: benchmarks/results/phonebook.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.machine import describe
from benchmarks.proof.bench import OutOfTime, ask
from benchmarks.proof.book import CLUSTERS, draw, ends, summary
from benchmarks.proof.programme import ROOT
from splitray.config import Config
from splitray.corpus.corpus import Corpus, content_hash
from splitray.errors import SplitrayError
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.storage.keys import CorpusKey
from splitray.storage.store import Store
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.split import Split
from splitray.training.tree import Target

LETTERS, DIGITS = 26, 10
END, COLON, VOCAB = 0, 1, 2 + DIGITS + LETTERS
NAME, NUMBER = 3, 4
LENGTH = NAME + NUMBER + 2  # with the colon and the end token
FACTS, PASSES, SEQUENCE = 140, 32, 14 * LENGTH
_COLUMNS = {"overlap": pa.float64(), "steps": pa.int64(), "split_step": pa.int64(), "seed": pa.int64()}
SCHEMA = pa.schema(_COLUMNS | {"cluster": pa.string(), "accuracy": pa.float64(), "run": pa.string()})


@dataclass(frozen=True)
class Point:
    """One run: `steps` optimizer steps of all models together, `split_step` of them before the split."""

    overlap: float
    steps: int
    split_step: int
    seed: int


@dataclass(frozen=True)
class Plan:
    overlaps: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    budgets: tuple[int, ...] = (480, 200)  # steps: 240 a cluster teach every fact, 100 do not
    fractions: tuple[float, ...] = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
    seeds: tuple[int, ...] = (3, 9)  # of each budget: where not every fact is learned, seeds differ by 20 points

    def points(self) -> Iterator[Point]:
        for seed in range(max(self.seeds)):
            for overlap in self.overlaps:
                for steps in (n for n, seeds in zip(self.budgets, self.seeds, strict=True) if seed < seeds):
                    yield from (Point(overlap, steps, round(f * steps / 2) * 2, seed) for f in self.fractions)


QUICK = Plan(overlaps=(0.0, 1.0), fractions=(0.0, 0.5, 1.0), seeds=(1, 1))
MODEL = ModelShape(hidden=32, layers=2)
TRAINING = TrainingSettings(
    sequence_length=SEQUENCE,
    global_batch_size=4,
    micro_batch_size=4,
    learning_rate=1e-2,
    reference_hidden=32,
    warmup_tokens=20 * 4 * SEQUENCE,
    precision="fp32",
    attention_across_documents=False,  # else a model may learn which fact follows which
)


def facts(overlap: float, count: int = FACTS, seed: int = 0) -> dict[str, np.ndarray]:
    """The clusters' facts as tokens: int64 [count, LENGTH] by cluster, `overlap` of the rows common to both.

    A smaller overlap holds the same first cluster, so that overlaps differ in the second one alone.
    """
    rng = np.random.default_rng(seed)
    names = rng.choice(LETTERS**NAME, 2 * count, replace=False)
    numbers = rng.integers(0, DIGITS**NUMBER, 2 * count)
    letters = 2 + DIGITS + (names[:, None] // LETTERS ** np.arange(NAME - 1, -1, -1)) % LETTERS
    digits = 2 + (numbers[:, None] // DIGITS ** np.arange(NUMBER - 1, -1, -1)) % DIGITS
    ends = np.full((2 * count, 1), END)
    every = np.hstack([letters, np.full_like(ends, COLON), digits, ends])
    start = count - round(overlap * count)
    return dict(zip(CLUSTERS, (every[:count], every[start : start + count]), strict=True))


def publish(store: Store, clusters: dict[str, np.ndarray], seed: int = 0) -> str:
    """Put the clusters into the store as a corpus of two domains: PASSES passes over the facts, each in its own order.

    A window is 14 whole facts, so that no fact is torn. The corpus has no validation text: what counts is recall.
    """
    rng = np.random.default_rng(seed)
    streams = {
        name: np.concatenate([*(rows[rng.permutation(len(rows))].ravel() for _ in range(PASSES)), [END]])
        for name, rows in clusters.items()
    }
    key = CorpusKey(f"phonebook-{fingerprint([s.tolist() for s in streams.values()])}").format()
    if store.find(key) is not None:
        return key
    attempt = store.attempt(key)
    with tempfile.TemporaryDirectory(prefix="phonebook-") as folder:
        shards: dict[str, Any] = {}
        for name, stream in streams.items():
            path = Path(folder) / f"{name}.npy"
            np.save(path, stream.astype(np.uint16), allow_pickle=False)
            shard: dict[str, Any] = {
                "file": f"shards/{name}.npy",
                "tokens": len(stream),
                "documents": len(stream) // LENGTH,
            }
            shards[name] = {"train": [shard | {"bytes": len(stream), "sha256": sha256_file(path)}], "validation": []}
            attempt.add(path, shard["file"])
        tokenizer = {"sha256": fingerprint(["abc:0123"], 64), "vocabulary": VOCAB}
        manifest = {"domains": list(streams), "shards": shards, "tokenizer": tokenizer, "end_token": END}
        manifest |= {"dtype": "uint16", "content_hash": content_hash(manifest)}
        (Path(folder) / "manifest.json").write_text(json.dumps(manifest))
        attempt.add(Path(folder) / "manifest.json", "manifest.json")
    return attempt.publish({}).key


def recall(model: Any, rows: np.ndarray) -> float:
    """The share of facts [count, LENGTH] whose whole number greedy decoding writes.

    Greedy decoding is right to the end exactly where the most likely token is right after every true prefix, so one
    forward pass over the facts decides.
    """
    import torch

    tokens = torch.from_numpy(rows)
    with torch.inference_mode():
        guesses = model(input_ids=tokens[:, :-1], use_cache=False).logits.argmax(-1)
    number = slice(NAME + 1, NAME + 1 + NUMBER)
    right = guesses[:, NAME : NAME + NUMBER] == tokens[:, number]
    return float(right.all(dim=1).double().mean())


class Phonebook:
    """Trains the points of a plan and keeps their accuracies."""

    def __init__(self, plan: Plan, runs: Path, results: Path, deadline: float) -> None:
        self.plan, self.results, self._deadline = plan, results, deadline
        self._store, self._begun = Store(runs / "store"), time.monotonic()
        path = results / "accuracy.csv"
        options = pyarrow.csv.ConvertOptions(column_types=SCHEMA)
        rows = pyarrow.csv.read_csv(path, convert_options=options).to_pylist() if path.exists() else []
        self.rows = {(r["run"], r["cluster"]): r for r in rows}

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:6.0f} s  {text}", flush=True)

    @cached_property
    def corpora(self) -> dict[float, Corpus]:
        return {o: Corpus.open(self._store, publish(self._store, facts(o))) for o in self.plan.overlaps}

    def recipe(self, point: Point) -> Recipe:
        held = self.corpora[point.overlap]
        told = {"content_hash": held.content_hash, "vocab": VOCAB, "end_token": END}
        return recipe(MODEL, TRAINING, told, dict.fromkeys(CLUSTERS, 0.5), point.seed)

    def target(self, point: Point, cluster: str) -> Target:
        made = self.recipe(point)
        weights = dict.fromkeys(CLUSTERS, 0.5)
        split = Split.at(point.split_step / point.steps, point.steps * made.batch_tokens, weights, made.batch_tokens)
        return Target.leaf(made, split.leaf(cluster), TRAINING.schedule)

    def standing(self) -> list[dict[str, Any]]:
        """The rows of the plan's points; the table may hold those of an earlier plan."""
        keys = [(self.target(point, cluster).key, cluster) for point in self.plan.points() for cluster in CLUSTERS]
        return [self.rows[key] for key in dict.fromkeys(keys) if key in self.rows]

    def train(self) -> None:
        """Seed by seed and overlap by overlap: an overlap is a corpus of its own."""
        for (seed, overlap), points in groupby(self.plan.points(), key=lambda p: (p.seed, p.overlap)):
            asked = [
                (point, cluster)
                for point in points
                for cluster in CLUSTERS
                if (self.target(point, cluster).key, cluster) not in self.rows
            ]
            if asked:
                self.say(f"== seed {seed}, overlap {overlap:.0%}")
                self._train(overlap, asked)

    def _train(self, overlap: float, asked: Sequence[tuple[Point, str]]) -> None:
        from splitray.corpus.settings import CorpusSettings
        from splitray.executor.client import ExecutorClient
        from splitray.executor.connect import connect
        from splitray.executor.request import Request
        from splitray.executor.worker import RunContext

        connect()
        config = Config(
            name="phonebook",
            budget=max(self.plan.budgets) * TRAINING.batch_tokens,
            corpus=CorpusSettings(sources=["generated here"], domains=2),
            model=MODEL,
            training=TRAINING,
            ladder={"shapes": [MODEL], "pretrain_tokens": [2**20], "specialize_tokens": [2**20]},
        )
        context = RunContext(self._store, self.corpora[overlap].key, TRAINING, f"phonebook/{overlap}/{time.time():.0f}")
        trainer = ExecutorClient(
            config.resources, context, config.evaluate.validation_tokens, lambda kind, **values: None
        )
        requests = [Request(self.target(*each)) for each in asked]
        try:
            ask(trainer, requests, lambda ended: self._keep([asked[i] for i, _ in ended]), self._deadline, self.say)
        finally:
            trainer.begin_stage()  # its idle hosts end, so that the next overlap's have their room

    def _keep(self, ended: Sequence[tuple[Point, str]]) -> None:
        from splitray.training.model import build
        from splitray.training.state import load, load_weights

        for point, cluster in ended:
            target = self.target(point, cluster)
            held = self._store.find(target.key)
            assert held is not None, target.key
            model = build(target.recipe)
            load_weights(model, load(held, moments=False))
            told = {"overlap": point.overlap, "steps": point.steps, "split_step": point.split_step, "seed": point.seed}
            accuracy = recall(model.eval(), facts(point.overlap)[cluster])
            self.rows[target.key, cluster] = told | {"cluster": cluster, "accuracy": accuracy, "run": target.key}
        if ended:
            names = ("overlap", "steps", "split_step", "seed", "cluster")
            rows = sorted(self.rows.values(), key=lambda r: tuple(r[n] for n in names))
            self.results.mkdir(parents=True, exist_ok=True)
            pyarrow.csv.write_csv(pa.Table.from_pylist(rows, SCHEMA), self.results / "accuracy.csv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop cleanly after so many")
    parser.add_argument("--quick", action="store_true", help="two overlaps, one seed; results stay in runs")
    options = parser.parse_args()
    runs = ROOT / "runs/phonebook"
    results = runs / "quick" if options.quick else ROOT / "benchmarks/results/phonebook"
    book = Phonebook(QUICK if options.quick else Plan(), runs, results, time.monotonic() + 60 * options.minutes)
    try:
        book.train()
    except OutOfTime as error:
        book.say(f"time is up ({error}); the same command continues")
    except SplitrayError as error:
        print(f"phonebook: {error}", file=sys.stderr)
        return 1
    rows = book.standing()
    points = summary(rows)
    if points:
        settings = {"facts": FACTS, "model": {"hidden": MODEL.hidden, "layers": MODEL.layers}}
        settings |= {"training": TRAINING.identity(), "tokens_a_step": TRAINING.batch_tokens}
        record = {
            "settings": settings,
            "points": points,
            **ends(rows, points),
            "machine": describe("ray", "torch", "deepspeed"),
        }
        (results / "phonebook.json").write_text(json.dumps(record, indent=1) + "\n")
        draw(points, results / "phonebook.png")
    for p in points:
        print(f"overlap {p['overlap']:4.0%}  {p['steps']} steps, split at {p['split_step']:4}: {p['accuracy']:6.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
