"""The figures of `gpu.py`: tokens a second of ours and of plain loops, and how busy the whole job kept the device."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

Results = Mapping[str, Sequence[Mapping[str, Any]]]
_COLOURS = {"ours": "#0072b2", "plain": "#8c9099"}
_OVER = 3.0  # seconds that a line of utilisation is averaged over


def draw(results: Results, folder: Path) -> None:
    """What is there: FOLDER/gpu.png and .svg of the phases of rates, FOLDER/job.png and .svg of the job."""
    device = next((row["gpu"] for row in results.get("environment", []) if "gpu" in row), "a device")
    _draw_rates(results, device, folder)
    if job := next((row for row in results.get("job", []) if "utilisation" in row), None):
        _draw_job(job, device, folder)


def _draw_rates(results: Results, device: str, folder: Path) -> None:
    """Bars for every phase of rates, its share of the peak above each."""
    rates = {name.removeprefix("rates "): rows for name, rows in results.items() if name.startswith("rates ")}
    bars = [(label, row) for label, rows in sorted(rates.items()) for row in rows if "step_ms" in row]
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(1.6 + 0.95 * len(bars), 3.6), layout="constrained")
    for place, (_, row) in enumerate(bars):
        height = row["tokens_per_second"] / 1e3
        axes.bar(place, height, color=_COLOURS[row["loop"]], hatch="//" if row["compiled"] else None, edgecolor="white")
        if row["mfu"] is not None:
            axes.annotate(f"{row['mfu']:.1%}", (place, height), ha="center", va="bottom")
    names = [f"{label.split(',')[0]}\n{_told(row)}" for label, row in bars]
    axes.set_xticks(range(len(bars)), names, fontsize=8)
    axes.set_ylabel("thousand tokens a second")
    axes.set_title(f"A training step on one {device}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, folder, "gpu")


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['loop']}\n{'compiled' if row['compiled'] else 'eager'}\n{row['micro']} at once"


def _draw_job(job: Mapping[str, Any], device: str, folder: Path) -> None:
    """Utilisation over the job's seconds from the ladder on, its stages behind."""
    times, shares = np.array([row for row in job["utilisation"] if row[0] >= job["begins_s"]["ladder"]], dtype=float).T
    near = np.abs(times[:, None] - times[None, :]) <= _OVER / 2
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    begins = [(name, begin) for name, begin in job["begins_s"].items() if begin >= times[0] - 1]
    ends = [begin for _, begin in begins[1:]] + [float(times[-1])]
    for number, ((name, begin), end) in enumerate(zip(begins, ends, strict=True)):
        axes.axvspan(begin, end, color="#eef1f4" if number % 2 else "#ffffff", lw=0)
        if end - begin > 0.05 * (times[-1] - times[0]):
            axes.text((begin + end) / 2, 103, name, ha="center", va="bottom", fontsize=8)
    axes.plot(times, (near * shares).sum(1) / near.sum(1), color=_COLOURS["ours"], lw=1.5)
    axes.set(xlim=(times[0], times[-1]), ylim=(0, 102), xlabel="seconds of the job")
    axes.set_ylabel(f"GPU busy, %, over {_OVER:.0f} s")
    mean = job["utilisation_from_the_ladder_on"]
    axes.set_title(f"A small job on one {device}: {mean:.1f} % from the ladder on\n", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, folder, "job")


def _save(figure: Any, folder: Path, name: str) -> None:
    for kind in ("svg", "png"):
        figure.savefig(folder / f"{name}.{kind}", dpi=150)
    plt.close(figure)
