"""What the starts of a run have spent: one record a start, in `ledger/` of the run folder.

A record is written by its own start alone, again and again while it works, so that it survives a kill. No start changes
another's. The records carry the schema `splitray-ledger-1`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from splitray.results.codec import from_json, to_json
from splitray.storage.checksum import Schema

LEDGER = Schema("ledger", 1, unnamed=None)


@dataclass(frozen=True)
class StageSpending:
    """What one start has spent on a stage.

    Args:
        seconds: wall time.
        tokens: trained, whatever became of them: also what was lost when a worker died, or trained twice.
        flops: of that training; None where a model's size is not known.
        training_seconds: of all workers together, for segments that were finished.
        failures: workers that were lost.
    """

    stage: str
    seconds: float = 0.0
    tokens: int = 0
    flops: float | None = 0.0
    training_seconds: float = 0.0
    failures: int = 0

    def plus(self, other: "StageSpending") -> "StageSpending":
        """Both together, under the other's name; FLOPs are not known where one of them does not know them."""
        return StageSpending(
            other.stage,
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            None if self.flops is None or other.flops is None else self.flops + other.flops,
            self.training_seconds + other.training_seconds,
            self.failures + other.failures,
        )


@dataclass(frozen=True)
class StartRecord:
    """`ledger/START.json`: what one start of a run has spent.

    Args:
        start: its name, which the markers of what it trained carry too.
        began, written: seconds since the epoch.
        ended: "done" or "failed"; None while it works, and for good where it was killed.
    """

    start: str
    began: float
    written: float
    ended: str | None
    splitray: str
    stages: tuple[StageSpending, ...] = field(default_factory=tuple)

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
