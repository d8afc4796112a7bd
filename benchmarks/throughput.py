"""Where the time goes: the training loop, two workers, and whole stages, each against the same work done bare.

    python -m benchmarks.throughput [--part search|loops|workers|stages|figure ...] [--out FOLDER]

search   finds the best precision, compilation and micro-batch of every loop at every size (the longest part)
loops    ours, a bare PyTorch loop, Hugging Face Trainer and a compact GPT, each at its best, in alternating rounds
workers  two gloo workers under ZeRO 1 and 2 against two independent processes
stages   a ladder of 100 segments and a specialist stage on a local Ray against the same processes' bare loops

Every part writes a JSON of its name; `figure` draws them. Loops run in processes of their own that take turns, so a
machine whose speed drifts drifts for all of them; figures are medians over rounds of ratios within a round. Loops of
one thread are compared by processor seconds, which other programs on the machine disturb less than the wall clock's;
both are recorded.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.throughput_loops import BATCH_TOKENS, LENGTH, LOOPS, SIZES, VOCAB, Choice, search, serve
from splitray.training.family import Size
from splitray.training.model import size
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import flops

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEARCHED = ("ours", "Trainer", "bare", "compact GPT")
PARTS = ("search", "loops", "workers", "stages", "figure")
SPAWN = multiprocessing.get_context("spawn")
COLOURS = ("#0072b2", "#d55e00", "#8c9099", "#e69f00", "#009e73")


def counted(label: str) -> Size:
    hidden, layers = SIZES[label]
    return size(ModelShape(hidden=hidden, layers=layers), VOCAB, TrainingSettings(tie_embeddings=True))


def token_flops(label: str) -> float:
    each = counted(label)
    return flops(each.params, 1, each.layers, each.hidden, LENGTH)


class Turns:
    """Loops in processes of their own, warm, each training only when told to."""

    def __init__(self, target: Any, arguments: Sequence[tuple[Any, ...]]) -> None:
        self.lines = [begin(target, *each) for each in arguments]
        self.first = [line.recv() for line in self.lines]

    def run(self, which: Sequence[int], steps: int) -> list[tuple[float, float]]:
        """Have some loops take `steps` steps side by side; wall and processor seconds of each."""
        for place in which:
            self.lines[place].send(steps)
        return [self.lines[place].recv() for place in which]

    def end(self) -> None:
        for line in self.lines:
            line.send(0)


def begin(target: Any, *arguments: Any) -> Connection:
    """Start a process; the line that it talks on, its last argument."""
    here, there = SPAWN.Pipe()
    SPAWN.Process(target=target, args=(*arguments, there), daemon=True).start()
    there.close()
    return here


def peak(threads: int) -> dict[str, float]:
    """FLOP/s of the fastest square matrix product, by precision; the best of a second each."""
    torch.set_num_threads(threads)
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        best = 0.0
        for side in (512, 1024, 2048):
            one, two = (torch.randn(side, side).to(dtype) for _ in range(2))
            until = time.perf_counter() + 1
            while time.perf_counter() < until:
                begun = time.perf_counter()
                torch.mm(one, two)
                best = max(best, 2 * side**3 / (time.perf_counter() - begun))
        found[name] = best
    return found


def run_search(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Every loop's settings, one loop a core at a time; continues a search that was cut off."""
    path = out / "search.json"
    found = json.loads(path.read_text()) if path.exists() and not options.anew else {"loops": {}}
    found["threads"] = options.threads
    left = [(label, name) for label in options.sizes for name in SEARCHED]
    at_work: dict[Connection, tuple[str, str]] = {}
    while left or at_work:
        while left and len(at_work) < max(1, (os.cpu_count() or 1) // options.threads):
            label, name = left.pop(0)
            tried = found["loops"].setdefault(name, {}).setdefault(label, [])
            known = {Choice(t["precision"], t["compiled"], t["micro"]): t["tokens_per_processor_second"] for t in tried}
            at_work[begin(search, name, label, options.threads, 4, known)] = (label, name)
        ready = wait(list(at_work))
        for line in [connection for connection in at_work if connection in ready]:
            label, name = at_work[line]
            if (told := line.recv()) is None:
                del at_work[line]
                continue
            choice, rate = told
            found["loops"][name][label].append({**asdict(choice), "tokens_per_processor_second": rate})
            print(f"{label} {name}, {choice.label()}: {rate:.0f} tokens a processor second", flush=True)
            write(path, found)
    return found


def best(out: Path, name: str, label: str) -> Choice:
    """The settings that the search found fastest; the bare loop that keeps its memory has ours."""
    tried = json.loads((out / "search.json").read_text())["loops"][name if name in SEARCHED else "ours"][label]
    chosen = max(tried, key=lambda t: t["tokens_per_processor_second"])
    return Choice(chosen["precision"], chosen["compiled"], chosen["micro"])


def run_loops(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """All loops at every size, in turns; written down size by size."""
    path, names, peaks = out / "loops.json", list(LOOPS), peak(options.threads)
    known = json.loads(path.read_text())["sizes"] if path.exists() and not options.anew else []
    rows = {row["size"]: row for row in known}
    print("matmul peak: " + ", ".join(f"{n} {p / 1e9:.0f} GFLOP/s" for n, p in peaks.items()), flush=True)
    for label in options.sizes:
        choices = {n: best(out, n, label) for n in names}
        turns = Turns(serve, [(n, label, choices[n], options.threads, False) for n in names])
        steps = max(2, round(options.seconds / turns.run([0], 2)[0][1] * 2))
        laps = []
        for number in range(options.rounds):
            order = [(number + i) % len(names) for i in range(len(names))]
            seconds = {place: turns.run([place], steps)[0] for place in order}
            laps.append([[steps * BATCH_TOKENS / s for s in seconds[place]] for place in range(len(names))])
        turns.end()
        wall, used = np.array(laps).transpose(2, 0, 1)
        peak_rate = peaks["bf16"] / token_flops(label)
        rows[label] = {
            "size": label,
            "params": counted(label).params,
            "threads": options.threads,
            "rounds": options.rounds,
            "steps": steps,
            "peak_flops": peaks,
            "loops": {n: compared(wall, used, at, choices[n], peak_rate) for at, n in enumerate(names)},
            "profile_of_ours": begin(serve, "ours", label, choices["ours"], options.threads, True).recv(),
        }
        for name, held in rows[label]["loops"].items():
            told = f"{held['ours_over_it']:.3f} ({held['ours_over_it_lowest']:.3f}-{held['ours_over_it_highest']:.3f})"
            rate = held["tokens_per_processor_second"]
            print(
                f"{label} {name} ({held['settings']}): {rate:.0f} a processor second, ours over it {told}", flush=True
            )
        write(path, {"sizes": [rows[s] for s in SIZES if s in rows]})
    return {"sizes": [rows[s] for s in SIZES if s in rows]}


def compared(wall: np.ndarray, used: np.ndarray, at: int, choice: Choice, peak_rate: float) -> dict[str, Any]:
    """One loop's tokens per second [rounds, loops] beside ours, the first; `peak_rate` is the bf16 matmul peak's."""
    ratio, rate = used[:, 0] / used[:, at], float(np.median(used[:, at]))
    return {
        "settings": choice.label(),
        "tokens_per_processor_second": rate,
        "lowest": float(used[:, at].min()),
        "highest": float(used[:, at].max()),
        "ours_over_it": float(np.median(ratio)),
        "ours_over_it_lowest": float(ratio.min()),
        "ours_over_it_highest": float(ratio.max()),
        "tokens_per_second": float(np.median(wall[:, at])),
        "ours_over_it_by_wall_clock": float(np.median(wall[:, 0] / wall[:, at])),
        "share_of_bf16_peak": rate / peak_rate,
    }


def run_workers(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    from benchmarks.throughput_workers import compare

    return compare(options.rounds, options.seconds, best(out, "ours", "5.8M"))


def run_stages(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    from benchmarks.throughput_stages import compare

    return compare()


def draw(out: Path) -> None:
    """Tokens per second of every loop by size, and what two workers and whole stages keep of bare loops."""
    rows = json.loads((out / "loops.json").read_text())["sizes"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=(2.2, 1))
    names = list(rows[0]["loops"])
    for place, name in enumerate(names):
        each = [row["loops"][name] for row in rows]
        base = [row["loops"]["ours"]["tokens_per_processor_second"] for row in rows]
        height = [e["tokens_per_processor_second"] / b for e, b in zip(each, base, strict=True)]
        spans = [[h - e["lowest"] / b, e["highest"] / b - h] for h, e, b in zip(height, each, base, strict=True)]
        x = np.arange(len(rows)) + (place - (len(names) - 1) / 2) * 0.16
        left.bar(x, height, 0.15, yerr=np.maximum(0, np.array(spans).T), color=COLOURS[place], label=name, capsize=2)
        for at, e in zip(x, each, strict=True):
            told = f"{e['tokens_per_processor_second'] / 1000:.1f}k"
            left.text(at, 0.02, told, ha="center", va="bottom", fontsize=6.5, rotation=90, color="white")
    left.set_xticks(range(len(rows)), [f"{r['size']} matmul parameters" for r in rows])
    left.set_ylabel("tokens per second over ours")
    left.axhline(1, color="#1b1d22", lw=0.7)
    left.set_ylim(0, 1.45)
    left.legend(fontsize=7, ncols=3, loc="upper left", frameon=False)
    bars = []
    for name in ("workers", "stages"):
        path = out / f"{name}.json"
        if path.exists():
            held = json.loads(path.read_text())
            bars += [(r["label"], r["ratio"], r["ratio_lowest"], r["ratio_highest"]) for r in held["ratios"]]
    for place, (label, ratio, low, high) in enumerate(reversed(bars)):
        right.barh(place, ratio, 0.6, xerr=[[ratio - low], [high - ratio]], color=COLOURS[0], capsize=2)
        right.text(0.02, place, f"{label}: {ratio:.2f}", va="center", fontsize=7.5, color="white")
    right.axvline(0.9, color="#d55e00", lw=1, ls="--")
    right.set_yticks([])
    right.set_xlim(0, 1.15)
    right.set_xlabel("useful tokens per second\nover those of bare loops")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(out / "throughput.png", dpi=160)


def write(path: Path, result: dict[str, Any]) -> None:
    machine = describe("torch", "deepspeed", "transformers", "accelerate", "ray")
    path.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one loop's turn in a round, about")
    parser.add_argument("--threads", type=int, default=1, help="of every loop; hosts of small segments use one")
    parser.add_argument("--anew", action="store_true", help="search again where settings are known")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/throughput"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = {"search": run_search, "loops": run_loops, "workers": run_workers, "stages": run_stages}
    for part in PARTS:
        if part == "figure" and part in options.part:
            draw(options.out)
        elif part in options.part:
            write(options.out / f"{part}.json", runs[part](options, options.out))


if __name__ == "__main__":
    main()
