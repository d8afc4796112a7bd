"""What a checkpoint of a group costs, and a start from it: gathered on the first rank, and written by all ranks.

    python -m benchmarks.checkpoints [--out FOLDER] [--hidden 320] [--layers 8]

Two and four gloo workers hold a model at ZeRO 0 to 3. Each case counts the bytes that pass the network (of a network
namespace of its own, by the kernel's counters; null where there may be none), those that each rank reads of the store,
the memory that each rank needs on top of what it has, and the seconds. Reading starts an engine, whose own exchange
counts both times. "gather" is what splitray did before: DeepSpeed assembles every parameter and both
moments on every rank, the first rank keeps and writes them, and every rank reads all of it back. No GPU is needed. The
stall at 1.3B parameters is an estimate, by the copy rate that an H100 had to pinned memory.
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.machine import describe
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training import group
from splitray.training import state as states
from splitray.training.engine import Engine
from splitray.training.model import build
from splitray.training.process import join_world
from splitray.training.recipe import recipe
from splitray.training.restore import start_engine
from splitray.training.saving import Saver
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.shards import INDEX, MOMENTS
from splitray.training.tree import MIXTURE, Phase, Segment

Row = dict[str, Any]
WORLDS, STAGES = (2, 4), (0, 1, 2, 3)
PINNED = 54.7e9  # bytes/s from an H100 to pinned memory, measured; its states are not measured here
LARGE, EVERY = 1_312_655_360, 600.0  # parameters of the 1.3B model, and seconds between its checkpoints


@dataclass
class Case:
    """One rank's engine after a step, and where its states go."""

    segment: Segment
    settings: TrainingSettings
    engine: Engine
    store: Store


def main(given: argparse.Namespace) -> None:
    rows: list[Row] = []
    for world in WORLDS:
        rows += _group(world, given)
        print(json.dumps(rows[-1]), flush=True)
    if given.shared:
        rows = [{k: v for k, v in row.items() if k not in ("seconds", "stall_s")} for row in rows]
    told = {"machine": describe("torch", "deepspeed"), "rows": rows, "estimate at 1.3B": estimate()}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "checkpoints.json").write_text(json.dumps(told, indent=1) + "\n")


def estimate() -> list[Row]:
    """Seconds that training would stand still if no step hid the copy: 12 bytes a parameter over the ranks."""
    rows = []
    for ranks in (1, 8, 64):
        stall = 12 * LARGE / ranks / PINNED
        share = stall / EVERY
        rows.append({"ranks": ranks, "stall_s": round(stall, 4), "share_of_600_s": round(share, 6), "measured": False})
    return rows


def _group(world: int, given: argparse.Namespace) -> list[Row]:
    """Run all stages in one group of processes, in a network of their own where the kernel allows one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.checkpoints"]
        command += ["--hidden", str(given.hidden), "--layers", str(given.layers)]
        command += ["--write-only"] if given.write_only else []
        command += ["--ranks", str(world), "--folder", folder]
        alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if shutil.which("unshare") and subprocess.run([*alone, "true"], capture_output=True).returncode == 0:
            command = [*alone, *command, "--counted"]
        subprocess.run(command, check=True)
        rows: list[Row] = json.loads((Path(folder) / "rows.json").read_text())
    return rows


def start_ranks(arguments: argparse.Namespace) -> None:
    """The parent of a group: one process a rank."""
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "TMPDIR": arguments.folder}
    env |= {"MALLOC_MMAP_THRESHOLD_": str(1 << 18), "PYTHONWARNINGS": "ignore"}  # what is freed goes back at once
    command = [sys.executable, "-m", "benchmarks.checkpoints", *sys.argv[1:]]
    ranks = [
        subprocess.Popen([*command, "--rank", str(r)], env=env | {"LOCAL_RANK": str(r)}) for r in range(arguments.ranks)
    ]
    codes = [process.wait() for process in ranks]
    if any(codes):
        raise SystemExit("a rank failed")


def run_rank(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    folder, world = Path(arguments.folder), arguments.ranks
    meet = dist.FileStore(str(folder / "meet"), world)
    dist.init_process_group("gloo", store=meet, rank=arguments.rank, world_size=world)
    join_world()
    rows: list[Row] = []
    for stage in STAGES:
        rows += measure(_case(arguments, stage, folder / f"store-{stage}"), arguments.counted, arguments.write_only)
    if arguments.rank == 0:
        (folder / "rows.json").write_text(json.dumps(rows))
    dist.barrier()
    dist.destroy_process_group()


def _case(arguments: argparse.Namespace, stage: int, place: Path) -> Case:
    settings = TrainingSettings(
        sequence_length=32, global_batch_size=arguments.ranks, precision="fp32", zero_stage=stage, warmup_tokens=0
    )
    shape = ModelShape(hidden=arguments.hidden, layers=arguments.layers, heads=arguments.hidden // 64)
    made = recipe(shape, settings, {"content_hash": "benchmark", "vocab": 8192, "end_token": 0}, {"a": 1.0}, 0)
    segment = Segment(made, (Phase(MIXTURE, 2 * made.batch_tokens),))
    engine = Engine(build(made), made, settings)
    engine.step(np.random.default_rng(group.rank()).integers(1, 8192, (1, 33)), 1e-3)
    return Case(segment, settings, engine, Store(place))


def measure(case: Case, counted: bool, write_only: bool) -> list[Row]:
    """Both ways to write, and both to start again where that is wanted: one row each."""
    params = sum(p.numel() for p in build(case.segment.recipe).parameters())
    told = {"world": case.engine.world, "zero_stage": case.engine.stage, "state_bytes": 12 * params}
    rows = []
    for name, write, read in (("gather", _gather, _read_whole), ("shards", _write_shards, _read_ranges)):
        for what, action in (("write", write), ("read", read))[: 1 if write_only else 2]:
            rows.append({**told, "how": name, "what": what, **_watched(case, action, counted)})
    case.engine.close()
    return rows


def _watched(case: Case, action: Callable[[Case], Row], counted: bool) -> Row:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = _memory("VmRSS")
    dist.barrier()
    bytes_, began = _network(), time.perf_counter()
    told = action(case)
    own = {"peak_bytes": _memory("VmHWM") - before, **told}
    dist.barrier()
    seconds, passed = time.perf_counter() - began, _network() - bytes_
    every = group.all_of(own)
    ranks = {name: [one[name] for one in every] for name in own}
    return {"seconds": round(seconds, 3), "network_bytes": passed if counted else None, **ranks}


def _memory(name: str) -> int:
    """Of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _network() -> int:
    """Bytes that the loopback device of this network namespace has sent."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


def _gather(case: Case) -> Row:
    """As before: every parameter and moment assembled on all ranks, cloned and written on the first."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    engine, began = case.engine, time.perf_counter()
    engine.fragments()  # links the moments
    weights: dict[str, torch.Tensor] = {}
    moments: dict[str, torch.Tensor] = {}
    for name, param in engine.lm.named_parameters():
        for kind in (None, *MOMENTS):
            if engine.stage == 0:
                value = param if kind is None else engine.engine.optimizer.state[param][kind]
            else:
                value = safe_get_full_optimizer_state(param, kind) if kind else safe_get_full_fp32_param(param)
            if engine.rank == 0:
                (moments if kind else weights)[f"{kind}/{name}" if kind else name] = value.detach().cpu().clone()
    stall = time.perf_counter() - began
    key = case.segment.key.replace("seg-", "seg-old")
    state = states.State(weights, moments, engine.step_count)
    group.on_first_rank(lambda: states.publish(case.store, key, state, {}))
    return {"stall_s": round(stall, 4)}


def _write_shards(case: Case) -> Row:
    began = time.perf_counter()
    case.engine.shard(moments=True)
    stall = time.perf_counter() - began
    saver = Saver(case.segment, case.store, case.engine)
    saver.publish({})
    saver.close()
    return {"stall_s": round(stall, 4)}


def _read_whole(case: Case) -> Row:
    """As before: every rank loads all of the state, and sets its part."""
    held = case.store.find(case.segment.key.replace("seg-", "seg-old"))
    assert held is not None
    state = states.load(held)
    assert state.moments is not None
    model = build(case.segment.recipe)
    states.load_weights(model, state)
    engine = Engine(model, case.segment.recipe, case.settings)
    for fragment in engine.fragments():
        for kind in MOMENTS:
            whole = state.moments[f"{kind}/{fragment.name}"].reshape(-1)
            fragment.values[kind].copy_(whole[fragment.start : fragment.stop])
    engine.close()
    return {"store_bytes": held.bytes}


def _read_ranges(case: Case) -> Row:
    held = case.store.find(case.segment.key)
    assert held is not None
    with _counted() as counted:
        start_engine(case.segment, held, case.settings).close()
    return {"store_bytes": held.files[INDEX].bytes + sum(counted)}


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Bytes of every range that is read of the store in the block."""
    read, sizes = Folder.read_range, list[int]()

    def counting(folder: Folder, name: str, start: int, count: int) -> bytes:
        data = read(folder, name, start, count)
        sizes.append(len(data))
        return data

    with mock.patch.object(Folder, "read_range", counting):
        yield sizes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/checkpoints"))
    parser.add_argument("--hidden", type=int, default=320)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--write-only", action="store_true", help="do not start again from what was written")
    parser.add_argument("--shared", action="store_true", help="others use this machine: bytes only, no seconds")
    parser.add_argument("--ranks", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        run_rank(given)
    elif given.ranks is not None:
        start_ranks(given)
    else:
        main(given)
