"""A real ladder of about a hundred segments on two nodes of one CPU each, beside what its timetable foretold.

    python -m benchmarks.timetable [--scale 1.0] [--out DIR]

First ladders of other seeds are trained, to measure how fast each shape trains and what a start and a call cost
beside training. Then the timetable is made, and only then the ladder is trained, by new workers.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import ray
from ray.cluster_utils import Cluster

from benchmarks.machine import describe
from benchmarks.throughput_stages import corpus
from splitray.corpus import Corpus
from splitray.executor.accelerators import ACCELERATORS
from splitray.executor.client import start_coordinator
from splitray.executor.connect import worker_environment
from splitray.executor.durations import Durations
from splitray.executor.request import Request
from splitray.executor.schedule import Group, Scheduler, foretell
from splitray.executor.worker import RunContext
from splitray.ladder.grid import rungs
from splitray.storage.store import Store
from splitray.training.model import size
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import Target, by_recipe, grow

ROOT = Path(__file__).resolve().parent.parent
WORKERS, VALIDATION, DOMAINS = 2, 2_000, ("a", "b")
SHAPES = [ModelShape(hidden=48, layers=2), ModelShape(hidden=96, layers=3)]
TRAINING = TrainingSettings(
    sequence_length=128, global_batch_size=16, micro_batch_size=16, precision="fp32", checkpoint_seconds=30.0
)
PRETRAIN, SPECIALIZE = (64, 128, 256), (8, 16, 32)  # batches


class Bench:
    """A store with a corpus, and a ladder in it."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.store, self.scale = Store(folder), scale
        self.corpus = Corpus.open(self.store, corpus(self.store))

    def requests(self, seeds: Sequence[int], pretrain: Sequence[int], specialize: Sequence[int]) -> list[Request]:
        """A ladder's leaves; every shape has every seed."""
        batch, asked = TRAINING.batch_tokens, list[Request]()
        weights = {d: 1 / len(DOMAINS) for d in DOMAINS}
        for shape in SHAPES:
            before, after = ([max(1, round(n * self.scale)) * batch for n in each] for each in (pretrain, specialize))
            for step in rungs([shape], before, after, list(DOMAINS), seeds):
                made = recipe(shape, TRAINING, self.corpus.identity(), weights, step.seed)
                asked.append(Request(Target.leaf(made, step.leaf, TRAINING.schedule), step.domains))
        return asked

    def groups(self, requests: Sequence[Request]) -> list[Group]:
        made = by_recipe(requests, lambda r: r.target.recipe)
        return [(grow([r.target for r in group], lambda line: []), group) for group in made]

    def train(self, requests: list[Request], scheduler: Scheduler | None, name: str) -> tuple[float, dict[str, Any]]:
        """Seconds from the question to a new coordinator until every leaf is scored, and its counters."""
        context = RunContext(self.store, self.corpus.key, TRAINING, f"timetable-{name}", scheduler=scheduler)
        coordinator = start_coordinator(context, float(WORKERS), VALIDATION)
        ray.get(coordinator.progress.remote())
        begin = time.monotonic()
        ray.get(coordinator.leaves.remote(requests))
        seconds = time.monotonic() - begin
        counters = dict(ray.get(coordinator.progress.remote()))
        ray.kill(coordinator)
        time.sleep(3)  # its workers end with it
        return seconds, counters


def measured(bench: Bench) -> tuple[dict[int, float], float, float]:
    """Tokens a second of a worker by N, seconds of a call beside training, and seconds of a worker's start.

    The start comes from what a ladder of one segment for each worker took, the rest from one of many.
    """
    first, many = (
        bench.requests(seeds, *counts) for seeds, counts in (((7, 8), ((48,), ())), ((9, 10), ((32,), (8,))))
    )
    alone, _ = bench.train(first, None, "starts")
    keys = {s.key: s.recipe.params for requests in (first, many) for g, _ in bench.groups(requests) for s in g}
    seconds, _ = bench.train(many, None, "speeds")
    rates: dict[int, list[float]] = {}
    spent = {"starts": 0.0, "speeds": 0.0}
    for key, params in keys.items():
        published = bench.store.find(key)
        assert published is not None
        rates.setdefault(params, []).append(published.meta["tokens_trained"] / published.meta["seconds"])
    for name, requests in (("starts", first), ("speeds", many)):
        for segments, _ in bench.groups(requests):
            for segment in segments:
                found = bench.store.find(segment.key)
                assert found is not None
                spent[name] += found.meta["seconds"]
    calls = {
        name: sum(len(segments) for segments, _ in bench.groups(requests)) + len(requests)
        for name, requests in (("starts", first), ("speeds", many))
    }
    # alone = start + (spent + calls x beside) / workers, and the same of many: two equations
    beside = (seconds - alone) * WORKERS - (spent["speeds"] - spent["starts"])
    beside /= calls["speeds"] - calls["starts"]
    start = alone - (spent["starts"] + calls["starts"] * beside) / WORKERS
    return {params: median(each) for params, each in rates.items()}, max(beside, 0.0), max(start, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of all token counts")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "simulate_cluster")
    options = parser.parse_args()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": worker_environment()})
    try:
        with tempfile.TemporaryDirectory(prefix="splitray-timetable-") as folder:
            result = compare(Bench(Path(folder), options.scale))
    finally:
        ray.shutdown()
        cluster.shutdown()
    result["machine"] = describe("torch", "deepspeed", "ray")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "timetable.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def compare(bench: Bench) -> dict[str, Any]:
    """The foretold makespan beside the real one."""
    rates, beside, start = measured(bench)
    device = replace(ACCELERATORS["CPU"], beside=beside, start=start, source="measured before the ladder")
    sizes = {s.params: s for s in (size(shape, bench.corpus.vocab_size, TRAINING) for shape in SHAPES)}
    speeds = Durations(device, TRAINING, sizes, bench.corpus.vocab_size, False, rates)
    scheduler = Scheduler(speeds, float(WORKERS), VALIDATION, False, 60.0)
    requests = bench.requests((0, 1), PRETRAIN, SPECIALIZE)
    groups = bench.groups(requests)
    told = foretell(groups, scheduler)
    seconds, counters = bench.train(requests, scheduler, "ladder")
    return {
        "segments": sum(len(segments) for segments, _ in groups),
        "finished": counters["finished"],
        "leaves": len(requests),
        "nodes": WORKERS,
        "tokens_per_second": {f"{n}": round(rate, 1) for n, rate in rates.items()},
        "seconds_beside_a_call": round(beside, 3),
        "seconds_of_a_start": round(start, 2),
        "foretold_seconds": round(told.makespan, 2),
        "real_seconds": round(seconds, 2),
        "real_over_foretold": round(seconds / told.makespan, 4),
        "foretold_utilisation": round(told.utilisation, 3),
    }


if __name__ == "__main__":
    main()
