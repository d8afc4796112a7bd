"""From the table of losses and the forecasts to one JSON of results, claim by claim. Trains nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proof import forecast
from proof.analysis import noisy_multiplier, paired
from proof.bench import Bench
from proof.further import allocated, best_size, clustered, nearness
from proof.measured import (
    bowl,
    by_domain,
    decided_cells,
    decisive,
    mean_loss,
    own_rates,
    rated_cells,
    regrets,
    split_loss,
    swept,
)
from proof.programme import SWEPT, Cell, plain
from splitray.law import Law
from splitray.law.question import Question
from splitray.law.threshold import split_threshold
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf

Row = Mapping[str, Any]


def assemble(bench: Bench, folder: Path) -> dict[str, Any]:
    """Everything that the table and the forecasts in `folder` can answer; what is not trained yet is None."""
    domains = bench.corpus.domains
    noise = forecast.noise_of(forecast.ladder_rows(bench), min(bench.programme.budgets) // 4)
    mean = noise["mean"] if noise["cells"] else 0.002
    scores = forecast.score(bench, folder / "forecasts")
    lines = [line for b in bench.programme.bowls() if (line := bowl(bench, folder, *b, mean)) is not None]
    return {
        "corpus": {
            "domains": domains,
            "ladder_domains": list(bench.programme.ladder_domains(domains)),
            "training_tokens": [bench.corpus.counts(d, "train")["tokens"] for d in domains],
            "content_hash": bench.corpus.content_hash,
        },
        "grid": grid(bench),
        "sweep": sweep(bench),
        "noise": noise,
        "prediction": forecast.summary(scores, mean),
        "scores": scores,
        "bowls": lines,
        "regret": regrets(lines),
        "decided": decided(bench, folder),
        "clusterings": clustered(bench, folder),
        "thresholds": thresholds(bench, folder),
        "multiplier": [
            m for shape in doubled_shapes(bench) if (m := multiplied(bench, folder, shape, lines, mean)) is not None
        ],
        "best_size": best_size(bench, folder),
        "nearness": nearness(bench, mean),
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


def decided(bench: Bench, folder: Path) -> dict[str, Any] | None:
    """The planned fraction against the best measured one and against unsplit, on fresh paired seeds."""
    strategies, domains = decisive(bench, folder), bench.corpus.domains
    if strategies is None:
        return None
    tables = {}
    for name, fraction in strategies.items():
        rows = [by_domain(bench, decided_cells(bench, fraction, seed)) for seed in bench.programme.fresh]
        tables[name] = {seed: row for seed, row in zip(bench.programme.fresh, rows) if len(row) == len(domains)}
    seeds = sorted(set.intersection(*(set(table) for table in tables.values())))
    if not seeds:
        return None
    losses = {name: np.array([[table[s][d] for d in domains] for s in seeds]) for name, table in tables.items()}
    return {
        "own_rates": _own_rates(bench, strategies["planned"]),
        "split_fraction": strategies,
        "seeds": seeds,
        "loss": {name: float(array.mean()) for name, array in losses.items()},
        "planned less unsplit": paired(losses["planned"], losses["unsplit"]),
        "planned less best measured": paired(losses["planned"], losses["best measured"]),
    }


def _own_rates(bench: Bench, planned: float) -> dict[str, Any] | None:
    """Planned against unsplit, each at the learning rate that its sweep liked best; None until a seed stands."""
    rates, domains, table = own_rates(bench), bench.corpus.domains, []
    if rates is None:
        return None
    for seed in bench.programme.fresh:
        pair = [by_domain(bench, cells) for cells in rated_cells(bench, planned, seed, rates)]
        if all(len(losses) == len(domains) for losses in pair):
            table.append([[losses[d] for d in domains] for losses in pair])
    if not table:
        return None
    split, unsplit = np.array(table).transpose(1, 0, 2)
    return {"rates": rates, "planned less unsplit": paired(split, unsplit)}


def doubled_shapes(bench: Bench) -> list[ModelShape]:
    return list(dict.fromkeys(cell.shape for cell in bench.programme.doubled(bench.corpus.domains)))


def thresholds(bench: Bench, folder: Path) -> dict[str, Any] | None:
    """D_split of every size by the last law fitted, and how many of its draws have it grow with every step of size."""
    path, programme, domains = folder / "law.json", bench.programme, bench.corpus.domains
    if not path.exists():
        return None
    law, leaf = Law.load(path), Leaf(programme.batch)
    sizes = [int(bench.recipe(Cell(shape, leaf, tuple(domains))).values["params"]) for shape in programme.shapes]
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
            predicted = held[0]["plan"]["compute_multiplier"] if held and held[1] is not None else None
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
