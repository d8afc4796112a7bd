"""What the page and the log say where the plan is not to split, and the caveats that a first reader must meet."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from splitray.law import plan
from splitray.law.planning.estimate import Estimate
from splitray.report import bill, captions, figures, law_figures, style, text
from splitray.report.limits import limits
from splitray.report.page import render
from splitray.results.codec import from_json
from splitray.results.summary import Summary
from tests.report.test_report import USAGE, Page, _printed
from tests.support import example

HEADLINE = "Do not split at this budget: the 6 folders in specialists/ hold the same model as base/"
COMMAND = "splitray run --config YOUR_FILE --set name=example-2 --set budget=42M"


def unsplit(threshold: float = 41.3e6, low: float = 20e6, high: float = 80e6) -> dict[str, Any]:
    """The example with a plan of 1: every model is the base."""
    summary = example.summary()
    summary["final_plan"]["split_fraction"] = {"value": 1.0, "low": 1.0, "high": 1.0}
    summary["final_plan"]["split_threshold"] = {
        "value": threshold,
        "low": low,
        "high": high,
        "probability_infinite": 0.0,
    }
    rows = summary["evaluation"]["comparison"]
    rows[0] = rows[1] | {"strategy": "planned split"}
    matrix = summary["evaluation"]["matrix"]
    for part in ("loss", "bits_per_byte"):
        matrix[part] = [matrix[part][0]] * len(matrix[part])
    return summary


def page_of(summary: dict[str, Any], tmp_path: Path) -> str:
    return _page(summary, tmp_path).text


def _page(summary: dict[str, Any], tmp_path: Path) -> Page:
    (tmp_path / "page.html").write_text(render(Summary.parse(summary), {}).replace("\N{NO-BREAK SPACE}", " "))
    return Page(tmp_path / "page.html")


def test_the_headline_says_that_all_folders_hold_one_model_and_what_to_do_next(tmp_path: Path) -> None:
    shown, printed = page_of(unsplit(), tmp_path), _printed(unsplit())
    for said in (shown, " ".join(printed.split())):
        assert HEADLINE in said and f"Next: {COMMAND}" in said
        assert "splitting pays from about 41.3M tokens (20M to 80M)" in said
        assert "cannot exclude" not in said
    assert f"Next: {COMMAND}" in printed, "on one line, to copy"


def test_an_interval_with_the_budget_in_it_excludes_nothing(tmp_path: Path) -> None:
    summary = unsplit(low=0.5 * example.BUDGET)
    for said in (page_of(summary, tmp_path), " ".join(_printed(summary).split())):
        assert "The law cannot exclude that it pays at this budget." in said


@pytest.mark.parametrize(
    ("name", "threshold", "said", "command"),
    [
        ("run-2", 99.1e6, "pays from about 99.1M", "--set name=run-3 --set budget=100M"),
        ("run", None, "knows no budget from which splitting pays", ""),  # JSON has no infinity
        ("run", 1e6, "", ""),  # something other than the budget keeps the plan from splitting
    ],
)
def test_the_next_step(name: str, threshold: float | None, said: str, command: str) -> None:
    summary = unsplit() | {"name": name}
    summary["final_plan"]["split_threshold"] |= {"value": threshold}
    pays, next_command = text.next_step(Summary.parse(summary))
    assert said in pays and command in next_command and bool(said) == bool(pays) and bool(command) == bool(next_command)


def test_a_run_that_splits_has_no_next_step(tmp_path: Path) -> None:
    shown = page_of(example.summary(), tmp_path)
    assert "--set budget" not in shown and "the router sends" in shown and "All models are the same" not in shown


def test_models_that_are_all_the_same_are_said_to_be(tmp_path: Path) -> None:
    shown = page_of(unsplit(), tmp_path)
    assert "All models are the same: the plan does not split." in shown
    assert "the router sends" not in shown and "the model of base/, once for each domain" in shown
    first = unsplit()["evaluation"]["comparison"][0]["by_domain"]["0_section_subsection"]
    assert f"section subsection {first:.3f}" in shown
    assert figures.loss_matrix(Summary.parse(unsplit())) is None


def test_only_a_strictly_better_specialist_is_the_best() -> None:
    summary = example.summary()
    assert "On 6 of 6 domains" in captions.loss_matrix(Summary.parse(summary))
    losses = summary["evaluation"]["matrix"]["loss"]
    losses[1][0] = losses[0][0]  # the first specialist is as good as the base
    assert "On 5 of 6 domains the specialist is better" in captions.loss_matrix(Summary.parse(summary))


def test_few_groups_are_in_the_box_at_the_top(tmp_path: Path) -> None:
    said = "theorem let has 14 groups of validation documents. Intervals over fewer than 20 are too narrow."
    summary = example.summary()
    shown = page_of(summary, tmp_path)
    assert shown.index(said) < shown.index("At equal tokens"), "before every section"
    assert said in " ".join(_printed(summary).split())
    summary["evaluation"]["resampled"]["by_domain"]["5_theorem_let"] = 20
    assert "too narrow" not in page_of(summary, tmp_path)


def test_groups_and_tokens_of_validation_are_told_in_full(tmp_path: Path) -> None:
    summary = example.summary()
    summary["evaluation"]["resampled"] |= {"groups": 14, "documents": 15}
    summary["corpus"]["row_split_groups"] = []
    summary["config"] |= {"corpus": {"group_column": None}, "evaluate": {"validation_tokens": 65536}}
    shown = page_of(summary, tmp_path)
    assert "15 validation documents from 14 groups (files)" in shown
    said = "Validation text: 43.3K to 183K tokens a domain are held out. Losses are measured on 43.3K to 65.5K of them."
    assert shown.count(said) == 2  # beside the intervals, and among the limits
    summary["config"]["corpus"]["group_column"] = "book"
    assert "(files)" not in page_of(summary, tmp_path)


def test_a_strategy_that_the_law_misses_by_far_comes_before_the_hit_rate() -> None:
    summary = example.summary()
    summary["predictions"][1]["predicted"] = {"value": summary["predictions"][1]["measured"] + 2.9}
    caption = captions.predictions(Summary.parse(summary))
    far = "For unsplit the law is 2.900 nats too high: do not use it near there. "
    assert f"{far}Inside their" in caption and far.strip() in " ".join(_printed(summary).split())
    assert "do not use it near" not in captions.predictions(Summary.parse(example.summary()))


@pytest.mark.parametrize(("top", "beyond"), [(5.0, 7.7), (8.0, None)])
def test_a_curve_that_leaves_its_figure_is_captioned(top: float, beyond: float | None) -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([0, 0.1, 1], [7.7, 4.9, 4.7])
    axes.set_ylim(4, top)
    assert style.beyond(figure) == beyond
    for caption in (captions.measured, captions.loss_against_fraction):
        said = caption(Summary.parse(example.summary()), style.beyond(figure))
        assert ("Above the figure the law goes on, up to 7.700 nats" in said) == (beyond is not None)


def test_hours_are_readable_and_no_column_is_empty(tmp_path: Path) -> None:
    def row(name: str, held: float, used: float) -> dict[str, Any]:
        return {"name": name, "device": "CPU", "hours_held": held, "hours_used": used}

    stages = [row("ladder", 0.0903, 0.09), row("evaluate", 0.0101, 0.0096), row("report", 4.77e-9, 0.0)]
    purposes = [stages[0], row("evaluation", 0.0011, 0.0006), row("baselines", 0.009, 0.009), stages[2]]
    usage = USAGE | {"stages": stages, "purposes": purposes, "total": [row("all", 0.1004, 0.0996)], "prices": []}
    page = _page(example.summary() | {"usage": usage}, tmp_path)
    assert page.row("by stage") == ["by stage", "device", "held", "used"]
    assert page.rows.count(["ladder", "CPU", "5 min 25 s", "5 min 24 s"]) == 1
    assert page.rows.count(["report", "CPU", "0 s", "0 s"]) == 1
    assert page.row("by purpose") and page.row("baselines")[2] == "32 s" and "e-0" not in page.text
    assert [table.by for table in bill.tables(Summary.parse(example.summary() | {"usage": USAGE}))] == [
        "stage",
        "purpose",
    ]


def test_the_star_of_an_unsplit_plan_is_to_be_seen() -> None:
    made = plan(example.LAW, params=example.PARAMS, budget=example.BUDGET, domains=6)
    made = replace(made, split_fraction=Estimate(1.0))
    lines = {
        line.get_label(): line
        for line in law_figures.loss_against_fraction(example.LAW, made.question, made).axes[0].lines
    }
    star, square = lines["planned split"], lines["unsplit"]
    assert star.get_zorder() > square.get_zorder() and square.get_markersize() > star.get_markersize()
    assert np.allclose(star.get_xdata(), 1)
    assert "the star in the square" in captions.loss_against_fraction(Summary.parse(unsplit()), None)
    assert "the bar" not in captions.loss_against_fraction(Summary.parse(unsplit()), None)


def test_a_gain_of_none_reads_as_a_sentence(tmp_path: Path) -> None:
    summary = unsplit()
    summary["final_plan"]["gain"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    shown = page_of(summary, tmp_path)
    assert "gain by splitting no gain to speak of" in shown and "unsplit would need no" not in shown


def test_repeated_text_is_said_with_what_it_costs() -> None:
    plain = from_json(Summary, example.summary(), "summary")
    plan = plain.final_plan or plain.plan
    assert plan is not None
    for cost, shown in ((0.0123, True), (0.0001, False)):
        costly = replace(plain, final_plan=replace(plan, repetition_cost=Estimate(cost)))
        (said,) = [sentence for sentence in limits(costly) if "read more than once" in sentence]
        assert ("costs the planned models 0.012 nats" in said) == shown and "planned split 2.1" in said
