"""The figures of a study's page. Each gives None where the study has nothing for it."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from splitray.report import study_words, text
from splitray.report.style import BLACK, BLUE, GREEN, GREY, INK, ORANGE, PAPER, PURPLE, WIDTH
from splitray.results.study import FILTERED, GENERAL, LOSS_DOMAIN, MIX, QUALITY
from splitray.results.study_analysis import EfficiencyRatio, StudyAnalysis, StudyCurve
from splitray.results.study_summary import ScoredForecast
from splitray.units import human

STYLES = {  # colour and marker of every arm, in every figure
    GENERAL: (BLACK, "s"),
    FILTERED: (BLUE, "o"),
    QUALITY: (ORANGE, "^"),
    MIX: (GREEN, "D"),
}
_SIZES = (BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY)


def curves(analysis: StudyAnalysis, measure: str = LOSS_DOMAIN) -> Figure | None:
    """A measure against compute, a panel for each model, a line for each arm with its interval."""
    found = [c for c in analysis.curves if c.measure == measure]
    models = list(dict.fromkeys((c.model, c.params) for c in sorted(found, key=lambda c: c.params)))
    if not models:
        return None
    rows = math.ceil(len(models) / 2)
    figure = Figure(figsize=(WIDTH, 0.55 + max(2.4, 1.75 * rows)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, min(2, len(models)), squeeze=False)).ravel()
    for axes, (model, params) in zip(panels, models):
        for curve in (c for c in found if c.model == model):
            _line(axes, curve)
        axes.set_xscale("log")
        axes.set_title(f"{model}, {human(params)}", fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        spent = [p.flops for c in found if c.model == model for p in c.points if p.tokens]
        _ticks(axes, [min(spent), max(spent)])
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    figure.supxlabel("FLOPs of the continued training (6 N D)", fontsize=9)
    figure.supylabel(_unit(measure), fontsize=9)
    _legend(figure, list(panels[: len(models)]))
    return figure


def _line(axes: Axes, curve: StudyCurve) -> None:
    colour, marker = STYLES[curve.arm]
    points = [p for p in curve.points if p.tokens]
    x, y = [p.flops for p in points], [p.value.value for p in points]
    axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.2, label=study_words.arm(curve.arm))
    if all(p.value.low is not None and p.value.high is not None for p in points):
        axes.fill_between(
            x,
            [p.value.low or 0.0 for p in points],
            [p.value.high or 0.0 for p in points],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    if curve.points[0].tokens == 0:
        axes.axhline(curve.points[0].value.value, color=GREY, linewidth=0.9, linestyle=":")


def _unit(measure: str) -> str:
    if measure.startswith("loss/"):
        return f"loss on {measure.split('/')[1]} text (nats per token)"
    if measure.startswith("bits/"):
        return f"bits per byte on {measure.split('/')[1]} text"
    return f"{measure.split('/')[1]}: {measure.split('/')[2].replace('_', ' ')}"


def gap(analysis: StudyAnalysis) -> Figure | None:
    """SGER against N: numbers with intervals, bounds as triangles that point where the truth lies, and power laws."""
    first = study_words.main_ratios(analysis)
    if not any(r.ratio.low or r.ratio.high for r in first):
        return None
    named = first[0].named
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for arm in (FILTERED, MIX, QUALITY):
        rows = [r for r in analysis.ratios if (r.measure, r.arm, r.named) == (LOSS_DOMAIN, arm, named)]
        if rows:
            _ratios(axes, rows, arm)
            _power_law(axes, analysis, rows, arm)
    if analysis.surface is not None:
        law = [m for m in analysis.surface.multipliers if m.arm == FILTERED and 0 < m.multiplier.value < math.inf]
        x, y = [m.params for m in law], [m.multiplier.value for m in law]
        axes.plot(x, y, color=PURPLE, linewidth=1.1, linestyle="--", label="filtered, by the law")
    axes.axhline(1.0, color=INK, linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="compute of general text over the arm's")
    _ticks(axes, [r.params for r in analysis.ratios])
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(lambda y, _: f"{y:g}×" if f"{y:.0e}"[0] in "125" else "")
    _legend(figure, [axes])
    return figure


def _ratios(axes: Axes, rows: Sequence[EfficiencyRatio], arm: str) -> None:
    colour, marker = STYLES[arm]
    label: str | None = study_words.arm(arm)
    for row in rows:
        low, high = row.ratio.low, row.ratio.high
        at = low if low is not None else high
        if at is None:
            continue
        shape = marker if row.ratio.exact else "^" if high is None else "v"
        fill = colour if row.ratio.exact else PAPER
        axes.plot(row.params, at, shape, color=colour, markerfacecolor=fill, markersize=6, label=label)
        label = None
        if row.low is not None and row.high is not None:
            axes.plot([row.params, row.params], [row.low, row.high], color=colour, linewidth=1.4)
        elif row.low is not None or row.high is not None or not row.ratio.exact:
            # a stroke towards where the truth lies; a number from one seed has none
            upwards = high is None or (row.ratio.exact and row.high is None)
            end = at * 1.35 if upwards else at / 1.35
            start = row.low if upwards and row.low is not None else at
            axes.plot([row.params, row.params], [start, end], color=colour, linewidth=1.4, linestyle=":")


def _power_law(axes: Axes, analysis: StudyAnalysis, rows: Sequence[EfficiencyRatio], arm: str) -> None:
    found = next((s for s in analysis.slopes if (s.measure, s.arm, s.named) == (LOSS_DOMAIN, arm, rows[0].named)), None)
    if found is None or found.slope is None or found.at_reference is None:
        return
    own = [r.params for r in rows if r.root == "own"]
    x = np.geomspace(min(own), max(own), 30)
    axes.plot(x, found.at_reference * (x / found.reference) ** found.slope.value, color=STYLES[arm][0], linewidth=0.9)


def forgetting(analysis: StudyAnalysis) -> Figure | None:
    """General loss after less before, against N, for every arm."""
    if not analysis.forgetting:
        return None
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figure.add_subplot()
    arms = [arm for arm in STYLES if any(f.arm == arm for f in analysis.forgetting)]
    for index, arm in enumerate(arms):
        colour, marker = STYLES[arm]
        rows = sorted((f for f in analysis.forgetting if f.arm == arm), key=lambda f: f.params)
        x = [f.params * 1.04 ** (index - (len(arms) - 1) / 2) for f in rows]  # side by side
        axes.plot(x, [f.difference.value for f in rows], marker, color=colour, markersize=5, label=study_words.arm(arm))
        for at, row in zip(x, rows):
            if row.difference.low is not None and row.difference.high is not None:
                axes.plot([at, at], [row.difference.low, row.difference.high], color=colour, linewidth=1.4)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xscale="log", xlabel="parameters N", ylabel="general loss, after less before")
    _ticks(axes, [f.params for f in analysis.forgetting])
    _legend(figure, [axes])
    return figure


def exams(analysis: StudyAnalysis) -> Figure | None:
    """Nats per byte of the right answers, filtered less general text, by exam, a mark for each model."""
    rows = [r for r in analysis.exams if r.arm == FILTERED and r.to_general is not None]
    if not rows:
        return None
    names = list(dict.fromkeys(r.exam for r in rows))[::-1]
    models = list(dict.fromkeys(r.model for r in sorted(rows, key=lambda r: r.params)))
    figure = Figure(figsize=(WIDTH, 1.1 + max(0.3, 0.11 * len(models)) * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for place, model in enumerate(models):
        colour, marker = _SIZES[place % len(_SIZES)], "os^Dv*"[place % 6]
        mine = [r for r in rows if r.model == model and r.to_general is not None]
        heights = [names.index(r.exam) + 0.6 * ((place + 0.5) / len(models) - 0.5) for r in mine]
        values = [r.to_general.value for r in mine if r.to_general is not None]
        label = f"{model}, {human(mine[0].params)}"
        axes.plot(values, heights, marker, color=colour, markersize=4.5, label=label)
        for height, row in zip(heights, mine):
            found = row.to_general
            if found is not None and found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [height, height], color=colour, linewidth=1.1)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(names)), [text.name(n) for n in names])
    axes.set(xlabel="nats per byte, filtered less general", ylim=(-0.6, len(names) - 0.4))
    axes.grid(axis="y", visible=False)
    _legend(figure, [axes])
    return figure


def forecasts(found: Sequence[ScoredForecast]) -> Figure | None:
    """The forecast of the last held-out size by arm with its interval, and what was then measured."""
    if not found:
        return None
    made, scored = found[-1].forecast, found[-1].score
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for arm in dict.fromkeys(p.arm for p in made.points):
        colour, marker = STYLES[arm]
        points = [p for p in made.points if p.arm == arm and p.tokens]
        x = [p.tokens for p in points]
        axes.plot(x, [p.value for p in points], color=colour, linewidth=1.0, linestyle="--")
        axes.fill_between(x, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, linewidth=0)
        measured = [e for e in scored.points if e.predicted.arm == arm and e.predicted.tokens] if scored else []
        axes.plot(
            [e.predicted.tokens for e in measured],
            [e.measured for e in measured],
            marker,
            color=colour,
            markersize=5,
            label=study_words.arm(arm),
        )
    axes.set(xscale="log", xlabel="continued tokens", ylabel="loss on domain text (nats per token)")
    _ticks(axes, [p.tokens for p in made.points if p.tokens])
    _legend(figure, [axes])
    return figure


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis where the data are, as far as their labels fit beside each other."""
    kept: list[float] = []
    ordered = sorted(set(values))
    least = (ordered[-1] / ordered[0]) ** (1 / 7)  # a label is about a seventh of the axis wide
    for value in ordered:
        if not kept or value >= least * kept[-1]:
            kept.append(value)
    if len(kept) == 1:  # in the middle, and what stands beside it for another arm close to it
        axes.set_xlim(kept[0] / 2, kept[0] * 2)
    axes.set_xticks(kept, [human(v, 2) for v in kept])
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend above, each label once."""
    held: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        held |= {label: handle for label, handle in zip(labels, handles) if label not in held}
    if held:
        figure.legend(held.values(), held.keys(), loc="outside upper left", ncols=2, frameon=False)
