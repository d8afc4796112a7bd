"""Tokens per second of the training loop against a bare PyTorch loop of the same model, in one process.

    python benchmarks/throughput.py [--rounds 7] [--out benchmarks/results/throughput]

Both train the same Llama module on the same batches with fused AdamW and gradient clipping at the same precision.
Rounds alternate (ours, bare, ours, bare, ...), so that a machine whose speed drifts drifts for both; the figure is the
median of the rounds' ratios. What ours does beyond the bare loop is inside the clock: the data order drawn sequence by
sequence, the learning rate of every step, the finite check, the stop wish, the seed, progress.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from splitray.training import engine as engines
from splitray.training.data import Order
from splitray.training.loop import _seed
from splitray.training.model import build, size
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import MIXTURE, Phase, Segment, recipe

SHAPES = {"0.4M": (64, 3), "1.3M": (128, 4), "5.8M": (256, 6)}
VOCAB, LENGTH, SEQUENCES, STEPS = 2048, 256, 16, 4


def ours(segment: Segment, order: Order, engine: engines.Engine) -> float:
    """Seconds for STEPS steps of the loop's body."""
    begun = time.perf_counter()
    tokens = 0
    for _ in range(STEPS):
        _seed(segment, tokens, 0)
        batch = order.sequences(segment.source, segment.cursor(tokens), SEQUENCES)
        loss = engine.step(batch, segment.learning_rate(tokens)).loss
        assert np.isfinite(loss)
        tokens += segment.recipe.batch_tokens
    return time.perf_counter() - begun


def bare(model: Any, optimizer: Any, batches: list[torch.Tensor], precision: str) -> float:
    """The same steps with nothing around them; batches are ready-made."""
    begun = time.perf_counter()
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return time.perf_counter() - begun


def compare(label: str, precision: str, threads: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    hidden, layers = SHAPES[label]
    settings = TrainingSettings(
        sequence_length=LENGTH, batch_sequences=SEQUENCES, micro_batch=SEQUENCES, precision=precision, warmup_tokens=0
    )
    tokens = np.random.default_rng(0).integers(1, VOCAB, 400_000).astype(np.uint16)
    weights = {"a": 0.5, "b": 0.5}
    corpus = {"content_hash": "benchmark", "vocab": VOCAB, "end_token": 0}
    made = recipe(ModelShape(hidden=hidden, layers=layers), settings, corpus, weights, 0)
    segment = Segment(made, (Phase(MIXTURE, 10**9),))
    order = Order({n: [tokens] for n in weights}, weights, LENGTH, 0)
    engines.join_world()
    engine = engines.Engine(build(made.values), made.values, settings)
    model = build(made.values)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batches = [torch.from_numpy(order.sequences(MIXTURE, i * SEQUENCES, SEQUENCES)) for i in range(STEPS)]
    ours(segment, order, engine), bare(model, optimizer, batches, precision)
    laps = [(ours(segment, order, engine), bare(model, optimizer, batches, precision)) for _ in range(rounds)]
    engine.close()
    drawn = STEPS * LENGTH * SEQUENCES
    ratios = [b / o for o, b in laps]
    return {
        "size": label,
        "params": size(ModelShape(hidden=hidden, layers=layers), VOCAB, True).params,
        "precision": precision,
        "threads": threads,
        "ours": drawn / float(np.median([o for o, _ in laps])),
        "bare": drawn / float(np.median([b for _, b in laps])),
        "ratio": float(np.median(ratios)),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of either; hosts of small segments use one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/throughput"))
    options = parser.parse_args()
    rows = []
    for label in SHAPES:
        for precision in ("fp32", "bf16"):
            row = compare(label, precision, options.threads, options.rounds)
            rows.append(row)
            print(
                f"{label} {precision}: ours {row['ours']:.0f} tokens/s, bare {row['bare']:.0f}, "
                f"ratio {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})",
                flush=True,
            )
    options.out.mkdir(parents=True, exist_ok=True)
    machine = describe("torch", "deepspeed", "transformers")
    (options.out / "loop.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
