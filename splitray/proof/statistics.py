"""The noise of training runs from replicated seeds, and the interval of a proportion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log loss over `cells` replicated cells; 0 cells where there are none.

    seed: of what all runs of one size and seed share. rest: of a run beyond that.
    """

    seed: float
    rest: float
    cells: int


@dataclass(frozen=True)
class Proportion:
    """A share of `of` things, with its 95 % interval."""

    value: float
    low: float
    high: float
    of: int


def replicate_noise(rows: Sequence[Mapping[str, Any]]) -> Noise:
    """Standard deviations of log loss over replicated cells: `seed` of what a size's runs share, `rest` beyond it.

    A two-way table of each size, cells (D, D', domain) by seeds, complete cells only; the effects of cells and seeds
    are taken out (two-way analysis of variance), sizes are pooled. Without replicates `cells` is 0.
    """
    tables: dict[int, dict[tuple[Any, ...], dict[int, float]]] = {}
    for row in rows:
        cell = (row["pretrain_tokens"], row["specialize_tokens"], row["domain"])
        tables.setdefault(row["params"], {}).setdefault(cell, {})[row["seed"]] = float(np.log(row["loss"]))
    rest, free, shared, count = 0.0, 0, [], 0
    for cells in tables.values():
        seeds = sorted(set().union(*cells.values()))
        full = np.array([[cell[s] for s in seeds] for cell in cells.values() if len(cell) == len(seeds)])
        if len(seeds) < 2 or len(full) < 2:
            continue
        centred = full - full.mean(axis=1, keepdims=True)
        effect = centred.mean(axis=0)
        rest += float(((centred - effect) ** 2).sum())
        free += (full.shape[0] - 1) * (full.shape[1] - 1)
        shared.append(float(effect @ effect / (len(seeds) - 1)))
        count += full.shape[0]
    if not free:
        return Noise(0.0, 0.0, 0)
    beyond = rest / free
    mean = max(float(np.mean(shared)) - beyond / (count / len(shared)), 0.0)
    return Noise(float(np.sqrt(mean)), float(np.sqrt(beyond)), count)


def over_domains(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the geometric mean loss over all domains, for `replicate_noise`: cells that have them all.

    A run's noise is in part common to its domains, so that the mean's is more than one domain's over their root.
    """
    domains, cells = {row["domain"] for row in rows}, dict[tuple[Any, ...], dict[str, float]]()
    names = ("params", "pretrain_tokens", "specialize_tokens", "seed")
    for row in rows:
        cells.setdefault(tuple(row[n] for n in names), {})[row["domain"]] = float(np.log(row["loss"]))
    return [
        dict(zip(names, cell, strict=True)) | {"domain": "all", "loss": float(np.exp(np.mean(list(losses.values()))))}
        for cell, losses in cells.items()
        if set(losses) == domains
    ]


def proportion(hits: int, of: int) -> Proportion:
    """A proportion with its 95 % interval (Wilson 1927)."""
    z = 1.959963984540054
    p, width = hits / of, z * z / of
    middle = (p + width / 2) / (1 + width)
    half = z * np.sqrt(p * (1 - p) / of + width / (4 * of)) / (1 + width)
    return Proportion(p, float(middle - half), float(middle + half), of)


def interval_score(low: float, high: float, value: float, level: float) -> float:
    """The width of a central interval of mass `level`, and 2 / (1 - level) times what it missed the value by.

    Lower is better, and the true quantiles are best (Gneiting & Raftery 2007, equation 43).
    """
    return high - low + 2 / (1 - level) * max(low - value, value - high, 0.0)
