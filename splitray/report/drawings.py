"""All figures of the report in their order: the law's from `splitray.report.law_figures`, the run's own from here."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from splitray.law.planning.sweep import sweep_budgets, sweep_params
from splitray.law.runs import read_runs
from splitray.report import captions, figures, law_figures, predicted, style
from splitray.report.pictures import Drawing
from splitray.results.summary import Summary

if TYPE_CHECKING:
    from splitray.corpus.corpus import Corpus
    from splitray.law import Law, Plan


def drawings(summary: Summary, law: "Law | None", plan: "Plan | None", corpus: "Corpus | None") -> Iterator[Drawing]:
    """Every figure of the report, drawn when asked."""

    def own(name: str, title: str, *given: Any) -> Drawing:
        draw, caption = getattr(figures, name), getattr(captions, name)
        return Drawing(name, title, partial(draw, summary, *given), partial(caption, summary))

    yield own("comparison", "What splitting was worth, by domain")
    over = cache(partial(figures.measured, summary, law))
    yield _with_curve("measured", "Measured losses over the law's curve", over, summary)
    yield own("predictions", predicted.TITLE)
    if law is not None and plan is not None:
        yield from _law_drawings(summary, law, plan)
    yield own("domain_map", "Where the domains lie", corpus.projection() if corpus is not None else None)
    yield own("domain_sizes", "How large the domains are")
    yield own("loss_matrix", "Every model on every domain")
    yield own("difference_matrix", "What specialising changed")
    yield own("ladder_saving", "What sharing beginnings saved")
    yield own("stages", "Where the time went")


def _with_curve(name: str, title: str, draw: Callable[[], Figure | None], summary: Summary) -> Drawing:
    """A figure whose caption says where the law's curve leaves it. It is asked for the caption too: `draw` caches."""

    def caption() -> str:
        figure = draw()
        says: Callable[[Summary, float | None], str] = getattr(captions, name)
        return says(summary, style.beyond(figure) if figure is not None else None)

    return Drawing(name, title, draw, caption)


def _law_drawings(summary: Summary, law: "Law", plan: "Plan") -> Iterator[Drawing]:
    question = plan.question
    budgets = plan.budget * np.logspace(-1.5, 1.5, 25)
    params = plan.params * np.logspace(-1.5, 1, 13)

    @cache
    def sweep() -> Any:
        return sweep_budgets(law, question, budgets, plan.level)

    rows = summary.ladder.table if summary.ladder else ()

    @cache
    def known() -> "Law":
        if law.runs is not None:
            return law
        return replace(law, runs=read_runs(pa.Table.from_pylist(list(rows))).counted(law.repetition))

    @cache
    def held_out() -> Any:
        return law_figures.held_out_errors(known())

    if rows:
        yield Drawing(
            "predicted_against_observed",
            "Does the law hold?",
            lambda: law_figures.predicted_against_observed(known(), held_out()),
            lambda: captions.predicted_against_observed(summary, held_out() is not None),
        )

    def threshold() -> Figure:
        return law_figures.threshold_against_params(params, sweep_params(law, question, params, plan.level), plan)

    bowl = cache(partial(law_figures.loss_against_fraction, law, question, plan))
    yield _with_curve("loss_against_fraction", "Loss against the split fraction", bowl, summary)
    for name, title, draw in (
        ("optimum_against_budget", "The best split at other budgets",
         lambda: law_figures.optimum_against_budget(sweep(), plan)),
        ("threshold_against_params", "From where splitting pays", threshold),
        ("multiplier_against_budget", "What an unsplit model would need",
         lambda: law_figures.multiplier_against_budget(sweep(), plan)),
    ):  # fmt: skip
        caption = getattr(captions, name)
        yield Drawing(name, title, draw, partial(caption, summary))
