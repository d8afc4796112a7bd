"""What a dry run has found: numbers for programs, tables for people."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderableType

from splitray.errors import UserError

_WIDTH = 2000  # columns of the plain text, whose lines are not wrapped; a table takes what it needs


@dataclass(frozen=True)
class DryRunPart:
    """A stage of the run, as far as it is known: one line of the table.

    Attributes:
        name: the stage, and the split fraction it is shown for.
        segments: stretches of training that are still to be done.
        tokens: to be trained.
        tokens_from_scratch: that all its models would need, were no prefix shared.
        tokens_reused: that the store holds already.
        flops: of the training that is to be done.
        disk_bytes: that its snapshots take.
        workers: that train at once, at most.
        seconds: that it takes by its timetable, from the first start of a worker to the last end.
        worker_hours: that workers are held, from their starts to their ends.
        worker_hours_used: of these in which they train or score.
        cost: of the hours held, where a price is known.
    """

    name: str
    segments: int
    tokens: int
    tokens_from_scratch: int
    tokens_reused: int
    flops: float
    disk_bytes: float
    workers: int
    seconds: float
    worker_hours: float
    worker_hours_used: float
    cost: float | None

    @property
    def utilisation(self) -> float:
        """Hours used of hours held; 1 where nothing is left to do."""
        return self.worker_hours_used / self.worker_hours if self.worker_hours else 1.0


@dataclass(frozen=True)
class DryRun:
    """What a run would train and cost. `print` shows it as text, a notebook or a rich console as tables.

    Attributes:
        parts: the stages, in the order of the table.
        refusal: why the run would be refused, None where it would begin.
    """

    parts: tuple[DryRunPart, ...]
    refusal: str | None
    shown: tuple[RenderableType, ...] = field(repr=False, compare=False)

    def check(self) -> None:
        """Raise the `UserError` that the run would begin with, where there is one."""
        if self.refusal is not None:
            raise UserError(self.refusal)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from self.shown

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, highlight=False)
        console.print(self)
        assert isinstance(console.file, io.StringIO)
        refused = f"Refused: {self.refusal}\n" if self.refusal is not None else ""
        return console.file.getvalue() + refused
