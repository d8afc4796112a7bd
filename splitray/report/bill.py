"""Hours, energy and money in words, for the page's first screen, its section on cost, and the log's end."""

from dataclasses import dataclass

from splitray.report.text import UNKNOWN, duration
from splitray.results.summary import DeviceUsage, Summary, UsageSummary
from splitray.units import counted

_NBSP = "\N{NO-BREAK SPACE}"


def hours(value: float) -> str:
    """Device-hours: three digits, and no more than the measurement is worth."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def time(value: float) -> str:
    """Device-hours as a time; below an hour in minutes and seconds."""
    if value >= 1:
        return f"{hours(value)}{_NBSP}h"
    return duration(3600 * value) if 3600 * value >= 0.05 else f"0{_NBSP}s"


def money(amount: float | None, currency: str) -> str:
    """An amount with two digits after the point; a smaller one with two of its own."""
    if amount is None:
        return UNKNOWN
    shown = f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.2g}"
    return f"{shown}{_NBSP}{currency}"


def energy(usage: DeviceUsage) -> str:
    """What was counted; and over which part of the hours held, where it is not all of them."""
    if usage.energy_kwh is None:
        return UNKNOWN
    said = f"{usage.energy_kwh:.3g}{_NBSP}kWh"
    if usage.energy_is_whole or usage.energy_hours is None:
        return said
    return f"{said} (counted over {hours(usage.energy_hours)} of {hours(usage.hours_held)}{_NBSP}h)"


def first_screen(summary: Summary) -> str:
    """One sentence: hours held and used, money and energy; empty where no start counted hours."""
    usage = summary.usage
    if usage is None or not usage.total:
        return ""
    parts = []
    for each in usage.total:
        parts.append(
            f"{hours(each.hours_held)} {each.device} hours held by workers, {hours(each.hours_used)} of them used"
        )
        if each.money is not None:
            parts.append(money(each.money, usage.currency))
        if each.energy_kwh is not None:
            parts.append(energy(each))
    over = f" over {counted(summary.starts, 'start')}" if summary.starts and summary.starts > 1 else ""
    return f"It cost {', '.join(parts)}{over}."


@dataclass(frozen=True)
class UsageTable:
    """Rows by one key, and which columns have something in them."""

    by: str
    rows: tuple[DeviceUsage, ...]
    energy: bool
    money: bool


def tables(summary: Summary) -> list[UsageTable]:
    """By stage with the total, and by purpose those rows that no stage has."""
    usage = summary.usage
    if usage is None:
        return []
    energy, money = (
        any(getattr(row, n) is not None for row in usage.total + usage.stages + usage.purposes)
        for n in ("energy_kwh", "money")
    )
    parts = (
        ("stage", usage.stages + usage.total),
        ("purpose", tuple(p for p in usage.purposes if p not in usage.stages)),
    )
    return [UsageTable(by, rows, energy, money) for by, rows in parts if rows]


def notes(usage: UsageSummary) -> list[str]:
    """What the hours and the money are, and where the prices come from."""
    said = [
        "Held counts from a worker's first sign of life to its end. Used is the part in which it trained or scored. "
        "Tasks of the corpus are in neither."
    ]
    whole = f"While the run went on, the cluster had {hours(usage.hours_provisioned)} device hours, whoever used them"
    bill = f": {money(usage.money_provisioned, usage.currency)}." if usage.money_provisioned is not None else "."
    said.append(whole + bill)
    if usage.prices:
        prices = "; ".join(f"{p.per_hour:.4g} {p.currency} a {p.device} hour ({p.source})" for p in usage.prices)
        said.append(f"Money is hours held times {prices}.")
    else:
        said.append("Set resources.price_per_hour, or resources.instance_type, to see money here.")
    if usage.uncounted_starts:
        said.append(f"{counted(usage.uncounted_starts, 'start')} of an older splitray did not count hours.")
    return said
