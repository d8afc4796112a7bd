"""What repeated text is worth: one small line, its domain's text read 1, 4 and 16 times, forecast before it is trained.

    python -m benchmarks.repetition forecast ../shared/data/corpus   # new text only, and what follows from it
    python -m benchmarks.repetition measure ../shared/data/corpus    # then the repeated runs, and the score

One model of 43168 parameters, one base of 131K tokens of a mixture of three domains. A specialist draws D' tokens of
text that the base has not seen: all of it new, or a fourth or a sixteenth of it as often. The same for D: unsplit
models on a fourth and a sixteenth of the mixture's text. New text at four D' and three D gives the curve of the loss;
on it the forecast puts the new tokens that Muennighoff et al. (2023) say repeated ones are worth. No law is between
them, so that what is scored is the term alone. One thread. With --store the same command goes on where it was stopped,
and --seeds 2 trains everything twice.
"""

import argparse
import json
import math
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from benchmarks.law_common import machine
from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import train_bpe
from splitray.evaluate.loss import Validation, document_losses
from splitray.law.repetition import PUBLISHED, Repetition
from splitray.storage.store import Store
from splitray.training.data import Order
from splitray.training.loop import train
from splitray.training.model import build, size
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.state import load, load_weights
from splitray.training.tree import MIXTURE, Leaf, Target, grow, line

OUT = Path(__file__).parent / "results" / "repetition"
DOMAINS, OWN = ("law_contracts", "fiction", "math"), ("law_contracts",)
SHAPE, VOCABULARY = ModelShape(hidden=32, layers=2), 512
SETTINGS = TrainingSettings(
    sequence_length=64,
    global_batch_size=16,
    micro_batch_size=16,
    learning_rate=4e-3,
    reference_hidden=64,
    warmup_tokens=4096,
    precision="fp32",
)
BATCH = SETTINGS.batch_tokens
BASE, AFTER = 128 * BATCH, 64 * BATCH  # 131K tokens of D, 66K of D'
CURVE = (4, 16, 32, 64)  # D' of the curve, in batches
BASES = (64, 96, 128)  # D of the unsplit curve, in batches
PASSES = (4, 16)


@dataclass(frozen=True)
class Texts:
    """Token arrays by domain: what the base reads, what specialists read, and what is scored."""

    base: Mapping[str, np.ndarray]
    special: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]


def texts(folder: Path) -> Texts:
    read = {name: pq.read_table(folder / f"{name}.parquet", columns=["text"])["text"].to_pylist() for name in DOMAINS}
    every = [text for name in DOMAINS for text in read[name][:600]]
    encode = train_bpe(every, TokenizerSettings(vocabulary=VOCABULARY))
    base, special, validation = dict[str, np.ndarray](), dict[str, np.ndarray](), dict[str, np.ndarray]()
    for name, documents in read.items():
        order = np.random.default_rng(0).permutation(len(documents))
        stream: list[int] = []
        for place in order:
            stream += [*encode.encode(documents[place], add_special_tokens=False, verbose=False), encode.eos_token_id]
            if len(stream) > BASE // 2 + AFTER + 2**16:
                break
        ids = np.array(stream, dtype=np.uint16)
        parts = np.split(ids, [2**15, 2**15 + BASE // 2])
        validation[name], base[name], special[name] = parts[0], parts[1], parts[2][: AFTER + 1]
        assert len(special[name]) == AFTER + 1, (name, len(ids))
    return Texts(base, special, validation)


class Scarce:
    """The order of a corpus whose specialists have a text of their own."""

    def __init__(self, base: Mapping[str, np.ndarray], special: Mapping[str, np.ndarray], seed: int) -> None:
        weights, length = dict.fromkeys(DOMAINS, 1 / len(DOMAINS)), SETTINGS.sequence_length
        self._mixture = Order({name: [ids] for name, ids in base.items()}, weights, length, seed)
        self._own = Order({name: [ids] for name, ids in special.items()}, weights, length, seed)

    def sequences(self, source: str, start: int, count: int) -> np.ndarray:
        return (self._mixture if source == MIXTURE else self._own).sequences(source, start, count)


def cut(ids: np.ndarray, passes: int) -> np.ndarray:
    """The first part of a text that is read so many times instead of once."""
    return ids[: (len(ids) - 1) // passes // SETTINGS.sequence_length * SETTINGS.sequence_length + 1]


@dataclass(frozen=True)
class Run:
    """A leaf, the passes over the text of its last source, and the domains that it is scored on."""

    leaf: Leaf
    passes: int
    domains: tuple[str, ...]


def new_runs() -> list[Run]:
    runs = [Run(Leaf(n * BATCH), 1, DOMAINS) for n in BASES]
    return runs + [Run(Leaf(BASE, n * BATCH, name), 1, (name,)) for name in OWN for n in CURVE]


def repeated_runs() -> list[Run]:
    runs = [Run(Leaf(BASE), passes, DOMAINS) for passes in PASSES]
    return runs + [Run(Leaf(BASE, AFTER, name), passes, (name,)) for name in OWN for passes in PASSES]


def losses(runs: Sequence[Run], given: Texts, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Train and score runs; those of one text grow one tree, and specialists share the base on new text."""
    weights = dict.fromkeys(DOMAINS, 1 / len(DOMAINS))
    named = {"content_hash": "repetition", "vocab": VOCABULARY, "end_token": 0}
    made = recipe(SHAPE, SETTINGS, named, weights, seed)
    trunk = folder / f"trunk-{seed}"
    split = Target.trunk(made, Leaf(BASE, AFTER, OWN[0]), SETTINGS.schedule)
    assert split is not None
    for segment in grow([split], lambda line: []):
        train(segment, Scarce(given.base, given.special, seed), Store(trunk), SETTINGS)
    for of_base, passes in sorted({(run.leaf.domain is None, run.passes) for run in runs}):
        mine = [run for run in runs if (run.leaf.domain is None, run.passes) == (of_base, passes)]
        special = {name: cut(ids, passes) for name, ids in given.special.items()}
        base = {name: cut(ids[: BASE // len(DOMAINS) + 1], passes) for name, ids in given.base.items()}
        # a key names a corpus by its hash alone: each text has a store of its own
        place = folder / f"{of_base}-{passes}-{seed}"
        if of_base:
            order, standing = Scarce(given.base if passes == 1 else base, special, seed), list[int]()
        else:
            if not place.exists():
                shutil.copytree(trunk, place)
            order, standing = Scarce(given.base, special, seed), [BASE]
        store, targets = Store(place), [Target.leaf(made, run.leaf, SETTINGS.schedule) for run in mine]
        for segment in grow(targets, defaultdict(list, {line(made, split.phases): standing}).__getitem__):
            train(segment, order, store, SETTINGS)
            print(f"{time.process_time():6.1f} s: {passes} passes, {segment.source} to {segment.end}", flush=True)
        for run, target in zip(mine, targets, strict=True):
            for domain in run.domains:
                yield _row(run, made, store, target.key, domain, given, seed)


def _row(run: Run, made: Recipe, store: Store, key: str, domain: str, given: Texts, seed: int) -> dict[str, Any]:
    held = store.find(key)
    assert held is not None
    model = build(made)
    load_weights(model, load(held, moments=False))
    ids = given.validation[domain].astype(np.int64)
    nats, count = document_losses(model, made, Validation(domain, ids, np.zeros_like(ids), 1, 0))
    return {
        "params": size(SHAPE, VOCABULARY, SETTINGS).params,
        "pretrain_tokens": run.leaf.pretrain_tokens,
        "specialize_tokens": run.leaf.specialize_tokens,
        "domain": domain,
        "loss": float(nats.sum() / count.sum()),
        "seed": seed,
        "passes": run.passes,
    }


def curves(rows: Sequence[Mapping[str, Any]], domain: str, of_base: bool) -> PchipInterpolator:
    """Mean loss over the seeds against the logarithm of new tokens: D of unsplit models, or D' after the base."""
    mean: dict[int, list[float]] = {}
    for row in rows:
        if row["domain"] == domain and (row["specialize_tokens"] == 0) == of_base:
            tokens = row["pretrain_tokens" if of_base else "specialize_tokens"]
            mean.setdefault(tokens, []).append(row["loss"])
    places = sorted(mean)
    return PchipInterpolator(np.log(places), [float(np.mean(mean[n])) for n in places])


def noise(rows: Sequence[Mapping[str, Any]]) -> float:
    """Deviation of one run's loss, from pairs of seeds, nats."""
    cells: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        cells.setdefault(tuple(row[n] for n in ("pretrain_tokens", "specialize_tokens", "domain")), []).append(
            row["loss"]
        )
    return float(np.sqrt(np.mean([np.var(pair, ddof=1) for pair in cells.values()])))


def forecast(given: Texts, folder: Path, seeds: int) -> dict[str, Any]:
    """New text alone, and what the published constant says of repeated text."""
    rows = [row for seed in range(seeds) for row in losses(new_runs(), given, seed, folder)]
    found = []
    for run in repeated_runs():
        of_base = run.leaf.domain is None
        tokens = run.leaf.pretrain_tokens if of_base else run.leaf.specialize_tokens
        worth = float(Repetition().worth(np.array(float(tokens)), np.array(0.0), np.array(float(run.passes))))
        for domain in run.domains:
            curve = curves(rows, domain, of_base)
            found.append(
                {
                    "of": "D" if of_base else "D'",
                    "domain": domain,
                    "passes": run.passes,
                    "tokens": tokens,
                    "worth": worth,
                    "loss": float(curve(math.log(worth))),
                    "if_new": float(curve(math.log(tokens))),
                    "if_worthless": float(curve(math.log(max(tokens / run.passes, math.exp(curve.x[0]))))),
                }
            )
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "constant": PUBLISHED,
        "machine": machine(),
        "seeds": seeds,
        "noise": noise(rows) if seeds > 1 else None,
        "rows": rows,
        "forecast": found,
    }


def constant_of(curve: PchipInterpolator, tokens: float, passes: int, loss: float) -> float | None:
    """R* at which these repeated tokens would have this loss; None beyond 0.5 to 1000."""

    def off(log_constant: float) -> float:
        how = Repetition(math.exp(log_constant))
        worth = float(how.worth(np.array(tokens), np.array(0.0), np.array(float(passes))))
        return float(curve(math.log(worth))) - loss

    low, high = math.log(0.5), math.log(1000.0)
    return math.exp(brentq(off, low, high)) if off(low) * off(high) < 0 else None


def measure(made: Mapping[str, Any], given: Texts, folder: Path) -> dict[str, Any]:
    """The repeated runs beside their forecast."""
    rows = [row for seed in range(made["seeds"]) for row in losses(repeated_runs(), given, seed, folder)]
    scored = []
    for told in made["forecast"]:
        mine = [
            row["loss"]
            for row in rows
            if (row["domain"], row["passes"], row["specialize_tokens"] == 0)
            == (told["domain"], told["passes"], told["of"] == "D")
        ]
        measured = float(np.mean(mine))
        curve = curves(made["rows"], told["domain"], told["of"] == "D")
        scored.append(
            dict(told)
            | {
                "measured": measured,
                "error": told["loss"] - measured,
                "error_if_new": told["if_new"] - measured,
                "constant": constant_of(curve, told["tokens"], told["passes"], measured),
            }
        )
    error, as_new = (float(np.mean([abs(s[name]) for s in scored])) for name in ("error", "error_if_new"))
    return {
        "machine": machine(),
        "forecast_made": made["made"],
        "mean_absolute_error": error,
        "mean_absolute_error_if_new": as_new,
        "noise": made["noise"],
        "rows": rows,
        "scored": scored,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["forecast", "measure"])
    parser.add_argument("texts", type=Path, help="folder with law_contracts.parquet, fiction.parquet and math.parquet")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--store", type=Path, help="keeps what is trained")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="splitray-repetition-") as scratch:
        folder = given.store or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if given.what == "forecast":
            record = forecast(texts(given.texts), folder, given.seeds)
        else:
            made = json.loads((given.out / "forecast.json").read_text())
            record = measure(made, texts(given.texts), folder)
    given.out.mkdir(parents=True, exist_ok=True)
    name = "forecast" if given.what == "forecast" else "measured"
    (given.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    for row in record["scored" if name == "measured" else "forecast"]:
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
