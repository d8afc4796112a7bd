"""The figure of a proof: the predicted curve with its band, the measured points and the curve through them."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from splitray.proof.scoring import Proof
from splitray.report.style import BLUE, GREY, ORANGE, WIDTH, png, styled, svg

_ROOM = 3.0  # times the spread of the measured losses, that the forecast may take beyond them


def figure(proof: Proof) -> Figure:
    """Loss against split fraction. Where the law knows a part of the domains, its curve and points are over those."""
    forecast, bowl = proof.forecast, proof.bowl
    drawn = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = drawn.subplots()
    if forecast.curve is not None:
        if forecast.curve.band is not None:
            low, high = forecast.curve.band
            axes.fill_between(forecast.curve.split_fraction, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(forecast.curve.split_fraction, forecast.curve.loss, color=BLUE, label="forecast")
    axes.plot([s.split_fraction for s in proof.splits], [s.loss for s in proof.splits], "o", color=ORANGE, ms=4.5)
    axes.plot([], [], "o", color=ORANGE, ms=4.5, label="measured")
    if bowl.smooth is not None and _same_domains(proof):
        axes.plot(np.linspace(0, 1, len(bowl.smooth)), bowl.smooth, color=ORANGE, linewidth=0.9, label="through them")
    axes.axvline(bowl.planned, color=GREY, linestyle="--", linewidth=0.9, label="planned")
    axes.set_ylim(*_limits(proof))
    axes.set_xlabel("split fraction, D / D_T")
    axes.set_ylabel("loss, nats per token")
    axes.legend(frameon=False)
    return drawn


def _limits(proof: Proof) -> tuple[float, float]:
    """Of the loss axis: all that was measured, and as much of the forecast as leaves that readable.

    A law that is left open at D = 0 may go far off there.
    """
    measured = [s.loss for s in proof.splits]
    drawn = [*measured, *(proof.forecast.curve.loss if proof.forecast.curve is not None else ())]
    room = _ROOM * max(max(measured) - min(measured), 0.02 * max(measured))
    low, high = max(min(drawn), min(measured) - room), min(max(drawn), max(measured) + room)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _same_domains(proof: Proof) -> bool:
    """Whether the law knows every domain that was measured."""
    measured = set(proof.comparison[0].by_domain) if proof.comparison else set()
    return measured == {row.domain for row in proof.forecast.rows}


def draw(proof: Proof, path: Path) -> list[Path]:
    """Write the figure as PNG and SVG beside `path`, which has no suffix; the two files."""
    with styled():
        drawn = figure(proof)
        written = {path.with_suffix(".png"): png(drawn), path.with_suffix(".svg"): svg(drawn, "proof")}
    for place, data in written.items():
        place.write_bytes(data)
    return list(written)
