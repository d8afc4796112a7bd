"""Losses of strategies and the bowls through them, read from the table of what is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import forecast
from benchmarks.proof.analysis import bowl_of
from benchmarks.proof.bench import Bench
from benchmarks.proof.programme import SWEPT, Cell, Line, plain
from splitray.proof.bowl import Bowl, mean_regret
from splitray.training.settings import ModelShape
from splitray.training.split import whole_budget


def mean_loss(bench: Bench, cells: Sequence[Cell], domains: Sequence[str], column: str = "loss") -> float | None:
    """The mean loss over domains of the models that serve them, None where one is missing."""
    losses = by_domain(bench, cells, column)
    return float(np.mean([losses[d] for d in domains])) if all(d in losses for d in domains) else None


def by_domain(bench: Bench, cells: Sequence[Cell], column: str = "loss") -> dict[str, float]:
    found = {}
    for cell in cells:
        for row in bench.rows([cell]):
            if cell.leaf.domain in (None, row["domain"]):
                found[row["domain"]] = float(row[column])
    return found


def on_fresh_seeds(
    bench: Bench, strategies: Callable[[int], Sequence[Sequence[Cell]]], domains: Sequence[str]
) -> list[np.ndarray] | None:
    """Losses [seeds, domains] of each strategy, on the fresh seeds where all of them stand; None where none does.

    strategies: a seed's cells, strategy by strategy.
    """
    table = []
    for seed in bench.programme.fresh:
        found = [by_domain(bench, cells) for cells in strategies(seed)]
        if all(set(losses) >= set(domains) for losses in found):
            table.append([[losses[d] for d in domains] for losses in found])
    return list(np.array(table).swapaxes(0, 1)) if table else None


def ladder_bowl(bench: Bench, shape: ModelShape, budget: int, noise: float = 0.0, column: str = "loss") -> Bowl | None:
    """The bowl over the ladder's domains, `noise` relative to its mean; None until five points stand."""
    points, _ = _points(bench, shape, budget, bench.programme.ladder_domains(bench.corpus.domains), False, column)
    if len(points) < 5:
        return None
    losses = np.array(list(points.values()))
    return Bowl(np.array(list(points)), losses, float(noise * losses.mean()))


def _points(
    bench: Bench, shape: ModelShape, budget: int, known: Sequence[str], wide: bool, column: str = "loss"
) -> tuple[dict[float, float], list[dict[str, Any]]]:
    """Mean losses over the domains `known` by split fraction, as far as they stand, and the rows behind them."""
    points: dict[float, float] = {}
    rows: list[dict[str, Any]] = []
    for fraction in bench.programme.fractions:
        cells = list(bench.programme.line(shape, budget, [fraction], bench.corpus.domains, wide))
        loss = mean_loss(bench, cells, known, column)
        if loss is not None:
            points[fraction] = loss
            rows += bench.rows(cells)
    return points, rows


def split_loss(bench: Bench, shape: ModelShape, budget: int) -> float | None:
    """The lowest of the smooth bowl over the ladder's domains."""
    found = ladder_bowl(bench, shape, budget)
    return None if found is None else found.best[1]


@dataclass(frozen=True)
class Noise:
    """Relative deviations of a mean loss over the ladder's domains and over all, without what a seed's runs share."""

    ladder: float = 0.0
    every: float = 0.0


def bowl(bench: Bench, folder: Path, line: Line, noise: Noise = Noise()) -> dict[str, Any] | None:
    """One budget line: measured losses, the smooth curve, the law's plan and its regret; None until five stand.

    `foretold` says whether the plan counts as a forecast: no leaf of a base began before its commit. Leaves of D = 0
    may belong to the ladder.
    """
    shape, budget, wide = line
    programme, domains = bench.programme, bench.corpus.domains
    known = tuple(domains) if wide else programme.ladder_domains(domains)
    points, rows = _points(bench, shape, budget, known, wide)
    if len(points) < 5 or 1.0 not in points:
        return None
    fractions, losses = np.array(list(points)), np.array(list(points.values()))
    curve = Bowl(fractions, losses, float((noise.every if wide else noise.ladder) * losses.mean()))
    told: dict[str, Any] = {
        "shape": plain(shape),
        "params": rows[0]["params"],
        "budget": whole_budget(budget, len(domains), programme.batch),
        "domains": len(known),
        "split_fraction": fractions.tolist(),
        "loss": losses.tolist(),
        "smooth": curve.curve(np.linspace(0, 1, 101)).tolist(),
        "noise": curve.noise,
        "misfit": curve.misfit,
        "best": curve.optimum().plain(),
        "best_loss": curve.best[1],
        "gain": curve.gain,
        "gain_by_chance": curve.gain_by_chance(),
        "most_epochs": max(r["epochs"] for r in rows),
    }
    if wide:  # the law's curve is over the ladder's domains
        narrow, _ = _points(bench, shape, budget, programme.ladder_domains(domains), False)
        means = np.array([narrow[fraction] for fraction in points])
        inner = Bowl(fractions, means, float(noise.ladder * means.mean()))
        told |= {"ladder_loss": means.tolist(), "ladder_noise": inner.noise}
        told["ladder_smooth"] = inner.curve(np.linspace(0, 1, 101)).tolist()
    held = forecast.of_line(folder / "forecasts", shape, budget)
    if held is not None:
        planned, since = held[0]["plan"]["split_fraction"], held[1]
        split = [r["began"] for r in rows if r["specialize_tokens"] and r["pretrain_tokens"]]
        told |= {"planned": planned, "regret": asdict(curve.regret(planned["value"]))}
        told["foretold"] = since is not None and min(split) > since
    return told


def steps(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """From one budget to the next of a size: how likely, under the noise, the optimal fraction falls and D grows."""
    found = []
    for params in sorted({x["params"] for x in lines}):
        mine = sorted((x for x in lines if x["params"] == params), key=lambda x: x["budget"])
        budgets, bowls = [x["budget"] for x in mine], [bowl_of(x, over_ladder=True) for x in mine]
        optima = np.array([bowl.optima(seed=seed) for seed, bowl in enumerate(bowls)])  # [budgets, draws]
        tokens = optima * np.array(budgets)[:, None]
        told = {"params": params, "budgets": budgets, "best": [bowl.best[0] for bowl in bowls]}
        told |= {
            "falls": [float(x) for x in (np.diff(optima, axis=0) < 0).mean(axis=1)],
            "grows": [float(x) for x in (np.diff(tokens, axis=0) > 0).mean(axis=1)],
        }
        found.append(told)
    return found


def regrets(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean regret of the lines whose plan was committed before they were trained; of all where none was."""
    known = [x for x in lines if "regret" in x]
    counted = [x for x in known if x["foretold"]] or known
    if not counted:
        return None
    return asdict(mean_regret([(bowl_of(x), x["planned"]["value"]) for x in counted])) | {
        "lines": len(counted),
        "foretold": all(x["foretold"] for x in counted),
    }


def swept(bench: Bench, shape: ModelShape, budget: int, fraction: float) -> dict[str, Any] | None:
    """Losses of one strategy by learning rate, None until all stand.

    Through them goes a parabola in log rate: `best` is the rate tried that is nearest its bottom, `sharing_costs` what
    rate 1 has above the bottom, in nats.
    """
    programme, domains = bench.programme, bench.corpus.domains
    known, cells = programme.ladder_domains(domains), list(programme.line(shape, budget, [fraction], domains, False))
    losses = [mean_loss(bench, [replace(c, rate=rate) for c in cells], known) for rate in programme.rates]
    if any(loss is None for loss in losses):
        return None
    x = np.log2(programme.rates)
    curve, fine = np.polynomial.Polynomial.fit(x, np.array(losses, dtype=float), 2), np.linspace(x[0], x[-1], 401)
    bottom = fine[curve(fine).argmin()]
    return {
        "rates": list(programme.rates),
        "losses": losses,
        "best": programme.rates[int(np.abs(x - bottom).argmin())],
        "sharing_costs": float(curve(0.0) - curve(bottom)),
    }


def own_rates(bench: Bench) -> dict[str, float] | None:
    """The best learning rates of split and unsplit training on the decisive line, as multiples of the shared one."""
    line = bench.programme.sweeps()[-1]
    found = {name: swept(bench, *line, fraction) for name, fraction in SWEPT.items()}
    rates = {name: told["best"] for name, told in found.items() if told}
    return rates if len(rates) == len(found) else None


def rated_cells(bench: Bench, planned: float, seed: int, rates: Mapping[str, float]) -> tuple[list[Cell], list[Cell]]:
    """The planned fraction and unsplit of the decisive line, each at its own rate."""
    split = [replace(c, rate=rates["split"]) for c in decided_cells(bench, planned, seed)]
    return split, [replace(c, rate=rates["unsplit"]) for c in decided_cells(bench, 1.0, seed)]


def decisive(bench: Bench, folder: Path) -> dict[str, float] | None:
    """The strategies of the wide bowl that fresh seeds compare: planned, best measured, unsplit, by split fraction."""
    line = bowl(bench, folder, bench.programme.wide)
    if line is None or "planned" not in line:
        return None
    best = line["split_fraction"][int(np.argmin(line["loss"]))]
    return {"planned": line["planned"]["value"], "best measured": best, "unsplit": 1.0}


def decided_cells(bench: Bench, fraction: float, seed: int) -> list[Cell]:
    shape, budget, wide = bench.programme.wide
    return list(bench.programme.line(shape, budget, [fraction], bench.corpus.domains, wide, seed))
