"""A process killed inside a segment, through Ray, for every ZeRO stage, worker count and precision: the same bits.

    python -m benchmarks.same_bits [--anew] [--out benchmarks/results/chaos]

Each case trains one segment twice from an empty store through the coordinator: in peace, and with a SIGKILL on one of
its training processes (a Ray Train worker, or the ladder's actor where there is one) at the first checkpoint inside the
segment. The published weights, the moments, the step count and the training loss must be equal. Results are written
case by case, and a start that was cut off goes on.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.chaos_job import CONFIG, is_titled
from benchmarks.machine import describe
from splitray.config import Config
from splitray.corpus import Corpus, build_corpus
from splitray.executor.client import start_coordinator
from splitray.executor.connect import connect
from splitray.executor.request import Request
from splitray.executor.worker import RunContext
from splitray.storage.keys import CheckpointKey
from splitray.storage.store import Published, Store
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import Leaf, Target

ROOT = Path(__file__).resolve().parent.parent
STEPS = 400
TITLES = {1: "ray::ladder", 2: "ray::RayTrainWorker"}


def sought(store: Store, settings: TrainingSettings, corpus: Corpus) -> Target:
    """A segment of the mixture that keeps its moments: what a specialist starts from."""
    weights = dict.fromkeys(corpus.domains, 1 / len(corpus.domains))
    made = recipe(ModelShape(**CONFIG["model"]), settings, corpus.identity(), weights, 0)
    tokens = STEPS * settings.batch_tokens
    trunk = Target.trunk(made, Leaf(tokens, tokens, corpus.domains[0]), settings.schedule)
    assert trunk is not None
    return trunk


def train(context: RunContext, target: Target, workers: int, disturb: bool) -> tuple[Published, int]:
    """Train a target through an coordinator of its own; what was published, and how many processes were lost."""
    coordinator = start_coordinator(context, 2, 1000)
    waiting = coordinator.leaves.remote([Request(target, mixture_workers=workers if workers > 1 else 0)])
    if disturb:
        while not context.store.keys(CheckpointKey.prefix()):
            assert not ray.wait([waiting], timeout=0)[0], "the segment ended before its first checkpoint"
            time.sleep(0.01)
        victims = [p for p in psutil.Process().children(recursive=True) if is_titled(p, TITLES[workers])]
        assert len(victims) == workers, victims
        victims[-1].kill()
    ray.get(waiting)
    failures = ray.get(coordinator.progress.remote())["failures"]
    ray.kill(coordinator)
    found = context.store.find(target.key)
    assert found is not None
    return found, failures


def case(store: Store, corpus: Corpus, stage: int, workers: int, precision: str) -> dict[str, Any]:
    plain = CONFIG["training"] | {"precision": precision, "zero_stage": stage, "checkpoint_seconds": 0.3}
    settings = TrainingSettings(**plain)
    target = sought(store, settings, corpus)
    ends = []
    for disturb in (False, True):
        context = RunContext(store, corpus.key, settings, f"bits-{uuid.uuid4().hex[:8]}")
        found, failures = train(context, target, workers, disturb)
        ends.append((found.files, {k: found.meta[k] for k in ("step", "train_loss", "end", "resharded")}))
        trained = found.meta["tokens_trained"]
        store.invalidate(target.key)
    assert failures == 1 and trained < target.tokens, "the kill met no training"
    told = {"zero_stage": stage, "workers": workers, "precision": precision, "same": ends[0] == ends[1]}
    return told | {"trained_again_after": target.tokens - trained, "files": ends[0][0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/chaos")
    parser.add_argument("--anew", action="store_true", help="repeat the cases whose results stand")
    options = parser.parse_args()
    work, target = Path(tempfile.mkdtemp(prefix="splitray-bits-")), options.out / "same_bits.json"
    cases = json.loads(target.read_text())["cases"] if target.exists() and not options.anew else []
    known = {(c["workers"], c["zero_stage"], c["precision"]) for c in cases}
    options.out.mkdir(parents=True, exist_ok=True)
    connect()
    store, config = Store(work / "store"), Config(**CONFIG)
    corpus = build_corpus(config.corpus, config.seed, store)
    print("ZeRO  workers  precision  the same bits")
    for workers, stage, precision in itertools.product((1, 2), range(4), ("fp32", "bf16")):
        if (workers, stage, precision) in known:
            continue
        cases.append(case(store, corpus, stage, workers, precision))
        print(f"{stage:4}  {workers:7}  {precision:9}  {'yes' if cases[-1]['same'] else 'NO'}", flush=True)
        told = {"machine": describe("ray", "torch", "deepspeed"), "steps": STEPS, "cases": cases}
        target.write_text(json.dumps(told, indent=1) + "\n")
    ray.shutdown()
    shutil.rmtree(work)
    assert all(c["same"] for c in cases)


if __name__ == "__main__":
    main()
