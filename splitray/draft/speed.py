"""The training speed of this machine, measured for the models that are proposed.

As many processes train at once as a run would have workers: on two cores that share a memory bus, two workers are not
twice as fast as one. Each is a process of its own, which ends with what it imported.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from splitray.errors import StageError
from splitray.executor.machine import cpus
from splitray.training.model import size
from splitray.training.precision import PRECISIONS, faster, step_seconds
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import flops

_MOST = 8  # processes that measure: more tell nothing new
_STEPS, _WARM = 10, 3  # of a shape and precision, and of these not counted


@dataclass(frozen=True)
class Speed:
    """What a token costs a worker: `fixed` seconds, and `per_flop` seconds for each FLOP of the model.

    These are seconds of a processor. Beside other programs they take `busy` times as long.

    Args:
        workers: that train at once on this machine.
        accelerator: "cpu" or "gpu".
    """

    fixed: float
    per_flop: float
    busy: float
    workers: int
    accelerator: Literal["cpu", "gpu"]

    def seconds(self, flops_per_token: float) -> float:
        """Of one worker for a token, beside what else runs."""
        return self.busy * (self.fixed + self.per_flop * flops_per_token)


def measure_speed(shapes: Sequence[ModelShape], training: TrainingSettings, vocab: int) -> Speed:
    """The speed by two shapes, the smaller first. Takes half a minute.

    Raises:
        StageError: no process could train; the message has its last line.
    """
    import torch

    gpus = torch.cuda.device_count()
    workers = gpus or max(1, cpus() // training.threads)
    question = json.dumps([[s.model_dump() for s in shapes], training.model_dump(mode="json"), vocab, bool(gpus)])
    command = [sys.executable, "-m", "splitray.draft.speed", question]
    asked = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(1 if gpus else min(workers, _MOST))
    ]
    answers = [_answer(process) for process in asked]
    small, large = (float(np.mean([answer[place] for answer in answers])) for place in (0, 1))
    sizes = [size(shape, vocab, training) for shape in shapes]
    work = [flops(s.params, 1, s.layers, s.hidden, training.sequence_length) for s in sizes]
    slope = max(0.0, (large - small) / (work[1] - work[0]))
    busy = float(np.mean([answer[2] for answer in answers]))
    return Speed(max(small - slope * work[0], 0.0), slope, busy, workers, "gpu" if gpus else "cpu")


def _answer(process: "subprocess.Popen[str]") -> list[float]:
    output, errors = process.communicate()
    if process.returncode:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"the training speed could not be measured: {last}")
    answer: list[float] = json.loads(output.strip().splitlines()[-1])
    return answer


def _measure(question: str) -> list[float]:
    """Seconds a token of each shape in the faster precision, and how much longer the clock on the wall ran."""
    shapes, training, vocab, gpu = json.loads(question)
    settings = TrainingSettings(**training)
    tokens = min(settings.global_batch_size, 16) * settings.sequence_length
    clocks: list[tuple[float, float]] = []

    def seconds(shape: dict[str, Any], precision: str) -> float:
        laps = step_seconds(ModelShape(**shape), settings, vocab, precision, _STEPS)[_WARM:]
        clocks.extend(laps)
        return float(np.median([by_clock if gpu else own for by_clock, own in laps])) / tokens

    target = {precision: seconds(shapes[-1], precision) for precision in (("bf16",) if gpu else PRECISIONS)}
    precision = "bf16" if gpu else faster({p: 1.0 / spent for p, spent in target.items()})
    small = seconds(shapes[0], precision)
    by_clock, own = np.sum(clocks, axis=0)
    return [small, target[precision], 1.0 if gpu else max(1.0, float(by_clock / own))]


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1])))
