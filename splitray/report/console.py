"""What the job's log ends with: the planned split and the equal-token table, readable without colour."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from splitray.law.gravity import folded
from splitray.law.planning.plan import Plan
from splitray.report import bill, equal_hours, limits, predicted, text
from splitray.results.evaluation import UNSPLIT, Compared, Contrast
from splitray.results.summary import Summary


def terminal(summary: Summary) -> RenderableType:
    """The verdict, the plan with its intervals and the equal-token table, as something that rich prints."""
    headline, support = text.verdict(summary)
    parts: list[RenderableType] = [Text(""), Text(headline, style="bold"), Text(support)]
    pays_from, command = text.next_step(summary)
    if pays_from:
        parts.append(Text(pays_from))
    if command:
        parts.append(Text(f"Next: {command}", no_wrap=True, overflow="ignore"))  # whole, so that it can be copied
    if at_hours := equal_hours.beside(summary):
        parts.append(Text(at_hours))
    if plan := text.chosen_plan(summary):
        parts.append(Padding(_plan(plan, summary), (1, 0, 0, 0), expand=False))
    if summary.evaluation and summary.evaluation.comparison:
        parts.append(Padding(_comparison(summary.evaluation.comparison), (1, 0, 0, 0), expand=False))
        parts.append(Text(f"Intervals are over {text.resampled(summary)}."))
    if summary.evaluation and summary.evaluation.contrasts:
        parts.append(Padding(_contrasts(summary.evaluation.contrasts), (1, 0, 0, 0), expand=False))
    if groups := predicted.groups(summary):
        parts.append(Padding(_predictions(groups), (1, 0, 0, 0), expand=False))
        parts += [Text(sentence) for sentence in (predicted.basis(summary), predicted.hits(summary)) if sentence]
    if folders := text.models(summary):
        parts.append(Padding(_folders(folders), (1, 0, 0, 0), expand=False))
    if spent := text.spending(summary):
        parts += [Text(""), Text(spent)]
    if cost := bill.first_screen(summary):
        parts += [Text(""), Text(cost)]
    if raised := limits.warnings(summary):
        shown = folded(raised, "the report and summary.json have them all")
        parts += [Text(""), Text(f"Warnings ({len(raised)}), the gravest first:"), *(Text(f"  - {w}") for w in shown)]
    return Group(*parts)


def _plan(plan: Plan, summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, estimate, show in (
        ("planned split fraction", plan.split_fraction, text.percent),
        ("tokens before the split", plan.pretrain_tokens, text.tokens),
        ("tokens after it, a domain", plan.specialize_tokens, text.tokens),
        ("predicted loss", plan.predicted_loss, text.loss),
        ("predicted loss, unsplit", plan.unsplit_loss, text.loss),
        ("splitting pays from", plan.split_threshold, text.tokens),
    ):
        table.add_row(label, text.interval(estimate, show))
    value, note = text.multiplier(plan)
    table.add_row(
        "compute multiplier" if plan.worthwhile else text.gain_label(plan), f"{value} ({note})" if note else value
    )
    known, count = len(text.law_domains(summary)), len(summary.domains)
    if known < count:
        table.add_row("", f"predictions are means over the {known} of {count} domains that the ladder covers")
    if plan.draws:
        table.add_row("", f"in parentheses the {text.plan_label(plan)} of the law's {plan.draws} draws")
    return table


def _folders(folders: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for folder, use in folders:
        table.add_row(folder, use)
    return table


def _contrasts(rows: Sequence[Contrast]) -> Table:
    table = _table("The planned split less every other (loss in nats per token)")
    for label in ("other", "planned less it", "95 % interval", "told apart"):
        table.add_column(label, justify="left" if label == "other" else "right", no_wrap=True)
    for row in rows:
        gap = row.difference
        ends = text.bounds(gap, text.signed)
        table.add_row(row.strategy, text.middle(gap, text.signed), ends, "yes" if row.significant else "no")
    return table


def _predictions(groups: Sequence[predicted.Group]) -> Table:
    table = _table(predicted.TITLE)
    for label in ("", "predicted", f"{text.percent(groups[0].rows[0].level)} interval", "measured", "inside"):
        table.add_column(label, justify="right" if label else "left", no_wrap=True)
    for group in groups:
        for row in group.rows:
            show = predicted.show(row)
            ends = text.bounds(row.predicted, show)
            table.add_row(
                predicted.label(row), show(row.predicted.value), ends, show(row.measured), predicted.verdict(row)
            )
        table.add_section()
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _comparison(rows: Sequence[Compared]) -> Table:
    # At most 78 columns: a job's log is 80 wide where no terminal says otherwise, and rich would cut numbers short.
    title = f"At equal tokens, {rows[0].tokens:,} in all (loss in nats per token)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("strategy", no_wrap=True)
    for label in ("split", "before", "each", "loss", "unspl.", "95 % interval", "bits/B"):
        table.add_column(label, justify="right", no_wrap=True)
    best = min(row.loss for row in rows)
    for row in rows:
        gap = None if row.strategy == UNSPLIT else row.difference
        table.add_row(
            row.strategy + (" *" if row.loss == best else ""),
            text.percent(row.split_fraction),
            text.tokens(row.pretrain_tokens),
            text.tokens(row.specialize_tokens),
            text.loss(row.loss),
            text.middle(gap, text.signed),
            text.bounds(gap, text.signed),
            text.loss(row.bits_per_byte),
        )
    table.caption, table.caption_justify = (
        "* lowest. before, each: tokens before the split, and of each domain after\n"
        "it. unspl.: loss less the unsplit model's. bits/B: bits per byte",
        "left",
    )
    return table
