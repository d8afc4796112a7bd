"""Losses of strategies and the bowls through them, read from the table of what is trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proof import forecast
from proof.analysis import Bowl
from proof.bench import Bench
from proof.programme import Cell, plain
from splitray.split import whole_budget
from splitray.training.settings import ModelShape


def mean_loss(bench: Bench, cells: Sequence[Cell], domains: Sequence[str]) -> float | None:
    """The mean loss over domains of the models that serve them, None where one is missing."""
    losses = by_domain(bench, cells)
    return float(np.mean([losses[d] for d in domains])) if all(d in losses for d in domains) else None


def by_domain(bench: Bench, cells: Sequence[Cell]) -> dict[str, float]:
    found = {}
    for cell in cells:
        for row in bench.rows([cell]):
            if cell.leaf.domain in (None, row["domain"]):
                found[row["domain"]] = float(row["loss"])
    return found


def ladder_bowl(bench: Bench, shape: ModelShape, budget: int) -> Bowl | None:
    """The bowl over the ladder's domains; None until five points stand."""
    points, _ = _points(bench, shape, budget, bench.programme.ladder_domains(bench.corpus.domains), False)
    if len(points) < 5:
        return None
    return Bowl(np.array(list(points)), np.array(list(points.values())), 0.0)


def _points(
    bench: Bench, shape: ModelShape, budget: int, known: Sequence[str], wide: bool
) -> tuple[dict[float, float], list[dict[str, Any]]]:
    """Mean losses over the domains `known` by split fraction, as far as they stand, and the rows behind them."""
    points: dict[float, float] = {}
    rows: list[dict[str, Any]] = []
    for fraction in bench.programme.fractions:
        cells = list(bench.programme.line(shape, budget, [fraction], bench.corpus.domains, wide))
        loss = mean_loss(bench, cells, known)
        if loss is not None:
            points[fraction] = loss
            rows += bench.rows(cells)
    return points, rows


def split_loss(bench: Bench, shape: ModelShape, budget: int) -> float | None:
    """The lowest of the smooth bowl over the ladder's domains."""
    found = ladder_bowl(bench, shape, budget)
    return None if found is None else found.best[1]


def bowl(
    bench: Bench, folder: Path, shape: ModelShape, budget: int, wide: bool, noise: Mapping[str, float]
) -> dict[str, Any] | None:
    """One budget line: measured losses, the smooth curve, the law's plan and its regret; None until five stand."""
    programme, domains = bench.programme, bench.corpus.domains
    known = tuple(domains) if wide else programme.ladder_domains(domains)
    points, rows = _points(bench, shape, budget, known, wide)
    if len(points) < 5 or 1.0 not in points:
        return None
    fractions, losses = np.array(list(points)), np.array(list(points.values()))
    spread = noise["rest"] if noise["cells"] else 0.002
    curve = Bowl(fractions, losses, float(spread * losses.mean() / np.sqrt(len(known))))
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
        "best": curve.optimum(),
        "best_loss": curve.best[1],
        "gain": points[1.0] - curve.best[1],
        "most_epochs": max(r["epochs"] for r in rows),
    }
    path = folder / "forecasts" / f"{forecast.name_of(shape, budget)}.json"
    if path.exists():
        planned = json.loads(path.read_text())["plan"]["split_fraction"]
        told |= {"planned": planned, "regret": curve.regret(planned["value"])}
    return told


def decisive(bench: Bench, folder: Path) -> dict[str, float] | None:
    """The strategies of the wide bowl that fresh seeds compare: planned, best measured, unsplit, by split fraction."""
    shape, budget, wide = next(b for b in bench.programme.bowls() if b[2])
    line = bowl(bench, folder, shape, budget, wide, {"rest": 0.0, "cells": 0})
    if line is None or "planned" not in line:
        return None
    best = line["split_fraction"][int(np.argmin(line["loss"]))]
    return {"planned": line["planned"]["value"], "best measured": best, "unsplit": 1.0}


def decided_cells(bench: Bench, fraction: float, seed: int) -> list[Cell]:
    shape, budget, wide = next(b for b in bench.programme.bowls() if b[2])
    return list(bench.programme.line(shape, budget, [fraction], bench.corpus.domains, wide, seed))
