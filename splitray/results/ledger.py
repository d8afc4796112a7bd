"""What the starts of a run have spent: one record a start, in `ledger/` of the run folder.

A record is written by its own start alone, again and again while it works, so that it survives a kill. No start changes
another's. The records carry the schema `splitray-ledger-1`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from splitray.results.codec import from_json, to_json
from splitray.storage.checksum import Schema

LEDGER = Schema("ledger", 1, unnamed=None)


@dataclass(frozen=True)
class DeviceTime:
    """Time of accelerators for one purpose, in device-seconds. Of CPUs where the run trains on CPUs.

    Args:
        purpose: ladder, search, base, specialists, baselines, evaluation or proof. A stage that trains nothing and
            in which workers wait has its own name here.
        device: "GPU" or "CPU".
        held: by workers, from their first sign of life to their end, whether they worked or not.
        used: of these, while they trained or scored models.
        joules: that the devices have counted for these workers; None where no device counts.
        counted: of the time held, that of workers whose devices count. Older records have joules, and 0 here.
    """

    purpose: str
    device: str
    held: float = 0.0
    used: float = 0.0
    joules: float | None = None
    counted: float = 0.0

    def plus(self, other: "DeviceTime") -> "DeviceTime":
        """Both together, for the purpose and the device of this one."""
        known = [j for j in (self.joules, other.joules) if j is not None]
        return replace(
            self,
            held=self.held + other.held,
            used=self.used + other.used,
            joules=sum(known) if known else None,
            counted=self.counted + other.counted,
        )


def together(times: Iterable[DeviceTime]) -> tuple[DeviceTime, ...]:
    """Sums by purpose and device, in the order in which these come first."""
    total: dict[tuple[str, str], DeviceTime] = {}
    for time in times:
        key = time.purpose, time.device
        total[key] = total[key].plus(time) if key in total else time
    return tuple(total.values())


@dataclass(frozen=True)
class Price:
    """What one device costs.

    Args:
        device: "GPU" or "CPU".
        per_hour: of one device.
        currency: as the price's source writes it.
        source: where the price comes from, and of which date it is.
    """

    device: str
    per_hour: float
    currency: str
    source: str


@dataclass(frozen=True)
class StageSpending:
    """What one start has spent on a stage.

    Args:
        seconds: wall time.
        tokens: trained, whatever became of them: also what was lost when a worker died, or trained twice.
        flops: of that training; None where a model's size is not known.
        training_seconds: of all workers together, for segments that were finished.
        failures: workers that were lost.
        devices: what the stage's workers held and used, by purpose.
        provisioned: device-seconds that the cluster had in that time, whoever used them.
    """

    stage: str
    seconds: float = 0.0
    tokens: int = 0
    flops: float | None = 0.0
    training_seconds: float = 0.0
    failures: int = 0
    devices: tuple[DeviceTime, ...] = ()
    provisioned: float = 0.0

    def plus(self, other: "StageSpending") -> "StageSpending":
        """Both together, under the other's name; FLOPs are not known where one of them does not know them."""
        return StageSpending(
            other.stage,
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            None if self.flops is None or other.flops is None else self.flops + other.flops,
            self.training_seconds + other.training_seconds,
            self.failures + other.failures,
            together((*self.devices, *other.devices)),
            self.provisioned + other.provisioned,
        )


@dataclass(frozen=True)
class StartRecord:
    """`ledger/START.json`: what one start of a run has spent.

    Args:
        start: its name, which the markers of what it trained carry too.
        began, written: seconds since the epoch.
        ended: "done" or "failed"; None while it works, and for good where it was killed.
        price: of a device in this start. Another start may have been on other machines.
    """

    start: str
    began: float
    written: float
    ended: str | None
    splitray: str
    stages: tuple[StageSpending, ...] = field(default_factory=tuple)
    price: Price | None = None

    def plain(self) -> dict[str, object]:
        """As JSON types."""
        return to_json(self)

    @classmethod
    def parse(cls, record: Mapping[str, object], where: str) -> "StartRecord":
        """The inverse of `plain`.

        Raises:
            CorruptError: it is no such record.
        """
        return from_json(cls, record, where)
