"""The figure of `gpu.py`: tokens a second of ours and of plain loops, by size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_COLOURS = {"ours": "#0072b2", "plain": "#8c9099"}


def draw(results: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """Bars for every phase of rates that is there, as FOLDER/gpu.svg and .png; its share of the peak above each."""
    rates = {name.removeprefix("rates "): rows for name, rows in results.items() if name.startswith("rates ")}
    bars = [(label, row) for label, rows in sorted(rates.items()) for row in rows if "step_ms" in row]
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(1.2 + 0.75 * len(bars), 3.6), layout="constrained")
    for place, (_, row) in enumerate(bars):
        height = row["tokens_per_second"] / 1e3
        axes.bar(place, height, color=_COLOURS[row["loop"]], hatch="//" if row["compiled"] else None, edgecolor="white")
        if row["mfu"] is not None:
            axes.annotate(f"{row['mfu']:.0%}", (place, height), ha="center", va="bottom")
    names = [f"{label}\n{row['loop']}\n{'compiled' if row['compiled'] else 'eager'}" for label, row in bars]
    axes.set_xticks(range(len(bars)), names, fontsize=8)
    axes.set_ylabel("thousand tokens a second")
    device = next((row["gpu"] for row in results.get("environment", []) if "gpu" in row), "")
    axes.set_title(f"A training step on one {device}" if device else "A training step")
    axes.spines[["top", "right"]].set_visible(False)
    for kind in ("svg", "png"):
        figure.savefig(folder / f"gpu.{kind}", dpi=150)
    plt.close(figure)
