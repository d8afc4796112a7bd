"""How a run of `configs/cluster-1b.yaml` grows from 8 to 1,024 GPUs: makespan, utilisation and cost, simulated.

    python -m benchmarks.simulate_cluster [--gpus 8 64 512] [--lifetimes 0 24] [--out DIR]

The tree, the coordinator, its pool, the timetable and the keys in the store are the real ones; workers are simulated,
see `benchmarks/simulated.py`. A lifetime is the hours after which a node is taken away, on average; 0: never. Beside
each simulation stands what the timetable foretold for it. What OUT holds is kept.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.simulated import Outcome, World, play
from splitray.config import Config, load
from splitray.executor.prices import worker_price
from splitray.executor.request import Request
from splitray.executor.schedule import Scheduler, foretell
from splitray.executor.timetable import Timetable
from splitray.pipeline.programme import Programme
from splitray.pipeline.scheduling import scheduler_of, speeds_of
from splitray.pipeline.tree import Part, Tree
from splitray.storage.store import Store

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "cluster-1b.yaml"
STAGES = ("ladder", "base", "specialists")
SPLIT = 0.25  # of the base and the specialists


@dataclass(frozen=True)
class Row:
    """A stage on so many GPUs, simulated and foretold; hours are GPU-hours but for the two makespans."""

    stage: str
    gpus: int
    lifetime: float | None
    hours: float
    foretold_hours: float
    foretold_used: float
    held: float
    used: float
    on_nodes: float
    nodes_taken: int
    tokens_redone: int
    cost: float

    @property
    def utilisation(self) -> float:
        """Of what workers held."""
        return self.used / self.held

    @property
    def node_utilisation(self) -> float:
        """Of what nodes were up for, idle ones and those that come included."""
        return self.used / self.on_nodes


def on(config: Config, gpus: int) -> Programme:
    """The run on so many GPUs: all of them for the base, as many as are a specialist's for each."""
    training = config.training
    base = min(gpus, training.global_batch_size)
    share = 1
    while 2 * share * config.corpus.domains <= gpus:
        share *= 2
    resources = config.resources.model_copy(
        update={"capacity": gpus, "base_workers": base, "specialist_workers": share, "accelerator": "gpu"}
    )
    return Programme.unbuilt(config.model_copy(update={"resources": resources}))


def stages(programme: Programme) -> tuple[dict[str, list[Request]], dict[str, Part]]:
    """The requests of each stage, and its part of the tree."""
    split, tree = programme.final().split(SPLIT), Tree(programme, None)
    base = programme.base(split)
    assert base is not None
    asked = {
        "ladder": [request for _, request in programme.ladder()],
        "base": [base],
        "specialists": programme.specialists(split),
    }
    return asked, {"ladder": tree.ladder(), "base": tree.base(split), "specialists": tree.specialists(split)}


def simulate(programme: Programme, world: World, seed: int = 0) -> tuple[list[Row], Scheduler]:
    """All stages on a simulated cluster."""
    scheduler = scheduler_of(programme, speeds_of(programme, True))
    asked, parts = stages(programme)
    told = {name: foretell(part.rounds[0], scheduler) for name, part in parts.items()}
    memory = Path("/dev/shm")  # a marker on a disk takes 20 ms
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        outcomes = play([asked[name] for name in STAGES], scheduler, world, Store(Path(folder)), seed)
    price = _price(programme.config)
    rows = [_row(name, world, told[name], found, price) for name, found in zip(STAGES, outcomes, strict=True)]
    return rows, scheduler


def _price(config: Config) -> float:
    """Of a GPU for an hour, as the configuration names it."""
    price = worker_price(config.resources, "GPU", config.training.threads)
    assert price is not None, "configs/cluster-1b.yaml names an instance"
    return price.per_hour


def _row(name: str, world: World, told: Timetable, found: Outcome, price: float) -> Row:
    return Row(
        name,
        world.gpus,
        world.lifetime,
        found.makespan / 3600,
        told.makespan / 3600,
        told.utilisation,
        found.held,
        found.used,
        found.on_nodes,
        found.taken,
        found.redone,
        found.on_nodes * price,
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Makespan, utilisation and cost of the stages over the GPUs, as FOLDER/simulate_cluster.png."""
    lifetimes = sorted({row.lifetime for row in rows}, key=lambda hours: -(hours or 1e9))
    colours = dict(zip(lifetimes, ("#0072b2", "#d55e00", "#009e73")))
    figure, axes = plt.subplots(3, 3, figsize=(11, 8.5), sharex=True, layout="constrained")
    for column, stage in enumerate(STAGES):
        for lifetime in lifetimes:
            mine = sorted((r for r in rows if r.stage == stage and r.lifetime == lifetime), key=lambda r: r.gpus)
            gpus = [row.gpus for row in mine]
            name = "no node is taken away" if lifetime is None else f"a node lives {lifetime:g} h"
            look = {"color": colours[lifetime], "marker": "o", "markersize": 4}
            axes[0, column].plot(gpus, [r.hours for r in mine], label=name, **look)
            axes[1, column].plot(gpus, [100 * r.utilisation for r in mine], label=f"of workers, {name}", **look)
            axes[1, column].plot(
                gpus, [100 * r.node_utilisation for r in mine], "--", label=f"of nodes, {name}", **look
            )
            axes[2, column].plot(gpus, [r.cost / 1e3 for r in mine], label=name, **look)
        plain = sorted((r for r in rows if r.stage == stage and r.lifetime is None), key=lambda r: r.gpus)
        axes[0, column].plot(
            [r.gpus for r in plain], [r.foretold_hours for r in plain], ":", color="black", label="foretold"
        )
        axes[0, column].set_title(stage)
        axes[0, column].set_yscale("log")
        axes[1, column].set_ylim(0, 103)
        axes[2, column].set_ylim(bottom=0)
        axes[2, column].set_xlabel("GPUs")
    for row, label in enumerate(("hours", "GPU-hours used, % of held", "thousand USD for nodes")):
        axes[row, 0].set_ylabel(label)
    for each in axes.flat:
        each.set_xscale("log", base=2)
        each.set_xticks([8, 32, 128, 512], ["8", "32", "128", "512"])
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    axes[0, 2].legend(fontsize=7, frameon=False)
    axes[1, 2].legend(fontsize=7, frameon=False, loc="lower left")
    figure.savefig(folder / "simulate_cluster.png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument("--lifetimes", type=float, nargs="+", default=[0, 24])
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no other simulation is begun")
    parser.add_argument("--anew", action="store_true", help="also what OUT holds already")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "simulate_cluster")
    options = parser.parse_args()
    logging.getLogger("splitray").setLevel(logging.ERROR)  # every worker that dies has a warning
    config, began = load(CONFIG), time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / "simulate_cluster.json"
    found = json.loads(place.read_text()) if place.exists() else {}
    rows = {_name(row): row for row in (Row(**plain) for plain in found.get("rows", []))}
    widths: dict[str, Any] = found.get("widths", {})
    for gpus in options.gpus:
        programme = on(config, gpus)
        for hours in options.lifetimes:
            if time.monotonic() - began > options.seconds:
                continue
            if (STAGES[0], gpus, hours or None) in rows and not options.anew:
                continue
            made, scheduler = simulate(programme, World(gpus, lifetime=hours or None))
            rows |= {_name(row): row for row in made}
            widths[f"{gpus}"] = _widths(programme, scheduler)
            print(f"{gpus} GPUs, lifetime {hours or None}, after {time.monotonic() - began:.0f} s", flush=True)
    result = {
        "what": "simulated with splitray's coordinator, pool, timetable and keys; no GPU was used",
        "config": CONFIG.name,
        "split": SPLIT,
        "price_per_gpu_hour": _price(config),
        "accelerator": asdict(speeds_of(on(config, 8), True).accelerator),
        "world": asdict(World(0)),
        "rows": [asdict(rows[name]) for name in sorted(rows, key=lambda n: (n[0], n[1], n[2] or 1e9))],
        "widths": widths,
    }
    place.write_text(json.dumps(result, indent=1) + "\n")
    if rows:
        draw(list(rows.values()), options.out)


def _name(row: Row) -> tuple[str, int, float | None]:
    return row.stage, row.gpus, row.lifetime


def _widths(programme: Programme, scheduler: Scheduler) -> dict[str, dict[str, float]]:
    """Workers by shape in the ladder, and the part of a GPU that a single one has."""
    chosen = scheduler.choose_widths(Tree(programme, None).ladder().rounds[0])
    names = {programme.size(s).params: s.label for s in programme.config.ladder.shapes}
    found: dict[str, dict[str, float]] = {
        "mixture": {names[n]: workers for n, workers in sorted(chosen.mixture.items())},
        "domain": {names[n]: workers for n, workers in sorted(chosen.domain.items())},
    }
    return found | {"share": {label: round(scheduler.share(n), 3) for n, label in names.items()}}


if __name__ == "__main__":
    main()
