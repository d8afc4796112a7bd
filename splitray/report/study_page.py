"""The page of a study: does a domain pay at this size? One HTML file that opens offline, and its figures."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jinja2
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from splitray.report import study_captions, study_figures, study_words, style, text
from splitray.report.page import Picture
from splitray.results.study import FILTERED, LOSS_DOMAIN
from splitray.results.study_analysis import StudyAnalysis
from splitray.results.study_summary import StudySummary
from splitray.storage.folder import Folder


@dataclass(frozen=True)
class _Drawing:
    name: str
    title: str
    draw: Callable[[], Figure | None]
    caption: Callable[[], str]


def _drawings(summary: StudySummary) -> Iterator[_Drawing]:
    found = summary.analysis
    for name, title, given in (
        ("curves", "Loss on the domain against compute", found),
        ("gap", "What filtering is worth, by size", found),
        ("forgetting", "What was forgotten", found),
        ("exams", "The exams, by size", found),
        ("forecasts", "A size forecast before it was trained", summary.forecasts),
    ):
        caption = partial(getattr(study_captions, name), summary)
        yield _Drawing(name, title, partial(getattr(study_figures, name), given), caption)


def write(summary: StudySummary, folder: Folder) -> str:
    """Write `report/index.html` and `report/figures/*.png|svg` below the run folder.

    Returns:
        The page's name in the run folder.
    """
    report = folder / "report"
    pictures = {}
    for drawing in _drawings(summary):
        with style.styled():
            figure = drawing.draw()
            if figure is None:
                continue
            vector = style.svg(figure, drawing.name)
            report.write(f"figures/{drawing.name}.svg", vector)
            report.write(f"figures/{drawing.name}.png", style.png(figure))
        caption = drawing.caption()
        svg = style.inline(vector, drawing.name, f"{drawing.title}. {caption}")
        pictures[drawing.name] = Picture(drawing.name, drawing.title, caption, Markup(svg))
    report.write("index.html", render(summary, pictures).encode())
    return "report/index.html"


def render(summary: StudySummary, pictures: Mapping[str, Picture]) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("splitray.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shows = {f.__name__: f for f in (text.tokens, text.percent, text.loss, text.signed, text.times, text.number)}
    environment.filters |= shows | {"name": text.name, "arm": study_words.arm}
    for of_estimate in (text.interval, text.middle, text.bounds):
        environment.filters[of_estimate.__name__] = lambda e, show, of=of_estimate: of(e, shows[show])
    environment.filters |= {
        "ratio": study_words.ratio,
        "ratio_bounds": study_words.ratio_bounds,
        "compute": study_words.compute,
        "slope": study_words.slope,
    }
    headline, support = study_words.headline(summary)
    found = summary.analysis
    return environment.get_template("study.html").render(
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
