"""Figures of a law and its plan. Lines differ by dash and marker, bands by hatch: nothing is told by colour alone.

Every function returns a matplotlib Figure; matplotlib is imported when the first one is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from splitray.errors import StorageError, UserError
from splitray.law.arrays import Array
from splitray.law.law import Law
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.plan import Plan
from splitray.law.planning.question import Limits, Question
from splitray.law.planning.sweep import Sweep, loss_curve, sweep_budgets, sweep_params
from splitray.storage.folder import Folder
from splitray.units import human

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "splitray",
    "hatch.linewidth": 0.4,
    "figure.dpi": 100,
}
_BAND: dict[str, Any] = {"facecolor": "0.9", "edgecolor": "0.55", "hatch": "////", "linewidth": 0.0}
# The blue is dark enough to print as black.
_MAIN: dict[str, Any] = {"color": "#123a6b", "linewidth": 1.8}
# Beyond, a multiplier only says that no one will train that long unsplit.
_MOST_SHOWN = 1e3
_LEAST_SHOWN = 1e-2  # of the smallest budget
_DASHES = ("-", "--", ":")


def predicted_against_observed(law: Law, heldout: tuple[Array, Array] | None = None) -> Figure:
    """Predicted against observed loss of the runs, and the error of each in percent.

    heldout: (observed, predicted) of rows that the fit which predicted them had not seen; drawn hollow.
    """
    if law.runs is None:
        raise UserError("this law has no table of runs (it was loaded or given): fit it again to draw its errors")
    observed = law.runs.loss
    predicted = np.empty_like(observed)
    for index, domain in enumerate(law.domains):
        rows = law.runs.group == index
        predicted[rows] = law.predict(
            law.runs.params[rows], law.runs.pretrain_tokens[rows], law.runs.specialize_tokens[rows], domain
        )
    figure, (above, below) = _figure(2)
    filled = {"marker": "o", "s": 14, "color": "0.25", "linewidths": 0, "alpha": 0.7}
    hollow = {"marker": "^", "s": 30, "facecolors": "none", "edgecolors": "#a33b00", "linewidths": 1.0}
    groups: list[tuple[Array, Array, dict[str, Any], str]] = [(observed, predicted, filled, "fitted")]
    if heldout is not None:
        groups.append((*heldout, hollow, "held out"))
    for x, y, look, label in groups:
        error = 100 * (y / x - 1)
        above.scatter(x, y, label=f"{label} ({x.size})", **look)
        below.scatter(x, error, label=f"{label}: mean |error| {np.abs(error).mean():.2g} %", **look)
    ends = np.array([min(g[0].min() for g in groups), max(g[0].max() for g in groups)])
    above.plot(ends, ends, color="0.3", linewidth=0.8, linestyle=_DASHES[1], label="predicted = observed")
    below.axhline(0, color="0.3", linewidth=0.8, linestyle=_DASHES[1])
    above.set(xlabel="observed loss (nats per token)", ylabel="predicted loss (nats per token)")
    below.set(xlabel="observed loss (nats per token)", ylabel="predicted / observed - 1 (%)")
    _legend(above, 2)
    _legend(below, 1)
    figure.suptitle(f"Predicted against observed, form {law.form}")
    return figure


def loss_against_fraction(law: Law, question: Question, plan: Plan) -> Figure:
    """Loss against split fraction at half, the same and twice the budget, with the band and the plan."""
    figure, (axes,) = _figure(1)
    fractions = np.concatenate([[0.0], np.logspace(-4, np.log10(0.04), 25), np.linspace(0.05, 0.95, 91)])
    fractions = np.concatenate([fractions, 1 - np.logspace(np.log10(0.04), -4, 25), [1.0]])
    shown = []
    for factor, dash in ((0.5, _DASHES[1]), (1.0, _DASHES[0]), (2.0, _DASHES[2])):
        scaled = replace(question, budget=question.budget * factor, limits=Limits())
        loss, band = loss_curve(law, scaled, fractions, plan.level)
        if factor == 1:
            axes.plot(fractions, loss, label="the plan's budget", **_MAIN)
            if band is not None:
                axes.fill_between(fractions, *band, label=f"its {plan.level:.0%} band", **_BAND)
        else:
            axes.plot(fractions, loss, color="0.35", linestyle=dash, linewidth=1.2)
        axes.annotate(f"{human(scaled.budget)} tokens", (1, loss[-1]), (8, 0), textcoords="offset points", va="center")
        shown.append(loss)
    best = plan.split_fraction
    star = axes.plot(best.value, plan.predicted_loss.value, "*", markersize=13, color="black", zorder=6)
    star[0].set(label="planned split", clip_on=False)
    if best.low is not None and best.high is not None:
        axes.plot(
            [best.low, best.high], [plan.predicted_loss.value] * 2, color="black", linewidth=1.2, marker="|", zorder=4
        )
    axes.plot(
        1,
        plan.unsplit_loss.value,
        "s",
        markersize=7 if best.value < 1 else 17,  # around the star where the plan is not to split
        markerfacecolor="white",
        markeredgecolor="black",
        zorder=5,
        label="unsplit",
        clip_on=False,
    )
    # From scratch may be far above everything else; what matters is the bowl.
    bottom, top = min(c.min() for c in shown), max(np.quantile(c, 0.9) for c in shown)
    axes.set_ylim(bottom - 0.08 * (top - bottom), top + 0.08 * (top - bottom))
    axes.set(xlim=(0, 1), xlabel="split fraction s = D / D_T", ylabel="loss (nats per token)")
    axes.set_title(f"{human(plan.params)} parameters, {plan.domains} domains")
    _legend(axes, 2)
    return figure


def optimum_against_budget(sweep: Sweep, plan: Plan) -> Figure:
    """Optimal split fraction, and optimal pretraining tokens, against the budget."""
    figure, (above, below) = _figure(2)
    _curve(above, sweep.budgets, sweep.split_fraction, "optimal fraction", plan.level)
    _mark(above, plan.budget, plan.split_fraction)
    above.set(ylim=(0, 1.05), ylabel="optimal split fraction s")
    _curve(below, sweep.budgets, sweep.pretrain_tokens, "optimal D", plan.level)
    below.plot(
        sweep.budgets, sweep.budgets, color="0.4", linestyle=_DASHES[2], linewidth=1.2, label="no split: D = D_T"
    )
    _mark(below, plan.budget, plan.pretrain_tokens)
    below.set_yscale("log")
    # A split at zero would draw the axis down to a fraction of a token.
    below.set_ylim(bottom=_LEAST_SHOWN * sweep.budgets[0])
    _counts(below.yaxis)
    below.set_ylabel("optimal pretraining D (tokens)")
    for axes in (above, below):
        _budget_axis(axes)
        _legend(axes, 2)
    figure.suptitle(f"{human(plan.params)} parameters, {plan.domains} domains")
    return figure


def threshold_against_params(params: Array, thresholds: Iterable[Estimate], plan: Plan) -> Figure:
    """D_split, the budget from which splitting pays, against the model's size."""
    figure, (axes,) = _figure(1)
    _curve(axes, params, tuple(thresholds), "D_split", plan.level)
    _mark(axes, plan.params, plan.split_threshold, "at the plan's size")
    axes.plot(params, 20 * params, color="0.4", linestyle=_DASHES[2], linewidth=1.2, label="20 tokens per parameter")
    axes.plot(
        plan.params, plan.budget, "x", color="black", markersize=8, markeredgewidth=1.8, label="the plan's budget"
    )
    axes.set(xscale="log", yscale="log", xlabel="model size N (parameters)", ylabel="budget D_T (tokens)")
    _counts(axes.xaxis)
    _counts(axes.yaxis)
    axes.set_title(f"Splitting into {plan.domains} domains pays above the line")
    _legend(axes, 2)
    return figure


def multiplier_against_budget(sweep: Sweep, plan: Plan) -> Figure:
    """How many times the tokens an unsplit model needs for the same loss, against the budget."""
    figure, (axes,) = _figure(1)
    _curve(axes, sweep.budgets, sweep.compute_multiplier, "compute multiplier", plan.level)
    _mark(axes, plan.budget, plan.compute_multiplier)
    axes.axhline(1, color="0.4", linestyle=_DASHES[2], linewidth=1.2, label="no split")
    values = np.array([e.value for e in sweep.compute_multiplier])
    bounds = [bound for e in sweep.compute_multiplier for bound in (e.value, e.high or 0.0) if bound <= _MOST_SHOWN]
    axes.set(yscale="log", ylim=(0.8, 1.5 * max(3.0, *bounds)), ylabel="compute multiplier m (times)")
    if np.isinf(values).any():
        start = sweep.budgets[np.isinf(values)].min()
        axes.axvspan(
            start,
            sweep.budgets[-1],
            facecolor="none",
            edgecolor="0.5",
            hatch="..",
            linewidth=0.0,
            label="infinite: below unsplit floor",
        )
    _budget_axis(axes)
    _plain_ticks(axes.yaxis)
    axes.set_title(f"{human(plan.params)} parameters, {plan.domains} domains")
    _legend(axes, 2)
    return figure


def held_out_errors(law: Law) -> tuple[Array, Array] | None:
    """(observed, predicted) of the runs of the largest size, by the law's form fitted on all smaller ones.

    None where the law has no runs, or fewer than three sizes.
    """
    from splitray.law import fit

    if law.runs is None or len(sizes := np.unique(law.runs.params)) < 3:
        return None
    largest = law.runs.params == sizes[-1]
    table = law.runs.table.take(law.runs.order)
    try:
        smaller = fit(table.filter(~largest), form=law.form, repetition=law.repetition.constant)
    except UserError:
        return None  # a domain of the largest size only, or too few rows: there is no smaller law to show
    hidden = np.flatnonzero(largest)
    predicted = np.empty(hidden.size)
    for index, domain in enumerate(law.domains):
        mine = law.runs.group[hidden] == index
        rows = hidden[mine]
        predicted[mine] = smaller.predict(
            law.runs.params[rows], law.runs.pretrain_tokens[rows], law.runs.specialize_tokens[rows], domain
        )
    return law.runs.loss[hidden], predicted


def write_figures(law: Law, question: Question, plan: Plan, folder: str | Path) -> list[str]:
    """Write every figure as SVG and PNG into `folder`; returns the names written."""
    from matplotlib import rc_context

    budgets, threshold = plan.budget * np.logspace(-2, 2, 29), plan.split_threshold.value
    if budgets[0] < threshold < budgets[-1]:
        budgets = np.sort([*budgets, threshold])  # where the curves have their kink
    sweep = sweep_budgets(law, replace(question, limits=Limits()), budgets, plan.level)
    params = plan.params * np.logspace(-1.5, 1, 16)
    figures = {
        "loss_against_fraction": loss_against_fraction(law, question, plan),
        "optimum_against_budget": optimum_against_budget(sweep, plan),
        "threshold_against_params": threshold_against_params(
            params, sweep_params(law, question, params, plan.level), plan
        ),
        "multiplier_against_budget": multiplier_against_budget(sweep, plan),
    }
    if law.runs is not None:
        figures["predicted_against_observed"] = predicted_against_observed(law, held_out_errors(law))
    names = []
    try:
        for name, figure in figures.items():
            for suffix in ("svg", "png"):
                stream = io.BytesIO()
                with rc_context(_STYLE):
                    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                    figure.savefig(stream, format=suffix, dpi=150, metadata=metadata)
                Folder(folder).write(f"{name}.{suffix}", stream.getvalue())
                names.append(f"{name}.{suffix}")
    except StorageError as error:
        raise UserError(f"{folder}: the figures cannot be written ({error}); give another folder") from error
    return names


def _figure(panels: int) -> tuple[Figure, tuple[Axes, ...]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from splitray.report.style import WIDTH

    with rc_context(_STYLE):
        # Panels lie one above the other, at the width of the report's other figures: side by side a phone cuts them.
        figure = Figure(figsize=(WIDTH, 3.7 * panels), layout="constrained")
        return figure, tuple(figure.subplots(panels, 1, squeeze=False)[:, 0])


def _curve(axes: Axes, x: Array, estimates: tuple[Estimate, ...], label: str, level: float) -> None:
    """A line with its band; infinite values leave a gap, infinite bounds a band without end."""
    values = np.array([e.value if np.isfinite(e.value) else np.nan for e in estimates])
    axes.plot(x, values, label=label, **_MAIN)
    if all(e.low is not None for e in estimates):
        low, high = (np.array([min(getattr(e, end), 1e30) for e in estimates]) for end in ("low", "high"))
        axes.fill_between(x, low, high, label=f"{level:.0%} interval", **_BAND)


def _legend(axes: Axes, columns: int) -> None:
    """Below the axes, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, frameon=False)


def _mark(axes: Axes, x: float, estimate: Estimate, label: str = "the plan") -> None:
    if np.isfinite(estimate.value):
        axes.plot(x, estimate.value, "*", markersize=13, color="black", zorder=5, label=label)


def _budget_axis(axes: Axes) -> None:
    axes.set(xscale="log", xlabel="budget D_T (tokens)")
    _counts(axes.xaxis)


def _counts(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
