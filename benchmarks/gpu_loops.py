"""Models, batches and training steps that `gpu.py` times: ours, and plain PyTorch loops over the same Llama module."""

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from splitray.training.engine import Engine
from splitray.training.family import Size
from splitray.training.model import build, size
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import flops

# Dense bf16 with fp32 accumulation, by NVIDIA's data sheets (without sparsity); None where the device is not listed.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
_WARM, _TIMED = 3, 5  # steps before the clock, and under it


@dataclass(frozen=True)
class Setup:
    """A shape and a batch. `sequences` of `length` tokens make a global batch, `micro` of them go at once."""

    shape: dict[str, int]
    sequences: int
    micro: int
    length: int
    vocab: int
    precision: str = "bf16"
    stage: int = 0
    compiled: bool = False
    apart: bool = False  # documents do not attend to each other
    recomputed: str = "none"  # activations: none, selective, full
    whole: bool = False  # compiled as one, not block by block

    @property
    def settings(self) -> TrainingSettings:
        return TrainingSettings(
            sequence_length=self.length,
            global_batch_size=self.sequences,
            micro_batch_size=self.micro,
            precision=self.precision,
            zero_stage=self.stage,
            compile=("whole" if self.whole else "blocks") if self.compiled else False,
            activation_checkpointing=self.recomputed,
            attention_across_documents=not self.apart,
            learning_rate=3e-4,
            reference_hidden=self.shape["hidden"],
        )

    @property
    def recipe(self) -> Recipe:
        corpus = {"content_hash": "benchmark", "vocab": self.vocab, "end_token": 0}
        return recipe(ModelShape(**self.shape), self.settings, corpus, {"a": 1.0}, 0)

    @property
    def size(self) -> Size:
        return size(ModelShape(**self.shape), self.vocab, self.settings)

    def batch(self, seed: int = 0) -> np.ndarray:
        """Int64 [sequences, length + 1] of random tokens; where documents are apart, they end every 512 or so."""
        generator = np.random.default_rng(seed)
        tokens = generator.integers(1, self.vocab, (self.sequences, self.length + 1))
        if self.apart:
            tokens[generator.random(tokens.shape) < 1 / 512] = 0
        return tokens

    def told(self) -> dict[str, Any]:
        return asdict(self)


class Device:
    """The accelerator that is measured, or the CPU in its place."""

    def __init__(self, cpu: bool) -> None:
        self.cuda = torch.cuda.is_available() and not cpu
        self.torch = torch.device("cuda" if self.cuda else "cpu")
        self.name = torch.cuda.get_device_name() if self.cuda else "CPU"

    @property
    def peak_flops(self) -> float | None:
        return next((peak for name, peak in PEAK_FLOPS.items() if name in self.name), None)

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def clear(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self) -> float | None:
        """Peak of allocated memory since `clear`, GiB."""
        return round(torch.cuda.max_memory_allocated() / 2**30, 2) if self.cuda else None

    def model(self, setup: Setup) -> torch.nn.Module:
        """A model with the recipe's initial weights, drawn on the device: 1.3B take 15 s on a CPU."""
        with self.torch:
            return build(setup.recipe).to(self.torch)

    def engine(self, setup: Setup) -> Engine:
        return Engine(self.model(setup), setup.recipe, setup.settings)

    def rate(self, step: Callable[[], object], setup: Setup) -> dict[str, Any]:
        """Median seconds of a step, its spread, tokens a second, share of the peak and memory."""
        for _ in range(_WARM):
            step()
        self.sync()
        laps = []
        for _ in range(_TIMED):
            begun = time.perf_counter()
            step()
            self.sync()
            laps.append(time.perf_counter() - begun)
        seconds, tokens = float(np.median(laps)), setup.sequences * setup.length
        counted, peak = setup.size, self.peak_flops
        work = flops(counted.params, tokens, counted.layers, counted.hidden, setup.length)
        return {
            "step_ms": round(1e3 * seconds, 2),
            "spread_ms": round(1e3 * (max(laps) - min(laps)), 2),
            "tokens_per_second": round(tokens / seconds),
            "mfu": round(work / seconds / peak, 4) if peak else None,
            "peak_gib": self.memory(),
        }


def ours(device: Device, setup: Setup) -> dict[str, Any]:
    """Step rate of `splitray.training.engine`."""
    device.clear()
    begun = time.perf_counter()
    engine = device.engine(setup)
    start, tokens = time.perf_counter() - begun, setup.batch()
    begun = time.perf_counter()
    first = engine.step(tokens, 3e-4)
    first_seconds = time.perf_counter() - begun
    told = device.rate(lambda: engine.step(tokens, 3e-4), setup)
    engine.close()
    return {
        "start_s": round(start, 1),
        "first_step_s": round(first_seconds, 1),
        "loss": round(first.loss, 4),
        "taken": first.taken,
        "compiled_as": engine.compiled,
        **told,
    }


def plain(device: Device, setup: Setup, pure: bool = False) -> dict[str, Any]:
    """Step rate of a loop in nanoGPT's manner: SDPA, autocast, fused AdamW; no DeepSpeed, no host sync.

    Args:
        pure: weights and moments in bfloat16 too: faster than anything that keeps fp32 master weights may be.
    """
    device.clear()
    model = device.model(setup)
    if pure:
        model = model.bfloat16()
    model.set_attn_implementation("sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    rows = torch.from_numpy(setup.batch()).to(device.torch)
    count = setup.sequences // setup.micro
    mixed = setup.precision == "bf16" and not pure

    def loss_of(part: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.torch.type, torch.bfloat16, enabled=mixed):
            logits = model(input_ids=part[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten())

    forward = torch.compile(loss_of, dynamic=False) if setup.compiled else loss_of

    def step() -> None:
        for part in rows.split(setup.micro):
            (forward(part) / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with torch.no_grad():
        first = float(loss_of(rows[: setup.micro]))
    return {"loss": round(first, 4), **device.rate(step, setup)}


def plain_losses(device: Device, setup: Setup, steps: int, rate: float) -> list[float]:
    """Losses of a plain loop with the engine's grouping of weight decay: what `Engine.step` must equal."""
    model = device.model(setup)
    model.set_attn_implementation("sdpa")
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8)
    rows, losses = torch.from_numpy(setup.batch()).to(device.torch), []
    count = setup.sequences // setup.micro
    for _ in range(steps):
        total = 0.0
        for part in rows.split(setup.micro):
            with torch.autocast(device.torch.type, torch.bfloat16, enabled=setup.precision == "bf16"):
                logits = model(input_ids=part[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten()) / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses
