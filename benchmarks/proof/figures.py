"""Figures of the proof, from its results alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.proof.claims import times
from splitray.units import human

_NO_SOFTWARE = {"Software": None}


def draw(results: Mapping[str, Any], folder: Path) -> list[str]:
    """Write every figure that the results can fill; their names."""
    made = {
        "bowls.png": _bowls(results["bowls"], folder / "forecasts"),
        "forecasts.png": _forecasts([s for s in results["scores"] if "error" in s]),
        "multiplier.png": _multiplier(results["multiplier"]),
    }
    for name, figure in made.items():
        if figure is not None:
            figure.savefig(folder / name, dpi=120, metadata=_NO_SOFTWARE)
    return [name for name, figure in made.items() if figure is not None]


def _bowls(lines: Sequence[Mapping[str, Any]], forecasts: Path) -> Figure | None:
    """Loss against split fraction: measured, the smooth curve, the law's forecast with its band, the plan."""
    if not lines:
        return None
    sizes, budgets = sorted({x["params"] for x in lines}), sorted({x["budget"] for x in lines})
    figure = Figure(figsize=(3.6 * len(budgets), 2.9 * len(sizes)), layout="constrained")
    axes = figure.subplots(len(sizes), len(budgets), squeeze=False)
    for axis in axes.ravel():
        axis.set_visible(False)
    for line in lines:
        axis = axes[sizes.index(line["params"]), budgets.index(line["budget"])]
        axis.set_visible(True)
        shape = line["shape"]
        path = forecasts / f"h{shape['hidden']}-l{shape['layers']}-{line['budget']}.json"
        if path.exists():
            told = json.loads(path.read_text())
            s, (low, high) = told["curve"]["split_fraction"], told["curve"]["band"]
            axis.fill_between(s, low, high, color="C0", alpha=0.2, lw=0)
            axis.plot(s, told["curve"]["loss"], color="C0", lw=1.2, label="law, forecast (80 %)")
            axis.axvline(told["plan"]["split_fraction"]["value"], color="C0", ls=":", lw=1.2, label="planned split")
        # the law speaks of the ladder's domains: a wide line's curve through all of them would be another one
        losses, noise = (line.get(f"ladder_{name}", line[name]) for name in ("loss", "noise"))
        axis.plot(np.linspace(0, 1, 101), line.get("ladder_smooth", line["smooth"]), color="0.5", lw=1, label="smooth")
        axis.errorbar(line["split_fraction"], losses, 1.96 * noise, fmt="o", ms=4, color="k", label="measured")
        axis.set_title(f"{human(line['params'])} parameters, {human(line['budget'])} tokens", fontsize=9)
        axis.set(xlabel="split fraction $s$", ylabel="mean loss, nats per token")
        lowest, highest = min(losses), max(losses)
        axis.set_ylim(lowest - 0.25 * (highest - lowest), highest + 0.15 * (highest - lowest))
    handles, labels = next(a for a in axes.ravel() if a.get_visible()).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _forecasts(scores: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Predicted against observed losses, and the errors by split fraction."""
    if not scores:
        return None
    on_lines = any(s["budget"] for s in scores)  # the ladder's largest D, forecast first, has no split fraction
    figure = Figure(figsize=(9 if on_lines else 4.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2) if on_lines else (figure.subplots(), None)
    for place, params in enumerate(sorted({s["params"] for s in scores})):
        mine = [s for s in scores if s["params"] == params]
        observed, value = np.array([s["loss"] for s in mine]), np.array([s["value"] for s in mine])
        # a law's draws need not hold the law itself: its interval may lie beside the value
        bars = np.maximum([value - [s["low"] for s in mine], np.array([s["high"] for s in mine]) - value], 0)
        look: dict[str, Any] = {"fmt": "osD^"[place % 4], "ms": 4, "lw": 0.8, "color": f"C{place}"}
        left.errorbar(observed, value, bars, label=f"{human(params)} parameters", **look)
        if right is None:
            continue
        lines = [s for s in mine if s["budget"]]
        fraction = [s["pretrain_tokens"] / s["budget"] for s in lines]
        right.plot(fraction, [100 * s["error"] for s in lines], look["fmt"], ms=4, color=f"C{place}")
        right.plot(fraction, [100 * s["chinchilla_error"] for s in lines], "x", ms=4, color=f"C{place}", alpha=0.5)
    ends = [min(s["loss"] for s in scores), max(s["loss"] for s in scores)]
    left.plot(ends, ends, color="0.6", lw=1, zorder=0)
    left.set(xlabel="observed loss, nats per token", ylabel="predicted before training (80 %)")
    left.legend(frameon=False, fontsize=9)
    if right is not None:
        right.axhline(0, color="0.6", lw=1)
        right.set(
            xlabel="split fraction $s$",
            ylabel="error of the prediction, %",
            title="crosses: a Chinchilla law in $D + D'$",
        )
    return figure


def _multiplier(found: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Unsplit loss against tokens, and the split models' loss at their budget."""
    if not found:
        return None
    figure = Figure(figsize=(4.6 * len(found), 4.2), layout="constrained")
    for axis, each in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        axis.semilogx(each["tokens"], each["loss"], "o-", color="k", label="unsplit")
        for place, target in enumerate(each["multipliers"]):
            colour = f"C{place}"
            axis.plot([target["budget"]], [target["goal"]], "*", ms=11, color=colour)
            label = f"split at {human(target['budget'])} tokens: {times(target['measured'])}"
            axis.axhline(target["goal"], color=colour, ls="--", lw=1, label=label)
        axis.set(xlabel="tokens", ylabel="mean loss, nats per token", title=f"{human(each['params'])} parameters")
        axis.set_xticks(each["tokens"], [human(n) for n in each["tokens"]], minor=False)
        axis.set_xticks([], minor=True)
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure
