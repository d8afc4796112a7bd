"""The report's own figures; those of the law are in `splitray.report.law_figures`.

Every function takes the summary and returns a matplotlib figure, or None where the run has
nothing to show yet. Colours are Okabe and Ito's, told apart by colour-blind readers, and never the only mark.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MultipleLocator

from splitray.law import Law
from splitray.law.planning.question import Limits, Question
from splitray.law.planning.sweep import loss_curve
from splitray.report import predicted, text
from splitray.report.style import BLACK, BLUE, CYCLE, GREEN, GREY, INK, MARKERS, ORANGE, PAPER, SKY, VERMILION, WIDTH
from splitray.results.evaluation import PLANNED, UNSPLIT, LossMatrix
from splitray.results.summary import Summary

STRATEGIES = {  # colour, marker, size; the star is the plan in every figure
    PLANNED: (BLUE, "*", 11.0),
    UNSPLIT: (BLACK, "s", 5.5),
    "split at zero": (ORANGE, "<", 6.5),
    "split at one half": (GREEN, "D", 5.5),
}
_OTHER = (VERMILION, "^", 6.0)
_LOSSES = LinearSegmentedColormap.from_list("losses", ["#eef5fb", SKY, BLUE])
_DIFFERENCES = LinearSegmentedColormap.from_list("differences", [BLUE, SKY, "#f7f7f5", ORANGE, VERMILION])


def comparison(summary: Summary) -> Figure | None:
    """Every strategy's loss less the unsplit model's, for the mean with its interval and for each domain."""
    rows = summary.evaluation.comparison if summary.evaluation else ()
    whole = text.strategy(summary, UNSPLIT)
    if whole is None or len(rows) < 2:
        return None
    domains = list(whole.by_domain)
    figure, axes = _axes(1.2 + 0.3 * (len(domains) + 1))
    heights = np.arange(len(domains), -1, -1.0)
    for index, row in enumerate(rows):
        colour, marker, size = STRATEGIES.get(row.strategy, _OTHER)
        below = [row.loss - whole.loss, *(row.by_domain[d] - whole.by_domain[d] for d in domains)]
        # Equal values would hide each other: strategies are spread over a third of the row.
        at = heights - (index - (len(rows) - 1) / 2) * 0.33 / max(1, len(rows) - 1)
        axes.plot(below, at, marker, color=colour, markersize=size, label=row.strategy, zorder=3)
        spread = row.difference
        if spread and row is not whole and spread.low is not None and spread.high is not None:
            axes.plot([spread.low, spread.high], [at[0], at[0]], color=colour, linewidth=2, zorder=2)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.axhspan(len(domains) - 0.5, len(domains) + 0.5, color=GREY, alpha=0.15, linewidth=0)
    axes.set_yticks(heights, ["mean", *map(text.name, domains)])
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set(xlabel="loss less unsplit's (nats per token)", ylim=(-0.6, len(domains) + 0.6))
    _legend_above(figure)
    return figure


def measured(summary: Summary, law: Law | None) -> Figure | None:
    """The law's curve over the split fraction, with its band, and every real model that was trained on that line."""
    plan, search = text.chosen_plan(summary), summary.search
    if law is None or plan is None:
        return None
    params, budget = (search or plan).params, (search or plan).budget
    compared = summary.evaluation.comparison if summary.evaluation else ()
    same_line = (params, budget) == (plan.params, plan.budget)
    rows = [r for r in compared if same_line and (r.strategy != PLANNED or 0 < r.split_fraction < 1)]
    rounds = search.rounds if search else ()
    if not rows and not rounds:
        return None
    fractions = np.linspace(0, 1, 101)
    weights = text.plan_weights(plan)
    domains = list(weights) or plan.domains
    question = Question(params, budget, domains, list(weights.values()) or None, limits=Limits(text=plan.text))
    loss, band = loss_curve(law, question, fractions, plan.level)
    figure, axes = _axes(3.9)
    axes.plot(fractions, loss, color=INK, linewidth=1.3, label="the law, refitted" if rounds else "the law")
    if band is not None:
        axes.fill_between(fractions, *band, color=GREY, alpha=0.22, linewidth=0, label=f"its {text.plan_label(plan)}")
    seen = list(loss[5:96])  # from scratch may lie far above: the bowl and what was measured set the range
    for index, made in enumerate(rounds):
        if not made.trials:
            continue
        points = [(t.split_fraction, text.on_law_domains(t, summary)) for t in made.trials]
        colour, marker = CYCLE[(index + 3) % len(CYCLE)], "^v><"[index % 4]
        seen += [loss for _, loss in points]
        label = f"trials of round {made.round}"
        axes.plot(*zip(*points), marker, color=colour, markersize=6.0, label=label, clip_on=False)
    for row in rows:
        colour, marker, size = STRATEGIES.get(row.strategy, _OTHER)
        seen.append(text.on_law_domains(row, summary))
        axes.plot(
            row.split_fraction, seen[-1], marker, color=colour, markersize=size, label=row.strategy, clip_on=False
        )
    margin = 0.06 * (max(seen) - min(seen))
    axes.set(xlabel="split fraction s = D / D_T", ylabel="loss (nats per token)", xlim=(0, 1))
    axes.set_ylim(min(seen) - margin, max(seen) + margin)
    _legend_above(figure)
    return figure


def predictions(summary: Summary) -> Figure | None:
    """What was measured less what the law predicted, over the prediction's interval: strategies, then trials."""
    rows = [row for group in predicted.groups(summary) for row in group.rows]
    if not rows:
        return None
    figure, axes = _axes(0.9 + 0.27 * len(rows))
    heights = np.arange(len(rows) - 1, -1, -1.0)
    for height, row in zip(heights, rows):
        value, low, high = row.predicted.value, row.predicted.low, row.predicted.high
        if low is not None and high is not None:
            axes.barh(height, high - low, left=low - value, height=0.5, color=GREY, alpha=0.3)
        fill = BLUE if row.inside else PAPER
        edge = BLUE if row.inside is not False else VERMILION
        axes.plot(row.measured - value, height, "o", markersize=6, markerfacecolor=fill, markeredgecolor=edge)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(heights, [predicted.label(row) for row in rows])
    axes.use_sticky_edges = False  # bars would end at the frame
    axes.margins(x=0.06)
    axes.set(xlabel="measured less predicted (nats/token)", ylim=(-0.6, len(rows) - 0.4))
    axes.grid(axis="y", visible=False)
    return figure


def domain_sizes(summary: Summary) -> Figure | None:
    """Training tokens of every domain, largest first."""
    domains = sorted(summary.domains, key=lambda d: d.train.tokens)
    if not domains:
        return None
    figure, axes = _axes(0.8 + 0.27 * len(domains))
    sizes = [d.train.tokens for d in domains]
    axes.barh([text.name(d.name) for d in domains], sizes, color=BLUE, height=0.62)
    for height, domain in enumerate(domains):
        held = f"{text.tokens(domain.train.tokens)}  (+{text.tokens(domain.validation.tokens)})"
        axes.annotate(held, (sizes[height], height), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set(xlabel="training tokens", xlim=(0, 1.7 * max(sizes)), ylim=(-0.6, len(sizes) - 0.4))
    axes.xaxis.set_major_formatter(lambda x, _: text.tokens(x))
    axes.grid(axis="y", visible=False)
    return figure


def domain_map(summary: Summary, projection: pa.Table | None) -> Figure | None:
    """A sample of documents in the plane in which the domains' centroids lie furthest apart."""
    names = [d.name for d in summary.domains]
    if projection is None or not names or not projection.num_rows:
        return None
    x, y = (projection[axis].to_numpy() for axis in ("x", "y"))
    owner = np.asarray(projection["domain"].to_pylist())
    figure, axes = _axes(3.9)
    colours = [CYCLE[index % len(CYCLE)] for index in range(len(names))]
    centres = np.full((len(names), 2), np.nan)
    for index, domain in enumerate(names):
        mine, marker = owner == domain, MARKERS[index // len(CYCLE) % len(MARKERS)]
        axes.scatter(x[mine], y[mine], s=7, color=colours[index], marker=marker, alpha=0.45, linewidths=0)
        if mine.any():
            centres[index] = np.median(x[mine]), np.median(y[mine])
    # A label is about a quarter of the figure wide and a 16th of it high.
    apart = _spread(centres, np.array([np.ptp(x) / 4, np.ptp(y) / 16]))
    for domain, colour, place in zip(names, colours, apart):
        if np.isfinite(place).all():
            box = {"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "none", "alpha": 0.92}
            ink = "#ffffff" if colour in (BLUE, VERMILION, GREEN) else "#111111"
            axes.annotate(text.name(domain), place, ha="center", va="center", fontsize=8, color=ink, bbox=box)
    axes.set(xticks=[], yticks=[], xlabel="first axis of the centroids", ylabel="second axis")
    axes.grid(visible=False)
    return figure


def loss_matrix(summary: Summary) -> Figure | None:
    """Loss of every model (rows) on every domain (columns)."""
    if summary.evaluation is None or not text.splits(summary):
        return None  # without a split all rows are the same
    matrix = summary.evaluation.matrix
    values = np.asarray(matrix.loss, dtype=float)
    shades = (values - values.min()) / (np.ptp(values) or 1.0)
    return _heatmap(matrix, shades, shades > 0.75, [f"{v:.2f}" for v in values.flat], _LOSSES)


def difference_matrix(summary: Summary) -> Figure | None:
    """Loss of every specialist less the unsplit leaf's (the matrix's first row), domain by domain."""
    if summary.evaluation is None:
        return None
    matrix = summary.evaluation.matrix
    if matrix.models[0] in matrix.domains:
        return None  # split at zero: there is no base to compare with
    losses = np.asarray(matrix.loss, dtype=float)
    values = losses[1:] - losses[0]
    if not values.any():
        return None  # the plan is not to split
    # Off the diagonal losses rise by nats: the scale is the diagonal's, so that what was gained stays visible.
    shades = np.clip(0.5 + values / (4 * (np.abs(np.diagonal(values)).max() or 1.0)), 0, 1)
    labels = [f"{v:+.2f}".replace("-", "−") for v in values.flat]
    dark = np.abs(shades - 0.5) > 0.42
    return _heatmap(replace(matrix, models=matrix.models[1:]), shades, dark, labels, _DIFFERENCES)


def stages(summary: Summary) -> Figure | None:
    """Wall time of every stage and, where it trained, its tokens per second."""
    rows = summary.stages[::-1]
    if not rows:
        return None
    figure, axes = _axes(0.75 + 0.27 * len(rows))
    seconds = [s.seconds for s in rows]
    trained = [bool(s.tokens_trained) for s in rows]
    bars = axes.barh([s.stage for s in rows], seconds, color=[BLUE if t else GREY for t in trained], height=0.62)
    for bar, is_training in zip(bars, trained):
        bar.set_hatch("" if is_training else "//")
    for height, stage in enumerate(rows):
        rate = stage.tokens_per_second
        label = text.duration(stage.seconds) + (f" · {text.tokens(rate)} tokens/s" if rate else "")
        axes.annotate(label, (seconds[height], height), (4, 0), textcoords="offset points", va="center", fontsize=8)
    unit, label = next(((u, n) for u, n in ((3600, "hours"), (60, "minutes")) if max(seconds) > 3 * u), (1, "seconds"))
    axes.set(xlabel=f"wall time ({label})", xlim=(0, 1.6 * max(*seconds, 1e-9)))
    axes.xaxis.set_major_locator(MultipleLocator(unit * _step(max(seconds) / unit)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / unit:g}")
    axes.grid(axis="y", visible=False)
    return figure


def ladder_saving(summary: Summary) -> Figure | None:
    """Tokens that the ladder's leaves would cost alone, against those that the tree trained."""
    ladder = summary.ladder
    if ladder is None or not ladder.tokens_from_scratch:
        return None
    figure, axes = _axes(1.25)
    counts = [ladder.tokens_trained, ladder.tokens_from_scratch]
    axes.barh(["as a tree", "one by one"], counts, color=[BLUE, GREY], height=0.6)
    for height, count in enumerate(counts):
        axes.annotate(text.tokens(count), (count, height), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set(xlabel=f"tokens for the ladder's {ladder.leaves} models", xlim=(0, 1.2 * max(counts)))
    axes.xaxis.set_major_formatter(lambda x, _: text.tokens(x))
    axes.grid(axis="y", visible=False)
    return figure


def _spread(centres: np.ndarray, box: np.ndarray) -> np.ndarray:
    """`centres` [labels, 2], moved up where two boxes of that size would overlap."""
    places = centres.copy()
    order = np.argsort(centres[:, 1], kind="stable")
    for rank, label in enumerate(order):
        for below in sorted(order[:rank], key=lambda other: places[other, 1]):
            if (np.abs(places[label] - places[below]) < box).all():
                places[label, 1] = places[below, 1] + box[1]
    return places


def _heatmap(
    matrix: LossMatrix,
    shades: np.ndarray,
    dark: np.ndarray,
    labels: Sequence[str],
    colours: LinearSegmentedColormap,
) -> Figure:
    """`shades` [models, domains] from 0 to 1 are coloured and `labels` written, white where `dark`; the domain that a
    model was trained on is framed."""
    count, across = shades.shape
    figure, axes = _axes(1.15 + 0.3 * count, width=max(WIDTH, 1.6 + 0.52 * across))
    axes.imshow(shades, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for index, label in enumerate(labels):
        row, column = divmod(index, across)
        ink = "#ffffff" if dark[row, column] else "#111111"
        own = matrix.models[row] == matrix.domains[column]
        weight = "bold" if own else "normal"
        axes.text(column, row, label, ha="center", va="center", fontsize=8, color=ink, fontweight=weight)
        if own:
            corner = (column - 0.48, row - 0.46)
            axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor="#111111", linewidth=1.3))
    axes.set_xticks(range(across), [text.name(d) for d in matrix.domains], rotation=35, ha="right")
    axes.set_yticks(range(count), [text.name(m) for m in matrix.models])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set(xlabel="domain of the text", ylabel="model")
    return figure


def _axes(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _step(most: float) -> float:
    """A tick distance of 1, 2 or 5 times a power of ten that gives three to seven ticks."""
    return next(s * 10.0**e for e in range(-3, 9) for s in (1, 2, 5) if most / (s * 10.0**e) <= 6)


def _legend_above(figure: Figure) -> None:
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
