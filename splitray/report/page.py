"""The report: one HTML page that opens offline, and its figures as PNG and SVG."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
import yaml
from markupsafe import Markup

from splitray.report import bill, equal_hours, limits, predicted, style, text
from splitray.report.drawings import drawings
from splitray.results.summary import Summary
from splitray.storage.folder import Folder

if TYPE_CHECKING:
    from splitray.corpus.corpus import Corpus
    from splitray.law import Law, Plan


@dataclass(frozen=True)
class Picture:
    """A drawn figure on the page; `caption` says in a sentence what to see."""

    name: str
    title: str
    caption: str
    svg: Markup


def write(summary: Summary, law: "Law | None", plan: "Plan | None", corpus: "Corpus | None", folder: Folder) -> str:
    """Write `report/index.html` and `report/figures/*.png|svg` below the run folder.

    Every number on the page is in `summary`; `law` and `plan` draw the law's curves, `corpus`
    the map of the domains. What a stopped run does not have yet is left out.

    Args:
        law, plan: those that were carried out: after the search's refits where there was a search.

    Returns:
        The page's name in the run folder.
    """
    report = folder / "report"
    pictures = {}
    for drawing in drawings(summary, law, plan, corpus):
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


def render(summary: Summary, pictures: Mapping[str, Picture]) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("splitray.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shows = {f.__name__: f for f in (text.tokens, text.percent, text.loss, text.signed, text.times, text.number)}
    environment.filters |= shows | {"duration": text.duration, "name": text.name, "share": text.share}
    for of_estimate in (text.interval, text.middle, text.bounds):
        environment.filters[of_estimate.__name__] = lambda e, show, of=of_estimate: of(e, shows[show])
    environment.filters["on_law_domains"] = lambda measured: text.on_law_domains(measured, summary)
    environment.filters |= {"hours": bill.hours, "time": bill.time, "money": bill.money, "energy": bill.energy}
    environment.filters |= {"label": predicted.label, "inside": predicted.verdict}
    headline, support = text.verdict(summary)
    pays_from, command = text.next_step(summary)
    plan = text.chosen_plan(summary)
    return environment.get_template("page.html").render(
        s=summary,
        headline=headline,
        support=support,
        warnings=limits.warnings(summary),
        limits=limits.limits(summary),
        validation_text=limits.validation_text(summary),
        pays_from=pays_from,
        command=command,
        splits=text.splits(summary),
        losses_by_domain=text.losses_by_domain(summary),
        spending=text.spending(summary),
        cost=bill.first_screen(summary),
        at_hours=equal_hours.beside(summary),
        hours_notes=equal_hours.notes(summary.equal_hours) if summary.equal_hours else [],
        usage=bill.tables(summary),
        usage_notes=bill.notes(summary.usage) if summary.usage else [],
        folders=text.models(summary),
        use=text.USE if summary.router else "",
        plan=plan,
        multiplier=(text.gain_label(plan), *text.multiplier(plan)) if plan else ("", "", ""),
        resampled=text.resampled(summary),
        predictions=predicted.groups(summary),
        basis=predicted.basis(summary),
        forgotten=text.forgotten(summary),
        even=len({domain.weight for domain in summary.domains}) == 1,
        known=text.law_domains(summary),
        pictures=pictures,
        config=yaml.safe_dump(dict(summary.config), sort_keys=False, allow_unicode=True),
    )
