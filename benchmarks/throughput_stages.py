"""A ladder and a specialist stage through the real coordinator and hosts on a local Ray, against their loops run bare.

Bare: the same two processes, one thread each, run `train` on the same models and shards side by side, without Ray,
store traffic, evaluation or waiting. A stage's useful tokens are those it trained; its ratio is the time that the bare
loops need for them, size by size, over the time that the stage took. Starting the actors is reported apart: a first,
small request starts them.
"""

import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.throughput_loops import Enough, Waiting
from splitray.corpus import Corpus
from splitray.executor.client import start_coordinator
from splitray.executor.request import Request
from splitray.executor.worker import RunContext, order_of
from splitray.ladder.grid import cost, rungs
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.loop import Hooks, train
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import MIXTURE, Leaf, Phase, Segment, Target

WORKERS, SEQUENCES, LENGTH = 2, 16, 256
SHAPES = (ModelShape(hidden=32, layers=2), ModelShape(hidden=48, layers=2), ModelShape(hidden=64, layers=3))
PRETRAIN = (262_144, 524_288, 786_432, 1_048_576)
SPECIALIZE = (65_536, 262_144)
SPECIALIST = ModelShape(hidden=64, layers=3)
SPECIALIST_TOKENS = 786_432
VALIDATION = 8192
WEIGHTS = {"a": 0.5, "b": 0.5}
BARE_SECONDS = 3.0


def corpus(store: Store) -> str:
    """Two domains of random words, with the vocabulary of a real one; the corpus's key."""
    from tests.support.tiny import write_corpus

    draw = np.random.default_rng(0)

    def text(letters: str, words: int) -> str:
        known = ["".join(draw.choice(list(letters), size=n)) for n in draw.integers(2, 9, size=4000)]
        return " ".join(np.array(known)[draw.integers(len(known), size=words)])

    def documents(letters: str, count: int) -> list[str]:
        words = text(letters, 120 * count).split()
        return [" ".join(words[i : i + 120]) for i in range(0, len(words), 120)]

    letters = {"a": "abcdefghijklm", "b": "nopqrstuvwxyz"}
    splits = {d: {"train": documents(s, 1500), "validation": documents(s, 60)} for d, s in letters.items()}
    return write_corpus(store, splits, vocabulary=2048)


class Bench:
    """A store with a corpus, an coordinator with two one-thread hosts, and the same loops bare."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        held = Corpus.open(self.store, corpus(self.store))
        self.training = TrainingSettings(
            sequence_length=LENGTH,
            global_batch_size=SEQUENCES,
            micro_batch_size=SEQUENCES,
            precision="bf16",
            checkpoint_seconds=10.0,
        )
        self.context = RunContext(self.store, held.key, self.training, "throughput")
        self.corpus = held.identity()
        self.coordinator = start_coordinator(self.context, float(WORKERS), VALIDATION)

    def recipe(self, shape: ModelShape, seed: int = 0) -> Recipe:
        return recipe(shape, self.training, self.corpus, WEIGHTS, seed)

    def target(self, made: Recipe, leaf: Leaf) -> Target:
        return Target.leaf(made, leaf, self.training.schedule)

    def ladder(self) -> list[Request]:
        steps = rungs(SHAPES, PRETRAIN, SPECIALIZE, list(WEIGHTS), range(1))
        return [Request(self.target(self.recipe(s.shape), s.leaf), s.domains) for s in steps]

    def specialists(self, tokens: int, specialize: int, seed: int = 0) -> list[Request]:
        made = self.recipe(SPECIALIST, seed)
        return [Request(self.target(made, Leaf(tokens, specialize, d)), (d,), domain_workers=1) for d in WEIGHTS]

    def ask(self, requests: list[Request]) -> tuple[float, dict[str, Any]]:
        """Seconds until all are trained and scored, and the counters that this added to."""
        before = ray.get(self.coordinator.progress.remote())
        begun = time.perf_counter()
        ray.get(self.coordinator.leaves.remote(requests))
        seconds, after = time.perf_counter() - begun, ray.get(self.coordinator.progress.remote())
        return seconds, {k: after[k] - before[k] for k in ("finished", "trained", "training_seconds", "failures")}


def bare_loops(context: RunContext, recipes: list[Recipe], passes: int, line: Connection) -> None:
    """Train every recipe's mixture bare, one after another, when told to."""
    torch.set_num_threads(context.training.threads)
    for made in recipes * passes:
        clock, asked = Waiting(line), 0

        def stop(clock: Waiting = clock) -> bool:
            nonlocal asked
            asked += 1
            if asked > 1:
                clock()
            return False

        endless = Segment(made, (Phase(MIXTURE, 10**12),))
        with tempfile.TemporaryDirectory(prefix="splitray-throughput-") as folder:
            try:
                train(endless, order_of(context, endless), Store(Path(folder)), context.training, Hooks(stop=stop))
            except Enough:
                continue


def bare_rates(turns: Any, recipes: list[Recipe], first: bool) -> dict[str, float]:
    """Tokens per second of both processes together by recipe, side by side."""
    rates = {}
    for place, made in enumerate(recipes):
        if place or not first:
            for line in turns.lines:
                line.recv()  # it is warm
        steps = max(4, round(BARE_SECONDS / max(wall for wall, _ in turns.run([0, 1], 4)) * 4))
        rates[made.hash] = sum(steps * made.batch_tokens / wall for wall, _ in turns.run([0, 1], steps))
        turns.end()
    return rates


def kept(bench: Bench, keys: set[str]) -> list[dict[str, Any]]:
    return [p.meta for k in keys if (p := bench.store.find(k)) is not None]


def stage(bench: Bench, label: str, warm: list[Request], requests: list[Request]) -> dict[str, Any]:
    """Start the hosts with a small request, then time the stage."""
    startup, _ = bench.ask(warm)
    before = set(bench.store.keys(SegmentKey.prefix()))
    seconds, work = bench.ask(requests)
    segments = kept(bench, set(bench.store.keys(SegmentKey.prefix())) - before)
    assert work["failures"] == 0 and work["finished"] == len(segments)
    tokens: dict[str, int] = {}
    for meta in segments:
        made = Recipe.from_json(meta["recipe"]).hash
        tokens[made] = tokens.get(made, 0) + meta["end"] - meta["start"]
    return {
        "label": label,
        "seconds": seconds,
        "startup_seconds": startup,
        "segments": len(segments),
        "median_segment_seconds": float(np.median([m["seconds"] for m in segments])),
        "tokens": tokens,
        "loop_seconds": work["training_seconds"],
        "losses_measured": sum(len(r.domains) for r in requests),
    }


def rated(found: dict[str, Any], rates: list[dict[str, float]]) -> dict[str, Any]:
    """The stage's ratio, and where the rest of its workers' time went, in shares of it."""
    tokens = found.pop("tokens")
    ideal = [sum(t / rate[h] for h, t in tokens.items()) for rate in rates]
    ratios = [i / found["seconds"] for i in ideal]
    held = WORKERS * found["seconds"]
    return {
        **found,
        "tokens": sum(tokens.values()),
        "tokens_per_second": sum(tokens.values()) / found["seconds"],
        "ratio": float(np.mean(ratios)),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "share_inside_loops": found["loop_seconds"] / held,
        "share_outside_loops": 1 - found["loop_seconds"] / held,
        "bare_seconds": float(np.mean(ideal)),
    }


def compare() -> dict[str, Any]:
    from benchmarks.throughput import Turns

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with tempfile.TemporaryDirectory(prefix="splitray-throughput-") as folder:
        ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        try:
            bench = Bench(Path(folder))
            recipes = [bench.recipe(s) for s in SHAPES]
            told = cost([r.target for r in bench.ladder()], bench.training)
            print(f"ladder: {told['segments']:.0f} segments, {told['tokens']:.0f} tokens", flush=True)
            turns = Turns(bare_loops, [(bench.context, recipes, 2)] * WORKERS)
            rates = [bare_rates(turns, recipes, True)]
            small = [Request(bench.target(bench.recipe(SHAPES[0], s), Leaf(4096)), ("a",)) for s in (1, 2)]
            found = [stage(bench, "ladder", small, bench.ladder())]
            base = bench.specialists(PRETRAIN[-1], SPECIALIST_TOKENS)
            small = bench.specialists(4096, 4096, seed=3)
            found.append(stage(bench, "specialists", small, base))
            rates.append(bare_rates(turns, recipes, False))
        finally:
            ray.shutdown()
    ratios = [rated(f, rates) for f in found]
    for each in ratios:
        counts = f"{each['segments']} segments, median {each['median_segment_seconds']:.1f} s"
        spent = f"{each['seconds']:.0f} s, start-up {each['startup_seconds']:.0f} s"
        print(f"{each['label']}: {each['ratio']:.3f} of bare loops ({counts}; {spent})", flush=True)
    names = [s.label for s in SHAPES]
    bare = [{n: rate[r.hash] for n, r in zip(names, recipes, strict=True)} for rate in rates]
    return {"workers": WORKERS, "bare_tokens_per_second": bare, "ratios": ratios}
