"""The verdict at equal hours, in words: for the page, the log of the job, and its end."""

from splitray.report import text
from splitray.report.bill import hours
from splitray.report.text import interval, loss, percent, tokens
from splitray.results.equal_hours import EqualHours
from splitray.results.summary import Summary


def verdict(at: EqualHours) -> str:
    """Whether to split at equal hours, and how."""
    plan, best = at.plan, at.plan.chosen
    spent = f"At equal hours ({hours(plan.hours)} {at.device} hours, ladder and search {at.ladder})"
    if not best.splits:
        return f"{spent}: do not split, and train {tokens(best.params)} parameters on {tokens(best.budget)} tokens."
    other = plan.unsplit
    how = f"split {tokens(best.params)} parameters after {percent(best.split_fraction.value)} of {tokens(best.budget)}"
    return (
        f"{spent}: {how} tokens. The law expects {interval(plan.gain, loss)} nats less than of the best unsplit "
        f"model, {tokens(other.params)} on {tokens(other.unsplit_tokens)} tokens."
    )


def beside(summary: Summary) -> str:
    """The verdict, and whether it is that at equal tokens; empty where no hours were counted."""
    at, plan = summary.equal_hours, text.chosen_plan(summary)
    if at is None or plan is None:
        return ""
    best = at.plan.chosen
    if best.splits != plan.splits:
        return f"{verdict(at)} At equal tokens it is otherwise: {'' if plan.splits else 'do not '}split."
    if best.params != summary.params:
        return f"{verdict(at)} The run has {tokens(summary.params)} parameters."
    return verdict(at)


def notes(at: EqualHours) -> list[str]:
    """What the hours hold, and where the speeds come from."""
    speed = at.plan.chosen.speed
    asked = "as plan.hours asks" if at.asked else "what the unsplit model of the budget takes"
    said = [
        f"The hours are {hours(at.plan.hours)} {at.device} hours, {asked}. Ladder and search held "
        f"{hours(at.finding_hours)}: {'they come out of the hours of the split' if at.ladder == 'inside' else 'extra'}."
    ]
    if speed.start_hours:
        said.append(f"Each model takes {text.duration(3600 * speed.start_hours)} of a device beside its training.")
    else:
        said.append("Starts of models are not counted: they were not measured in one undisturbed start.")
    if reckoned := [tokens(size.params) for size in at.plan.sizes if not size.speed.measured]:
        said.append(f"The speed of {', '.join(reckoned)} is reckoned from the other sizes: none was trained yet.")
    said += [f"{warning.message[:1].upper()}{warning.message[1:]}: {warning.reason}." for warning in at.plan.warnings]
    return said
