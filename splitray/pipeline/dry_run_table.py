"""The table of a dry run and the sentences below it, of any job: what timetables come to."""

import math
from collections.abc import Sequence

from rich.table import Table

from splitray.executor.schedule import Scheduler, foretell
from splitray.pipeline.dry_run_result import DryRunPart
from splitray.pipeline.tree import Part
from splitray.results.ledger import Price
from splitray.units import counted, duration, human


def plain(part: Part, scheduler: Scheduler, price: Price | None) -> DryRunPart:
    """A line of the table as numbers.

    Args:
        price: of a worker for an hour.
    """
    tables = [foretell(each, scheduler) for each in part.rounds]
    held, used = sum(t.held for t in tables) / 3600, sum(t.used for t in tables) / 3600
    return DryRunPart(
        part.name,
        len(part.segments),
        part.tokens,
        part.leaf_tokens,
        part.reused,
        part.flops,
        _disk(part),
        math.ceil(max((t.peak for t in tables), default=0.0) - 1e-6),
        sum(t.makespan for t in tables),
        held,
        used,
        None if price is None else held * price.per_hour,
    )


def table_of(parts: Sequence[DryRunPart], gpu: bool) -> Table:
    """The tree and its cost."""
    table = Table(title="The tree", title_justify="left")
    table.add_column("what")
    device = "GPU" if gpu else "worker"
    names = ("segments", "tokens to train", "from scratch", "reused", "FLOPs", "disk")
    for name in (*names, f"peak {device}s", f"{device}-hours held", "used", "time"):
        table.add_column(name, justify="right")
    for part in parts:
        table.add_row(
            part.name,
            f"{part.segments}",
            human(part.tokens),
            human(part.tokens_from_scratch),
            human(part.tokens_reused),
            f"{part.flops:.2g}",
            f"{part.disk_bytes / 1e9:.3g} GB",
            f"{part.workers}",
            f"{part.worker_hours:.3g}",
            f"{part.utilisation:.0%}",
            duration(part.seconds),
        )
    return table


def timetable_words(scheduler: Scheduler) -> str:
    """What the times rest on."""
    speeds, device = scheduler.speeds, scheduler.speeds.accelerator
    said = f"Times are of a timetable on {scheduler.capacity:g} workers."
    known = len([params for params in speeds.rates if params])
    but = f", but for {counted(known, 'model')} whose speed is measured" if known else ""
    if 0 in speeds.rates:
        return f"{said} A worker trains {human(speeds.rates[0])} tokens/s, as resources.tokens_per_second says{but}."
    if not speeds.gpu:
        said += f" They assume {device.peak * speeds.training.threads:.2g} FLOP/s a worker ({device.source})"
    else:
        share = device.compiled if speeds.compiled(max(speeds.sizes)) else device.eager
        said += f" Of the largest model they assume {share:.1%} of the {device.name}'s {device.peak:.3g} FLOP/s"
        said += f" ({device.source})"
    return f"{said}{but}. Set resources.tokens_per_second_by_shape to measured rates."


def together(parts: Sequence[DryRunPart], gpu: bool, price: Price | None) -> str:
    """One run: all lines, of several splits the dearest."""
    device, held = "GPU" if gpu else "worker", sum(part.worker_hours for part in parts)
    used, seconds = sum(part.worker_hours_used for part in parts), sum(part.seconds for part in parts)
    peak = max(part.workers for part in parts)
    said = f"All lines together, of several splits the dearest: {duration(seconds)}, at most {peak} {device}s, "
    said += f"{held:.1f} {device}-hours held, {used / held if held else 1:.0%} of them used"
    if price is not None:
        said += f", {held * price.per_hour:.2f} {price.currency} at {price.per_hour:.4g} an hour ({price.source})"
    return f"{said}. Work of the corpus and of the law is not counted."


def _disk(part: Part) -> float:
    """Bytes of snapshots: fp32 weights, and two moments while children may start from them."""
    return sum(part.sizes[s.recipe.hash].total * (4.0 if s.final else 12.0) for s in part.segments)
