"""Two gloo workers under ZeRO 1 and 2 against two independent processes of the same loop, at 5.8M parameters."""

import os
import tempfile
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.throughput_loops import BATCH_TOKENS, SEQUENCES, Choice, Enough, Profiling, Waiting, ours

SIZE = "5.8M"


def alone(choice: Choice, line: Connection) -> None:
    torch.set_num_threads(1)
    try:
        ours(Waiting(line), SIZE, choice)
    except Enough:
        line.close()


def member(rank: int, meet: str, stage: int, choice: Choice, profiled: bool, line: Connection) -> None:
    """One of two workers: the same work a step as alone, and gradients exchanged."""
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed looks for what a launcher would have set
    dist.init_process_group("gloo", store=dist.FileStore(meet, 2), rank=rank, world_size=2)
    try:
        ours(Profiling(line) if profiled else Waiting(line), SIZE, choice, 2 * SEQUENCES, stage)
    except Enough:
        line.close()


def compare(rounds: int, seconds: float, choice: Choice) -> dict[str, Any]:
    """Ratios of a group's tokens per second to the sum of two independent processes', side by side in turns."""
    from benchmarks.throughput import Turns

    with tempfile.TemporaryDirectory(prefix="splitray-throughput-") as folder:

        def pair(stage: int, profiled: bool) -> list[tuple[Any, ...]]:
            meet = str(Path(folder) / f"meet-{stage}-{profiled}")
            # ZeRO 2 exchanges the gradients of every micro-batch: it takes the batch whole
            own = replace(choice, micro=SEQUENCES) if stage == 2 else choice
            return [(rank, meet, stage, own, profiled) for rank in (0, 1)]

        apart = Turns(alone, [(choice,), (choice,)])
        groups = {stage: Turns(member, pair(stage, False)) for stage in (1, 2)}
        steps = max(2, round(seconds / apart.run([0, 1], 2)[0][0] * 2))
        laps = []
        for _ in range(rounds):
            independent = np.sum([steps * BATCH_TOKENS / np.array(s) for s in apart.run([0, 1], steps)], axis=0)
            both = [2 * steps * BATCH_TOKENS / np.max(g.run([0, 1], steps), axis=0) for g in groups.values()]
            laps.append([independent, *both])
        for turns in (apart, *groups.values()):
            turns.end()
        profiles = {stage: Turns(member, pair(stage, True)).first[0] for stage in groups}
    rates, by_processor = np.array(laps).transpose(2, 0, 1)
    ratios = []
    for place, stage in enumerate(groups, 1):
        ratio = rates[:, place] / rates[:, 0]
        label = f"2 workers, ZeRO {stage}"
        ratios.append(
            {
                "label": label,
                "ratio": float(np.median(ratio)),
                "ratio_lowest": float(ratio.min()),
                "ratio_highest": float(ratio.max()),
                "ratio_by_processor_seconds": float(np.median(by_processor[:, place] / by_processor[:, 0])),
                "tokens_per_second": float(np.median(rates[:, place])),
                "profile_of_rank_0": profiles[stage],
            }
        )
        print(f"{label}: {np.median(ratio):.3f} of two processes ({ratio.min():.3f} to {ratio.max():.3f})", flush=True)
    independent = float(np.median(rates[:, 0]))
    return {"size": SIZE, "settings": choice.label(), "independent_tokens_per_second": independent, "ratios": ratios}
