"""What the job's log ends with: the planned split and the equal-token table, readable without colour."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from splitray.report import text


def terminal(summary: Mapping[str, Any]) -> RenderableType:
    """The verdict, the plan with its intervals and the equal-token table, as something that rich prints."""
    headline, support = text.verdict(summary)
    parts: list[RenderableType] = [Text(""), Text(headline, style="bold"), Text(support)]
    if plan := text.chosen_plan(summary):
        parts.append(Padding(_plan(plan, summary), (1, 0, 0, 0)))
    if rows := (summary.get("evaluation") or {}).get("comparison"):
        parts.append(Padding(_comparison(rows), (1, 0, 0, 0)))
    if raised := text.warnings(summary):
        parts += [Text(""), Text(f"The law warns ({len(raised)}):"), *(Padding(Text(f"- {w}"), (0, 2)) for w in raised)]
    return Group(*parts)


def _plan(plan: Mapping[str, Any], summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, key, show in (
        ("planned split fraction", "split_fraction", text.percent),
        ("tokens before the split", "pretrain_tokens", text.tokens),
        ("tokens after it, a domain", "specialize_tokens", text.tokens),
        ("predicted loss", "predicted_loss", text.loss),
        ("predicted loss, unsplit", "unsplit_loss", text.loss),
        ("splitting pays from", "split_threshold", text.tokens),
        ("compute multiplier", "compute_multiplier", text.times),
    ):
        if plan.get(key):
            table.add_row(label, text.interval(plan[key], show))
    known, count = len(text.law_domains(summary)), len(summary["domains"])
    if known < count:
        table.add_row("", f"predictions are means over the {known} of {count} domains that the ladder covers")
    if plan.get("draws"):
        table.add_row("", f"in parentheses the {text.plan_label(plan)} of the law's {plan['draws']} draws")
    return table


def _comparison(rows: list[Mapping[str, Any]]) -> Table:
    # At most 78 columns: a job's log is 80 wide where no terminal says otherwise, and rich would cut numbers short.
    title = f"At equal tokens, {rows[0]['tokens']:,} in all (loss in nats per token)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("strategy", no_wrap=True)
    for label in ("split", "before", "each", "loss", "unspl.", "95 % interval", "bits/B"):
        table.add_column(label, justify="right", no_wrap=True)
    best = min(row["loss"] for row in rows)
    for row in rows:
        gap = None if row["strategy"] == "unsplit" else row.get("difference")
        table.add_row(
            row["strategy"] + (" *" if row["loss"] == best else ""),
            text.percent(row["split_fraction"]),
            text.tokens(row["pretrain_tokens"]),
            text.tokens(row["specialize_tokens"]),
            text.loss(row["loss"]),
            text.middle(gap, text.signed),
            text.bounds(gap, text.signed),
            text.loss(row["bits_per_byte"]),
        )
    table.caption, table.caption_justify = (
        "* lowest. before, each: tokens before the split, and of each domain after\n"
        "it. unspl.: loss less the unsplit model's. bits/B: bits per byte",
        "left",
    )
    return table
