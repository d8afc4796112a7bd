"""The part of `splitray plan` that plans for accelerator-hours: its options, and what the terminal shows."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from splitray.cli.command import count
from splitray.errors import UserError
from splitray.law import Law
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.hours import HoursPlan, SizePlan, Speed, plan_for_hours
from splitray.law.planning.question import Question
from splitray.units import human

_NEEDS = ("speeds", "start_hours", "ladder_hours", "hours_json")  # options that say nothing without --hours


def add_arguments(add: Callable[..., Any]) -> None:
    """Add the options to a parser."""
    add("--hours", type=count, metavar="H", help="accelerator-hours to plan for, beside or instead of a budget")
    add(
        "--speeds",
        metavar="N:RATE,..",
        help="measured tokens per second of one accelerator, for each size that may be trained, 410M:52000,1.3B:18000; "
        "N:RATE:AFTER where it is another one after the split",
    )
    add("--start-hours", type=count, metavar="H", help="accelerator-hours that one model takes beside its tokens")
    add("--ladder-hours", type=count, metavar="H", help="what the ladder took, to come out of --hours (default: extra)")
    add("--hours-json", metavar="OUT", help="write the plan for --hours as JSON")


@dataclass(frozen=True)
class Hours:
    """What is asked of the planner in hours."""

    hours: float
    speeds: tuple[Speed, ...]
    ladder_hours: float

    def plan(self, law: Law, question: Question, level: float) -> HoursPlan:
        return plan_for_hours(
            law, question, hours=self.hours, speeds=self.speeds, ladder_hours=self.ladder_hours, level=level
        )


def asked(given: argparse.Namespace) -> Hours | None:
    """The options, checked before the fit; None where no hours are given."""
    if given.hours is None:
        for name in _NEEDS:
            if getattr(given, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} needs --hours")
        return None
    if given.speeds is None:
        raise UserError("--hours needs --speeds: the measured tokens per second of one accelerator, by size")
    start = given.start_hours or 0.0
    return Hours(given.hours, tuple(_speed(text, start) for text in given.speeds.split(",")), given.ladder_hours or 0.0)


def _speed(text: str, start_hours: float) -> Speed:
    try:
        numbers = [count(part) for part in text.split(":")]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--speeds {text!r}: {error}") from error
    if not 2 <= len(numbers) <= 3:
        raise UserError(f"--speeds {text!r}: N:RATE or N:RATE:AFTER is needed, such as 1.3B:18000")
    return Speed(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None, start_hours)


def show(plan: HoursPlan, console: Console) -> None:
    """Print the plan: the verdict in a sentence, every size in a row, warnings."""
    table = _table(plan.sizes, plan.best)
    notes = [Text.assemble(("! ", "bold yellow"), str(warning)) for warning in plan.warnings]
    console.print(Group(Text(""), Text(headline(plan), style="bold"), table, *notes))


def headline(plan: HoursPlan) -> str:
    """The verdict at equal hours."""
    best, inside = plan.chosen, f", {plan.ladder_hours:,.3g} of them for the ladder" if plan.ladder_hours else ""
    spent = f"In {plan.hours:,.4g} accelerator-hours{inside}"
    if not best.splits:
        return f"{spent}: do not split. Train one model of {human(best.params)} on {human(best.unsplit_tokens)} tokens."
    division = f"{human(best.pretrain_tokens.value)} tokens of {human(best.budget)} before the split"
    gain = _interval(plan.gain, "{:.4f}")
    return (
        f"{spent}: {plan.domains} models of {human(best.params)}, {division}. That is {gain} nats below the best "
        f"unsplit model, {human(plan.unsplit.params)} on {human(plan.unsplit.unsplit_tokens)} tokens."
    )


def _interval(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return form.format(estimate.value)
    return f"{form.format(estimate.value)} ({form.format(estimate.low)} to {form.format(estimate.high)})"


def _table(sizes: Sequence[SizePlan], best: int) -> Table:
    table = Table(box=None, pad_edge=False, title="by size, at equal hours", title_justify="left")
    table.add_column("N")
    for name in ("tokens", "s", "loss", "unsplit: tokens", "loss", "best in"):
        table.add_column(name, justify="right")
    for place, size in enumerate(sizes):
        table.add_row(
            human(size.params) + (" *" if place == best else ""),
            human(size.budget),
            f"{size.split_fraction.value:.3f}",
            f"{size.loss.value:.4f}",
            human(size.unsplit_tokens),
            f"{size.unsplit_loss.value:.4f}",
            "" if size.likely is None else f"{size.likely:.0%} of draws",
        )
    return table
