"""From the table of losses and the forecasts to one JSON of results, claim by claim. Trains nothing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import forecast, scoring
from benchmarks.proof.analysis import noisy_multiplier, paired
from benchmarks.proof.bench import Bench
from benchmarks.proof.further import allocated, best_size, by_nearness, clustered, nearness
from benchmarks.proof.measured import (
    Noise,
    bowl,
    decided_cells,
    decisive,
    mean_loss,
    on_fresh_seeds,
    own_rates,
    rated_cells,
    regrets,
    split_loss,
    steps,
    swept,
)
from benchmarks.proof.programme import SWEPT, Cell, plain
from splitray.law import Law
from splitray.law.planning.question import Question
from splitray.law.planning.threshold import split_threshold
from splitray.proof.statistics import over_domains, replicate_noise
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf

Row = Mapping[str, Any]


def assemble(bench: Bench, folder: Path) -> dict[str, Any]:
    """Everything that the table and the forecasts in `folder` can answer; what is not trained yet is None."""
    programme, domains = bench.programme, bench.corpus.domains
    noise = forecast.noise_of(forecast.ladder_rows(bench), min(programme.budgets) // 4)
    mean = noise["mean"] if noise["cells"] else 0.002
    noise["every_domain"] = every_noise(bench, folder) or mean
    scores = scoring.score(bench, folder / "forecasts")
    level = Noise(mean, noise["every_domain"])
    lines = [line for b in programme.bowls() if (line := bowl(bench, folder, b, level)) is not None]
    before = json.loads((folder / "results.json").read_text()) if (folder / "results.json").exists() else {}
    near = nearness(bench, mean, before.get("nearness", ()))
    return {
        "corpus": {
            "domains": domains,
            "ladder_domains": list(bench.programme.ladder_domains(domains)),
            "training_tokens": [bench.corpus.counts(d, "train")["tokens"] for d in domains],
            "content_hash": bench.corpus.content_hash,
            "sources": bench.sources,
        },
        "grid": grid(bench),
        "sweep": sweep(bench),
        "noise": noise,
        "prediction": scoring.summary(scores, mean),
        "scores": scores,
        "withdrawn": scoring.withdrawn(bench, folder),
        "depth": scoring.depth(bench, scores, folder / "law.json"),
        "bowls": lines,
        "steps": steps(lines),
        "regret": regrets(lines),
        "decided": decided(bench, folder),
        "clusterings": clustered(bench, folder, before.get("clusterings", ())),
        "thresholds": thresholds(bench, folder),
        "multiplier": [
            m for shape in doubled_shapes(bench) if (m := multiplied(bench, folder, shape, lines, mean)) is not None
        ],
        "best_size": best_size(bench, folder),
        "nearness": near,
        "nearness_order": by_nearness(near) if len(near) > 1 else None,
        "allocation": allocated(bench, folder),
    }


def grid(bench: Bench) -> dict[str, Any]:
    """How much of the grid stands, and what the tree saved on it."""
    cells = list(bench.programme.grid(bench.corpus.domains))
    missing = {bench.target(cell).key for cell in bench.missing(cells)}
    standing = [cell for cell in cells if bench.target(cell).key not in missing]
    if not standing:
        return {"leaves": 0, "of": len(cells)}
    spent = bench.cost(standing)
    rows = bench.rows(standing)
    return {
        "leaves": len(standing),
        "of": len(cells),
        "params": sorted({r["params"] for r in rows}),
        "tokens_trained": int(spent["tokens"]),
        "tokens_from_scratch": int(spent["from_scratch"]),
        "saving": spent["from_scratch"] / spent["tokens"],
        "most_epochs": max(r["epochs"] for r in rows),
        "seeds": len({r["seed"] for r in rows}),
    }


def sweep(bench: Bench) -> list[dict[str, Any]]:
    """Losses by learning rate, and what sharing one rate costs against the bottom of a parabola in its logarithm."""
    programme, result = bench.programme, []
    for shape, budget in programme.sweeps():
        for name, fraction in SWEPT.items():
            found = swept(bench, shape, budget, fraction)
            if found is not None:
                told = {"shape": plain(shape), "budget": budget, "strategy": name, "split_fraction": fraction}
                result.append(told | found)
    return result


def every_noise(bench: Bench, folder: Path) -> float | None:
    """Relative deviation of a mean over all domains, a run's own: of the strategies that have fresh seeds."""
    strategies = decisive(bench, folder) or {}
    cells = [
        cell
        for fraction in strategies.values()
        for seed in bench.programme.fresh
        for cell in decided_cells(bench, fraction, seed)
    ]
    found = replicate_noise(over_domains(bench.rows(list(dict.fromkeys(cells)))))
    return found.rest if found.cells else None


def decided(bench: Bench, folder: Path) -> dict[str, Any] | None:
    """The planned fraction against the best measured one and against unsplit, on fresh paired seeds."""
    strategies, domains = decisive(bench, folder), bench.corpus.domains
    if strategies is None:
        return None
    every = on_fresh_seeds(
        bench, lambda seed: [decided_cells(bench, fraction, seed) for fraction in strategies.values()], domains
    )
    if every is None:
        return None
    losses = dict(zip(strategies, every, strict=True))
    return {
        "own_rates": _own_rates(bench, strategies["planned"]),
        "split_fraction": strategies,
        "seeds": len(every[0]),
        "loss": {name: float(array.mean()) for name, array in losses.items()},
        "planned less unsplit": paired(losses["planned"], losses["unsplit"]),
        "planned less best measured": paired(losses["planned"], losses["best measured"]),
    }


def _own_rates(bench: Bench, planned: float) -> dict[str, Any] | None:
    """Planned against unsplit, each at the learning rate that its sweep liked best; None until a seed stands."""
    rates = own_rates(bench)
    if rates is None:
        return None
    pair = on_fresh_seeds(bench, lambda seed: rated_cells(bench, planned, seed, rates), bench.corpus.domains)
    return None if pair is None else {"rates": rates, "planned less unsplit": paired(pair[0], pair[1])}


def doubled_shapes(bench: Bench) -> list[ModelShape]:
    return list(dict.fromkeys(cell.shape for cell in bench.programme.doubled(bench.corpus.domains)))


def thresholds(bench: Bench, folder: Path) -> dict[str, Any] | None:
    """D_split of every size by the last law fitted, and how many of its draws have it grow with every step of size."""
    path, programme, domains = folder / "law.json", bench.programme, bench.corpus.domains
    if not path.exists():
        return None
    law, leaf = Law.load(path), Leaf(programme.batch)
    sizes = [int(bench.recipe(Cell(shape, leaf, tuple(domains))).params) for shape in programme.shapes]
    # [sizes, 1 + draws]; the question's budget plays no part
    tokens = np.array([split_threshold(Question(n, 1e6, len(domains)).surface(law), n) for n in sizes])
    ends = np.quantile(tokens[:, 1:], [0.1, 0.9], axis=1, method="nearest").T
    plain_ends = [[float(x) if np.isfinite(x) else None for x in row] for row in (*tokens[:, :1], *ends)]
    return {
        "params": sizes,
        "value": [row[0] for row in plain_ends[: len(sizes)]],
        "interval": plain_ends[len(sizes) :],
        "level": 0.8,
        "grows": [float(x) for x in (np.diff(tokens[:, 1:], axis=0) > 0).mean(axis=1)],
    }


def multiplied(
    bench: Bench, folder: Path, shape: ModelShape, lines: Sequence[Row], noise: float
) -> dict[str, Any] | None:
    """How many times the budget unsplit training needs to reach the split models' loss, at every budget with a bowl."""
    domains = bench.corpus.domains
    known = bench.programme.ladder_domains(domains)
    cells = [c for c in bench.programme.doubled(domains) if c.shape == shape]
    spent = [(c.leaf.tokens, mean_loss(bench, [c], known), bench.rows([c])) for c in cells]
    stand = [(tokens, loss, rows) for tokens, loss, rows in spent if loss is not None]
    mine = [line for line in lines if line["shape"] == plain(shape)]
    if len(stand) < 2 or not mine:
        return None
    tokens, losses = [t for t, _, _ in stand], [float(loss) for _, loss, _ in stand if loss is not None]
    found = []
    for line in mine:
        # a wide bowl's mean is over all domains: the same models' mean over the ladder's is what compares here
        goal = split_loss(bench, shape, line["budget"])
        if goal is not None:
            measured = noisy_multiplier(tokens, losses, line["budget"], goal, noise * goal)
            held = forecast.of_line(folder / "forecasts", shape, line["budget"])
            predicted = held[0]["plan"]["compute_multiplier"] if held and line["foretold"] else None
            found.append({"budget": line["budget"], "goal": goal, "measured": measured, "predicted": predicted})
    params = int(stand[0][2][0]["params"])
    epochs = [max(r["epochs"] for r in rows) for _, _, rows in stand]
    return {
        "shape": plain(shape),
        "params": params,
        "stored_params_of_specialists": params * len(domains),
        "tokens": tokens,
        "loss": losses,
        "epochs": epochs,
        "multipliers": found,
    }
