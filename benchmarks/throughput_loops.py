"""The training loops that `throughput.py` compares: each trains until its clock has seen enough.

Every loop calls its `tick` before every optimizer step and nothing else of ours, so that what one step costs in it,
data and bookkeeping included, lies between two ticks.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compact_gpt import Shape
from benchmarks.compact_gpt import train as train_compact
from splitray.training.data import Order
from splitray.training.model import build
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import MIXTURE, Phase, Segment

SIZES = {"0.4M": (64, 3), "1.3M": (128, 4), "5.8M": (256, 6)}  # hidden, layers; heads of width 32
VOCAB, LENGTH, SEQUENCES = 4096, 256, 16
BATCH_TOKENS = LENGTH * SEQUENCES
WARM = 3  # steps before the first clock: compilation, optimizer states, memory


class Enough(Exception):
    """The clock has seen what it wanted."""


@dataclass(frozen=True)
class Choice:
    """How a loop is run. `compiled`: by torch.compile; `micro`: sequences at once, of the batch's 16 a worker."""

    precision: str = "bf16"
    compiled: bool = True
    micro: int = SEQUENCES

    def label(self) -> str:
        return f"{self.precision}, {'compiled' if self.compiled else 'eager'}, {self.micro} x {LENGTH}"


def tokens(count: int = 400_000) -> np.ndarray:
    return np.random.default_rng(0).integers(1, VOCAB, count).astype(np.uint16)


def segment(size: str, choice: Choice, sequences: int = SEQUENCES) -> tuple[TrainingSettings, Segment]:
    """Our settings, and a segment of that size without an end."""
    hidden, layers = SIZES[size]
    settings = TrainingSettings(
        sequence_length=LENGTH,
        global_batch_size=sequences,
        micro_batch_size=choice.micro,
        precision=choice.precision,
        compile=choice.compiled,
        checkpoint_seconds=1e9,
    )
    corpus = {"content_hash": "benchmark", "vocab": VOCAB, "end_token": 0}
    made = recipe(ModelShape(hidden=hidden, layers=layers), settings, corpus, {"a": 0.5, "b": 0.5}, 0)
    return settings, Segment(made, (Phase(MIXTURE, 10**12),))


def ours(tick: Callable[[], None], size: str, choice: Choice, sequences: int = SEQUENCES, stage: int = 0) -> None:
    """The loop itself, `splitray.training.loop.train`, with its data order, hooks and checks."""
    from splitray.storage.store import Store
    from splitray.training.loop import Hooks, train
    from splitray.training.process import keep_memory

    keep_memory()  # as every worker does
    settings, endless = segment(size, choice, sequences)
    order = Order({n: [tokens()] for n in ("a", "b")}, {"a": 0.5, "b": 0.5}, LENGTH, 0)
    folder = Path(tempfile.mkdtemp(prefix="splitray-throughput-"))
    first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    asked = 0 if first else 1  # the first rank is asked once before the engine starts, then all before every step

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked > 1:
            tick()
        return False

    try:
        staged = settings.model_copy(update={"zero_stage": stage})
        train(endless, order, Store(folder), staged, Hooks(stop=stop))
    finally:
        shutil.rmtree(folder)


def bare(tick: Callable[[], None], size: str, choice: Choice) -> None:
    """The same Llama module in a plain PyTorch loop over ready-made batches."""
    model = build(segment(size, choice)[1].recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())

    step = torch.compile(loss_of, dynamic=False) if choice.compiled else loss_of
    batches = [torch.from_numpy(b).split(choice.micro) for b in rows_of(8)]
    while True:
        for batch in batches:
            tick()
            for rows in batch:
                with torch.autocast("cpu", torch.bfloat16, enabled=choice.precision == "bf16"):
                    loss = step(rows) / len(batch)
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()


def kept(tick: Callable[[], None], size: str, choice: Choice) -> None:
    """The bare loop in a process that keeps its memory and at our settings: tells that part of the difference apart."""
    from splitray.training.process import keep_memory

    keep_memory()
    bare(tick, size, choice)


def rows_of(batches: int) -> np.ndarray:
    """Int64 [batches, SEQUENCES, LENGTH + 1]."""
    count = batches * SEQUENCES
    return tokens()[: count * (LENGTH + 1)].astype(np.int64).reshape(batches, SEQUENCES, LENGTH + 1)


def trainer(tick: Callable[[], None], size: str, choice: Choice) -> None:
    """Hugging Face Trainer on the same Llama module, everything but training switched off."""
    from accelerate.state import AcceleratorState
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Ticking(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            tick()

    AcceleratorState._reset_state(True)
    rows = [torch.from_numpy(r[:-1]) for r in rows_of(64).reshape(-1, LENGTH + 1)]
    arguments = TrainingArguments(
        output_dir=str(Path(tempfile.gettempdir()) / "splitray-throughput-trainer"),
        use_cpu=True,
        bf16=choice.precision == "bf16",
        torch_compile=choice.compiled,
        per_device_train_batch_size=choice.micro,
        gradient_accumulation_steps=SEQUENCES // choice.micro,
        optim="adamw_torch_fused",
        learning_rate=1e-3,
        adam_beta2=0.95,
        weight_decay=0.1,
        max_grad_norm=1.0,
        max_steps=10**6,
        lr_scheduler_type="constant",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        dataloader_pin_memory=False,
    )
    model = build(segment(size, choice)[1].recipe)
    data = [{"input_ids": r, "labels": r} for r in rows]
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Ticking()]).train()


def compact(tick: Callable[[], None], size: str, choice: Choice) -> None:
    """A compact GPT in nanoGPT's manner, of the same shapes."""
    hidden, layers = SIZES[size]
    shape = Shape(VOCAB, LENGTH, hidden, layers, max(2, hidden // 32))
    train_compact(shape, tokens(), SEQUENCES, choice.micro, choice.precision == "bf16", choice.compiled, tick)


LOOPS: dict[str, Callable[..., None]] = {
    "ours": ours,
    "Trainer": trainer,
    "bare": bare,
    "bare, memory kept": kept,
    "compact GPT": compact,
}


class Laps:
    """Processor seconds of a few steps after the first: what the search for a loop's settings goes by."""

    def __init__(self, steps: int) -> None:
        self.steps, self.at = steps, list[float]()

    def __call__(self) -> None:
        self.at.append(time.process_time())
        if len(self.at) == WARM + self.steps + 1:
            raise Enough

    def rate(self) -> float:
        """Tokens a processor second, by the median step."""
        return BATCH_TOKENS / float(np.median(np.diff(self.at[WARM:])))


def search(name: str, size: str, threads: int, steps: int, known: dict[Choice, float], answer: Connection) -> None:
    """Find a loop's settings one after the other: compilation, precision, micro-batch.

    Sends (choice, tokens a processor second) of each that is not `known`, None at the end. Processor seconds of one
    thread are what other programs on the machine disturb least.
    """
    torch.set_num_threads(threads)
    tried = dict(known)

    def measure(**change: Any) -> None:
        best = max(tried, key=lambda c: tried[c]) if tried else Choice()
        choice = replace(best, **change)
        if choice in tried:
            return
        torch._dynamo.reset()
        laps = Laps(steps)
        try:
            LOOPS[name](laps, size, choice)
        except Enough:
            tried[choice] = laps.rate()
            answer.send((choice, tried[choice]))

    measure(compiled=False)
    measure(compiled=True)
    measure(precision="fp32")
    for micro in (8, 4):
        measure(micro=micro)
    answer.send(None)


class Waiting:
    """A clock that a parent process winds up: it asks for steps and gets their (wall, processor) seconds."""

    def __init__(self, line: Connection) -> None:
        self.line, self.left, self.begun = line, WARM, (0.0, 0.0)

    def __call__(self) -> None:
        if self.left > 0:
            self.left -= 1
            return
        wall, used = now()
        self.line.send((wall - self.begun[0], used - self.begun[1]))
        self.left = self.line.recv() - 1
        if self.left < 0:
            raise Enough
        self.begun = now()


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class Profiling:
    """A clock that profiles a few steps after the first, and sends the share of their time by operator."""

    def __init__(self, line: Connection, steps: int = 3) -> None:
        self.line, self.steps, self.asked = line, steps, 0
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def __call__(self) -> None:
        self.asked += 1
        if self.asked == WARM + 1:
            self.begun = time.perf_counter()
            self.profiler.start()
        elif self.asked == WARM + 1 + self.steps:
            seconds = time.perf_counter() - self.begun
            self.profiler.stop()
            spent = [(e.key, e.self_cpu_time_total / 1e6 / seconds) for e in self.profiler.key_averages()]
            self.line.send(dict(sorted(spent, key=lambda e: -e[1])[:12]))
            raise Enough


def serve(name: str, size: str, choice: Choice, threads: int, profiled: bool, line: Connection) -> None:
    """Train in this process, `n` steps whenever the parent sends n; 0 ends it. The first message says it is warm.

    Where it is to be profiled, its first and only message is the profile.
    """
    torch.set_num_threads(threads)
    try:
        LOOPS[name](Profiling(line) if profiled else Waiting(line), size, choice)
    except Enough:
        line.close()
