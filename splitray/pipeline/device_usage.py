"""What all starts of a run held and used of the cluster, in hours, energy and money."""

from collections.abc import Callable, Iterable, Sequence

from splitray.results.ledger import DeviceTime, Price, StageSpending, StartRecord
from splitray.results.summary import DeviceUsage, UsageSummary

_HOUR, _KWH = 3600.0, 3.6e6  # seconds; joules


def usage_of(ledger: Sequence[StartRecord]) -> UsageSummary | None:
    """The sum over starts, each at its own price; None where no start counted hours.

    Args:
        ledger: the records of all starts, as `splitray.pipeline.ledger.starts` gives them.
    """
    counted = [start for start in ledger if any(s.devices or s.provisioned for s in start.stages)]
    if not counted:
        return None
    lines = [
        _Line(stage.stage, time, start.price) for start in counted for stage in start.stages for time in stage.devices
    ]
    prices = tuple(dict.fromkeys(start.price for start in counted if start.price is not None))
    currencies = {price.currency for price in prices}
    paid = len(currencies) == 1
    stages = [(start, stage) for start in counted for stage in start.stages]
    return UsageSummary(
        stages=_sums(lines, lambda line: line.stage, paid),
        purposes=_sums(lines, lambda line: line.time.purpose, paid),
        total=_sums(lines, lambda line: "all", paid),
        hours_provisioned=sum(stage.provisioned for _, stage in stages) / _HOUR,
        money_provisioned=_provisioned(stages) if paid else None,
        currency=min(currencies) if paid else "",
        prices=prices,
        uncounted_starts=sum(start not in counted and any(stage.tokens for stage in start.stages) for start in ledger),
    )


class _Line:
    """One entry: a purpose of a stage in one start."""

    def __init__(self, stage: str, time: DeviceTime, price: Price | None) -> None:
        self.stage, self.time = stage, time
        known = price is not None and price.device == time.device
        self.money = time.held / _HOUR * price.per_hour if price is not None and known else None


def _sums(lines: Iterable[_Line], name: Callable[[_Line], str], paid: bool) -> tuple[DeviceUsage, ...]:
    groups: dict[tuple[str, str], list[_Line]] = {}
    for line in lines:
        groups.setdefault((name(line), line.time.device), []).append(line)
    return tuple(_sum(key, group, paid) for key, group in groups.items())


def _sum(key: tuple[str, str], lines: Sequence[_Line], paid: bool) -> DeviceUsage:
    times = [line.time for line in lines]
    joules = [time.joules for time in times if time.joules is not None]
    counted = sum(time.counted or (time.held if time.joules is not None else 0.0) for time in times)
    return DeviceUsage(
        name=key[0],
        device=key[1],
        hours_held=sum(line.time.held for line in lines) / _HOUR,
        hours_used=sum(line.time.used for line in lines) / _HOUR,
        energy_kwh=sum(joules) / _KWH if joules else None,
        money=_total([line.money for line in lines]) if paid else None,
        energy_hours=counted / _HOUR if joules else None,
    )


def _provisioned(stages: Iterable[tuple[StartRecord, StageSpending]]) -> float | None:
    return _total(
        [
            stage.provisioned / _HOUR * start.price.per_hour if start.price is not None else None
            for start, stage in stages
            if stage.provisioned
        ]
    )


def _total(amounts: Sequence[float | None]) -> float | None:
    """The sum, unknown where one of them is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
