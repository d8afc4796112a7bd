"""What one GPU makes of the training path: correct or not, how fast beside plain loops, and what a checkpoint costs.

    python -m benchmarks.gpu [--phases NAME ...] [--seconds 540] [--out FOLDER] [--cpu]

Every measurement prints a line of JSON and rewrites FOLDER/gpu.json, so a run that is cut keeps what it has. A
phase begins only where its estimate still fits into --seconds, and an error ends its phase alone. `--cpu` takes tiny
shapes through the same code anywhere. Results that FOLDER holds of other phases are kept.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_figure import draw
from benchmarks.gpu_job import whole_job
from benchmarks.gpu_loops import Device, Setup, ours, plain, plain_losses
from benchmarks.machine import describe
from splitray.training import varlen

Row = dict[str, Any]
SHAPES = {  # of llm-foundry's and OLMo-core's sizes
    "125M": {"hidden": 768, "layers": 12, "heads": 12},
    "350M": {"hidden": 1024, "layers": 24, "heads": 16},
    "1.3B": {"hidden": 2048, "layers": 24, "heads": 16},
}
TINY = {"hidden": 64, "layers": 2, "heads": 2}
# Hidden, layers, length; heads of width 64. The first two are of `gpu_job`.
LADDER = {"0.9M": (128, 2, 256), "4M": (256, 4, 256), "20M": (384, 10, 2048), "60M": (640, 12, 2048)}


@dataclass
class Bench:
    """The device, and the setups that fit it."""

    device: Device
    out: Path

    def setup(self, label: str, micro: int = 4) -> Setup:
        """A global batch of 16 sequences of 2,048 tokens; of 4 by 64 where a CPU stands in."""
        if not self.device.cuda:
            return Setup(TINY, sequences=4, micro=2, length=64, vocab=512)
        return Setup(SHAPES[label], sequences=16, micro=micro, length=2048, vocab=50304)

    def small(self, precision: str = "bf16") -> Setup:
        shape = {"hidden": 256, "layers": 4, "heads": 4} if self.device.cuda else TINY
        return Setup(shape, 8, 4, 256 if self.device.cuda else 64, 8192 if self.device.cuda else 512, precision)


def environment(bench: Bench) -> Iterator[Row]:
    query = "nvidia-smi --query-gpu=driver_version,clocks.sm,power.limit --format=csv,noheader"
    driver = subprocess.run(query.split(), capture_output=True, text=True).stdout.strip() if bench.device.cuda else None
    yield {"gpu": bench.device.name, "driver": driver, "cuda": torch.version.cuda} | describe(
        "torch", "deepspeed", "transformers"
    )


def ceilings(bench: Bench) -> Iterator[Row]:
    """What the machine gives: a matrix product, copies to the host, a hash."""
    device = bench.device
    width = 8192 if device.cuda else 256
    a, b = (torch.randn(width, width, device=device.torch, dtype=torch.bfloat16) for _ in range(2))
    product = _seconds(device, lambda: a @ b, 10)
    copied = torch.empty(2**30 if device.cuda else 2**20, dtype=torch.uint8, device=device.torch)
    told: Row = {"matmul_tflops": round(2 * width**3 / product / 1e12, 2)}
    told["to_host_pageable_gbps"] = round(copied.numel() / _seconds(device, copied.cpu, 2) / 1e9, 2)
    if device.cuda:
        pinned = torch.empty(copied.numel(), dtype=torch.uint8, pin_memory=True)
        seconds = _seconds(device, lambda: pinned.copy_(copied, non_blocking=True), 2)
        told["to_host_pinned_gbps"] = round(copied.numel() / seconds / 1e9, 2)
    data = bytes(copied.numel())
    told["sha256_gbps"] = round(len(data) / _seconds(device, lambda: hashlib.sha256(data).digest(), 1) / 1e9, 2)
    yield told


def correct(bench: Bench) -> Iterator[Row]:
    """Losses of five steps at ZeRO 0 and 1 against a plain loop, in both precisions."""
    for precision in ("fp32", "bf16"):
        setup = bench.small(precision)
        losses = {"plain": plain_losses(bench.device, setup, 5, 1e-3)}
        for stage in (0, 1):
            engine = bench.device.engine(replace(setup, stage=stage))
            losses[f"zero {stage}"] = [engine.step(setup.batch(), 1e-3).loss for _ in range(5)]
            engine.close()
        worst = max(abs(a - b) for row in losses.values() for a, b in zip(row, losses["plain"], strict=True))
        yield {"precision": precision, "worst": worst} | {k: [round(x, 5) for x in v] for k, v in losses.items()}


def kernels(bench: Bench) -> Iterator[Row]:
    """The attention kernels of a step, with documents that see each other and with documents apart."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if bench.device.cuda else ProfilerActivity.CPU
    for apart in (False, True):
        setup = replace(bench.small(), apart=apart)
        engine, tokens = bench.device.engine(setup), setup.batch()
        engine.step(tokens, 1e-4)
        with profile(activities=[activity]) as seen:
            engine.step(tokens, 1e-4)
            bench.device.sync()
        engine.close()
        words = ("flash", "fmha", "attention", "cutlassf", "splitray")
        yield {"apart": apart, "kernels": sorted({e.key[:90] for e in seen.key_averages() if _any(e.key, words)})}


def rates(bench: Bench, label: str, micro: int = 4, compiled: bool = True) -> Iterator[Row]:
    """Ours and a plain loop on the same weights and batch."""
    setup = replace(bench.setup(label, micro), compiled=compiled)
    for loop, measure in (("ours", ours), ("plain", plain)):
        yield {"loop": loop, "compiled": compiled, "micro": micro} | measure(bench.device, setup)
        torch._dynamo.reset()


def alone(bench: Bench) -> Iterator[Row]:
    """Ours without the plain loops, by sequences at once."""
    for micro in (4, 8):
        yield {"micro": micro} | ours(bench.device, replace(bench.setup("1.3B", micro), compiled=True))


def bound(bench: Bench) -> Iterator[Row]:
    """A compiled plain loop all in bfloat16: what no loop with fp32 master weights can pass."""
    setup = replace(bench.setup("1.3B"), compiled=True)
    yield {"loop": "plain, pure bf16", "compiled": True} | plain(bench.device, setup, pure=True)
    torch._dynamo.reset()


def zero(bench: Bench) -> Iterator[Row]:
    """What ZeRO 1 costs in a world of one."""
    yield {"zero_stage": 1} | ours(bench.device, replace(bench.setup("1.3B"), stage=1))


def whole(bench: Bench) -> Iterator[Row]:
    """The model compiled as one, beside the blocks of `rates`."""
    yield {"whole": True} | ours(bench.device, replace(bench.setup("1.3B"), compiled=True, whole=True))
    torch._dynamo.reset()


def recompute(bench: Bench) -> Iterator[Row]:
    """What activation checkpointing saves and costs, and whether the losses are the same."""
    losses: dict[str, list[float]] = {}
    for how in ("none", "selective", "full"):
        setup = replace(bench.setup("1.3B"), recomputed=how)
        row = {"recomputed": how} | ours(bench.device, setup)
        engine = bench.device.engine(replace(bench.small("fp32"), recomputed=how))
        losses[how] = [engine.step(bench.small().batch(), 1e-3).loss for _ in range(3)]
        engine.close()
        yield row | {"same_losses": losses[how] == losses["none"]}


def masks(bench: Bench) -> Iterator[Row]:
    """Documents apart, by boundaries and by a mask: losses of one model, then steps beside plain causal ones."""
    yield {"losses": _apart(bench, bounded=True), "losses_by_mask": _apart(bench, bounded=False)}
    for apart, bounded in ((False, True), (True, True), (True, False)):
        setup = replace(bench.setup("1.3B"), apart=apart, compiled=True)
        with _bounded(bounded):
            yield {"apart": apart, "bounded": apart and bounded} | ours(bench.device, setup)
        torch._dynamo.reset()


def _apart(bench: Bench, bounded: bool) -> list[float]:
    """Losses of five steps with documents apart."""
    setup = replace(bench.small(), apart=True)
    with _bounded(bounded):
        engine = bench.device.engine(setup)
        losses = [round(engine.step(setup.batch(), 1e-3).loss, 5) for _ in range(5)]
        engine.close()
    return losses


@contextmanager
def _bounded(wanted: bool) -> Iterator[None]:
    """Have attention take boundaries where it can, or masks."""
    usable = varlen.usable
    varlen.usable = usable if wanted else lambda device: False
    try:
        yield
    finally:
        varlen.usable = usable


def checkpoint(bench: Bench) -> Iterator[Row]:
    """How long a checkpoint stalls, writes and loads; and whether the steps after it are the same."""
    from splitray.storage.store import Store
    from splitray.training import state as states
    from splitray.training.engine import Engine
    from splitray.training.state import load_weights

    device, setup = bench.device, bench.setup("1.3B")
    device.clear()
    engine, batches = device.engine(setup), [setup.batch(seed) for seed in range(6)]
    for tokens in batches[:2]:
        engine.step(tokens, 3e-4)
    step = _seconds(device, lambda: engine.step(batches[2], 0.0), 2)
    stalls, beside = [], []
    for _ in range(2):  # the first one allocates the pinned memory
        begun = time.perf_counter()
        held = engine.state(moments=True)
        stalls.append(time.perf_counter() - begun)
        beside.append(_seconds(device, lambda: engine.step(batches[2], 0.0), 1))
    size = 12 * sum(weight.numel() for weight in held.weights.values())
    begun = time.perf_counter()
    held = engine.state(moments=True)
    held.settle()
    copied = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        begun = time.perf_counter()
        published = states.publish(store, "part-x", held, {})
        written, begun = time.perf_counter() - begun, time.perf_counter()
        loaded = states.load(published)
        read = time.perf_counter() - begun
    after = [engine.step(tokens, 3e-4).loss for tokens in batches[3:5]]
    engine.close()
    del engine
    device.clear()
    model = device.model(setup)
    load_weights(model, loaded)
    engine = Engine(model, setup.recipe, setup.settings)
    engine.restore(loaded)
    again = [engine.step(tokens, 3e-4).loss for tokens in batches[3:5]]
    engine.close()
    yield {
        "bytes": size,
        "stall_first_s": round(stalls[0], 3),
        "stall_s": round(stalls[1], 3),
        "step_s": round(step, 3),
        "step_beside_the_copy_s": [round(seconds, 3) for seconds in beside],
        "copy_gbps": round(size / copied / 1e9, 2),
        "write_s": round(written, 2),
        "load_s": round(read, 2),
        "losses": after,
        "same_losses": after == again,
    }


def same_bits(bench: Bench) -> Iterator[Row]:
    """Two runs of four steps from the same weights, as they are and with `training.exact`, and what that costs."""
    from splitray.training.exact import use_exact

    setup = replace(bench.setup("1.3B"), compiled=bench.device.cuda)
    for deterministic in (False, True):
        use_exact(deterministic)
        try:
            weights, seconds = zip(*(_steps(bench.device, setup) for _ in range(2)), strict=True)
        finally:
            use_exact(False)
        same = all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
        step = round(1e3 * min(seconds), 1)
        yield {"deterministic": deterministic, "same": same, "step_ms": step}
        del weights
        torch._dynamo.reset()


def _steps(device: Device, setup: Setup) -> tuple[list[torch.Tensor], float]:
    """The weights after six steps, and the seconds of one of the last three."""
    device.clear()
    engine, tokens = device.engine(setup), setup.batch()
    for _ in range(3):
        engine.step(tokens, 1e-3)
    seconds = _seconds(device, lambda: engine.step(tokens, 1e-3), 3)
    weights = [parameter.detach().clone() for parameter in engine.lm.parameters()]
    engine.close()
    return weights, seconds


def ladder(bench: Bench) -> Iterator[Row]:
    """Steps of small models, which a GPU has trouble to be busy with, and whether compiling them is worth its time."""
    for label, (hidden, layers, length) in LADDER.items() if bench.device.cuda else [("tiny", (64, 2, 64))]:
        sequences = 16384 // length if bench.device.cuda else 4
        for compiled in (False, True):
            shape = {"hidden": hidden, "layers": layers, "heads": max(2, hidden // 64)}
            setup = Setup(shape, sequences, sequences, length, 4096, compiled=compiled)
            yield {"size": label, "compiled": compiled} | ours(bench.device, setup)
            torch._dynamo.reset()


def profile_of_a_step(bench: Bench) -> Iterator[Row]:
    """How long the device is busy in a step, and with what."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if bench.device.cuda else ProfilerActivity.CPU
    setup = replace(bench.setup("1.3B", micro=8), compiled=bench.device.cuda)
    bench.device.clear()
    engine, tokens = bench.device.engine(setup), setup.batch()
    for _ in range(3):
        engine.step(tokens, 3e-4)
    bench.device.sync()
    begun = time.perf_counter()
    with profile(activities=[activity]) as seen:
        engine.step(tokens, 3e-4)
        bench.device.sync()
    wall = time.perf_counter() - begun
    engine.close()
    kind = "self_device_time_total" if bench.device.cuda else "self_cpu_time_total"
    spent = sorted(((e.key[:70], getattr(e, kind) / 1e6) for e in seen.key_averages()), key=lambda each: -each[1])
    busy = sum(seconds for _, seconds in spent)
    yield {"wall_s": round(wall, 3), "busy_s": round(busy, 3), "most": {k: round(s, 4) for k, s in spent[:40]}}


def job(bench: Bench) -> Iterator[Row]:
    yield whole_job(bench.device.cuda, bench.out)


# By name: what is measured, and the seconds that it took on an H100 or is given there.
PHASES: dict[str, tuple[Callable[[Bench], Iterator[Row]], float]] = {
    "environment": (environment, 5),
    "ceilings": (ceilings, 10),
    "correct": (correct, 10),
    "kernels": (kernels, 5),
    "rates 1.3B": (partial(rates, label="1.3B"), 70),
    "rates 1.3B, 8 at once": (partial(rates, label="1.3B", micro=8), 70),
    "alone": (alone, 40),
    "profile": (profile_of_a_step, 15),
    "masks": (masks, 45),
    "same bits": (same_bits, 40),
    "checkpoint": (checkpoint, 85),
    "job": (job, 130),
    "recompute": (recompute, 60),
    "ladder": (ladder, 25),
    "rates 1.3B, eager": (partial(rates, label="1.3B", compiled=False), 40),
    "rates 350M": (partial(rates, label="350M"), 90),
    "rates 125M": (partial(rates, label="125M"), 60),
    "whole": (whole, 80),
    "zero": (zero, 40),
    "bound": (bound, 80),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument("--seconds", type=float, default=540.0, help="no phase begins that would end later")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    parser.add_argument("--cpu", action="store_true", help="tiny shapes, whatever the machine has")
    options = parser.parse_args()
    from splitray.training.process import join_world

    join_world()
    bench, begun, failed = Bench(Device(options.cpu), options.out), time.monotonic(), 0
    results = _read(options.out)
    for name in options.phases:
        measure, needs = PHASES[name]
        left = options.seconds - (time.monotonic() - begun)
        if bench.device.cuda and needs > left:
            print(json.dumps({"phase": name, "skipped": f"needs {needs:.0f} s, {left:.0f} s are left"}), flush=True)
            continue
        rows: list[Row] = []
        try:
            for row in measure(bench):
                rows.append(row)
                _write(options.out, results | {name: rows})
                print(json.dumps({"phase": name, "at": round(time.monotonic() - begun, 1)} | row), flush=True)
        except Exception as error:  # the next phases still tell something
            failed += 1
            rows.append({"error": f"{type(error).__name__}: {error}"[:600]})
            traceback.print_exc()
        results[name] = rows
        _write(options.out, results)
        bench.device.clear()
    draw(results, options.out)
    return 1 if failed else 0


def _read(folder: Path) -> dict[str, list[Row]]:
    file = folder / "gpu.json"
    held: dict[str, list[Row]] = json.loads(file.read_text()) if file.exists() else {}
    return held


def _write(folder: Path, results: dict[str, list[Row]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")


def _any(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text.lower() for word in words)


def _seconds(device: Device, work: Callable[[], object], times: int) -> float:
    """Seconds of one, over some, after one that does not count where there are several."""
    if times > 1:
        work()
    device.sync()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    device.sync()
    return (time.perf_counter() - begun) / times


if __name__ == "__main__":
    sys.exit(main())
