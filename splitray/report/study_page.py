"""The page of a study: does a domain pay at this size? One HTML file that opens offline, and its figures."""

from collections.abc import Iterator, Mapping
from functools import partial

import yaml

from splitray.report import study_captions, study_figures, study_words
from splitray.report.pictures import Drawing, Picture, draw, environment
from splitray.results.study import FILTERED, LOSS_DOMAIN
from splitray.results.study_analysis import StudyAnalysis
from splitray.results.study_summary import StudySummary
from splitray.storage.folder import Folder


def _drawings(summary: StudySummary) -> Iterator[Drawing]:
    found = summary.analysis
    for name, title, given in (
        ("curves", "Loss on the domain against compute", found),
        ("gap", "What filtering is worth, by size", found),
        ("forgetting", "What was forgotten", found),
        ("exams", "The exams, by size", found),
        ("forecasts", "A size forecast before it was trained", summary.forecasts),
    ):
        caption = partial(getattr(study_captions, name), summary)
        yield Drawing(name, title, partial(getattr(study_figures, name), given), caption)


def write(summary: StudySummary, folder: Folder) -> str:
    """Write `report/index.html` and `report/figures/*.png|svg` below the run folder.

    Returns:
        The page's name in the run folder.
    """
    report = folder / "report"
    pictures = draw(_drawings(summary), report)
    report.write("index.html", render(summary, pictures).encode())
    return "report/index.html"


def render(summary: StudySummary, pictures: Mapping[str, Picture]) -> str:
    """The page as HTML text."""
    templates = environment()
    templates.filters |= {
        "arm": study_words.arm,
        "ratio": study_words.ratio,
        "ratio_bounds": study_words.ratio_bounds,
        "compute": study_words.compute,
        "slope": study_words.slope,
    }
    headline, support = study_words.headline(summary)
    found = summary.analysis
    return templates.get_template("study.html").render(
        s=summary,
        a=found,
        advice=found.advice,
        headline=headline,
        support=support,
        main=study_words.main_ratios(found),
        main_slope=_main_slope(found),
        widens=study_words.widens(found),
        decider=study_words.decider(found.advice) if found.advice else "",
        exams=list(dict.fromkeys(row.exam for row in found.exams)),
        facts={} if summary.filter is None else {exam.name: exam for exam in summary.filter.exams},
        pictures=pictures,
        config=yaml.safe_dump(dict(summary.config), sort_keys=False, allow_unicode=True),
    )


def _main_slope(analysis: StudyAnalysis) -> object:
    """The slope of the ratios that the page leads with; None without one."""
    rows = study_words.main_ratios(analysis)
    named = rows[0].named if rows else ""
    return next((s for s in analysis.slopes if (s.measure, s.arm, s.named) == (LOSS_DOMAIN, FILTERED, named)), None)
