"""What the phonebook's rows say: accuracies by point, the ends of the lines, the figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof.analysis import paired

CLUSTERS = ("first", "second")


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean accuracy over clusters and seeds at each point, and the standard error over seeds (None for one)."""
    points: dict[tuple[float, int, int], dict[int, list[float]]] = {}
    for row in rows:
        seeds = points.setdefault((row["overlap"], row["steps"], row["split_step"]), {})
        seeds.setdefault(row["seed"], []).append(row["accuracy"])
    result = []
    for (overlap, steps, split_step), seeds in sorted(points.items()):
        means = np.array([np.mean(values) for values in seeds.values() if len(values) == len(CLUSTERS)])
        if not means.size:
            continue
        error = float(means.std(ddof=1) / np.sqrt(means.size)) if means.size > 1 else None
        told: dict[str, Any] = {"overlap": overlap, "steps": steps, "split_step": split_step, "seeds": means.size}
        result.append(told | {"accuracy": float(means.mean()), "standard_error": error})
    return result


def ends(rows: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the limited budget says by overlap, split at once and unsplit paired by seed with a 95 % interval.

    Empty `ends` where no overlap has both; `sufficient_least` is the lowest accuracy of the larger budget.
    """
    steps = min(p["steps"] for p in points)
    more = [p["accuracy"] for p in points if p["steps"] > steps]
    found = []
    for overlap in sorted({p["overlap"] for p in points}):
        line = {p["split_step"]: p["accuracy"] for p in points if (p["overlap"], p["steps"]) == (overlap, steps)}
        by_seed: dict[int, dict[int, list[float]]] = {}
        for r in rows:
            if (r["overlap"], r["steps"]) == (overlap, steps):
                by_seed.setdefault(r["seed"], {}).setdefault(r["split_step"], []).append(r["accuracy"])
        pairs = [
            [np.mean(at[0]), np.mean(at[steps])]
            for at in by_seed.values()
            if all(len(at.get(step, ())) == len(CLUSTERS) for step in (0, steps))
        ]
        if not pairs:
            continue
        gaps = np.array([[a - b] for a, b in pairs])
        told = paired(gaps, np.zeros_like(gaps)) if len(gaps) > 1 else {"value": float(gaps.mean()), "seeds": 1}
        between = {step: accuracy for step, accuracy in line.items() if 0 < step < steps}
        worst = min(between, key=lambda step: between[step])
        found.append(
            {
                "overlap": overlap,
                "at_once": line[0],
                "unsplit": line[steps],
                "worst": {"split_step": worst, "accuracy": between[worst]},
                "gap": told,
            }
        )
    return {"limited_steps": steps, "sufficient_least": min(more, default=None), "ends": found}


def draw(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy against split step, one line for each overlap, one panel for each budget."""
    from matplotlib.figure import Figure

    budgets = sorted({p["steps"] for p in points}, reverse=True)
    figure = Figure(figsize=(5 * len(budgets), 4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(budgets), sharey=True))
    overlaps = sorted({p["overlap"] for p in points})
    for axis, steps in zip(axes, budgets, strict=True):
        alone = [p["accuracy"] for p in points if p["steps"] == steps and p["split_step"] == 0]
        kind = "sufficient" if min(alone, default=0) > 0.995 else "limited"
        for place, overlap in enumerate(overlaps):
            line = [p for p in points if p["steps"] == steps and p["overlap"] == overlap]
            look = {"color": f"C{place}", "marker": "osD^v"[place], "linestyle": ("-", "--", "-.", ":")[place % 4]}
            errors = [p["standard_error"] or 0 for p in line]
            x, y = [p["split_step"] for p in line], [100 * p["accuracy"] for p in line]
            axis.errorbar(x, y, [100 * e for e in errors], label=f"{overlap:.0%}", capsize=2, **look)
        axis.set(title=f"{kind} budget: {steps} steps", xlabel="split step (right end: unsplit)", ylim=(0, 103))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("facts known, mean of two clusters, %")
    axes[0].legend(title="overlap", frameon=False, loc="lower left")  # a sufficient budget leaves it room
    figure.savefig(path, dpi=120, metadata={"Software": None})
