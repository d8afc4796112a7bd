"""The report: one HTML page that opens offline, and its figures as PNG and SVG."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import yaml

from splitray.law.gravity import SHOWN
from splitray.report import bill, equal_hours, limits, predicted, text
from splitray.report.drawings import drawings
from splitray.report.pictures import Picture, draw, environment
from splitray.results.summary import Summary
from splitray.storage.folder import Folder

if TYPE_CHECKING:
    from splitray.corpus.corpus import Corpus
    from splitray.law import Law, Plan


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
    pictures = draw(drawings(summary, law, plan, corpus), report)
    report.write("index.html", render(summary, pictures).encode())
    return "report/index.html"


def render(summary: Summary, pictures: Mapping[str, Picture]) -> str:
    """The page as HTML text."""
    templates = environment()
    templates.filters |= {"duration": text.duration, "share": text.share}
    templates.filters["on_law_domains"] = lambda measured: text.on_law_domains(measured, summary)
    templates.filters |= {"hours": bill.hours, "time": bill.time, "money": bill.money, "energy": bill.energy}
    templates.filters |= {"label": predicted.label, "inside": predicted.verdict}
    headline, support = text.verdict(summary)
    pays_from, command = text.next_step(summary)
    plan = text.chosen_plan(summary)
    return templates.get_template("page.html").render(
        s=summary,
        headline=headline,
        support=support,
        warnings=limits.warnings(summary),
        shown=SHOWN,
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
