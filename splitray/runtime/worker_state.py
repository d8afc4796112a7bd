"""What a worker does with its devices: the records from which hours held and used are summed. No Ray."""

from dataclasses import dataclass
from typing import Literal

State = Literal["idle", "train", "score", "gone"]


@dataclass(frozen=True)
class WorkerState:
    """A worker has come into a state.

    Attributes:
        at: seconds since the epoch.
        worker: its name, as `ladder[0]`. Empty with `gone`: every worker that was known has gone.
        state: `idle` also means that its process has just begun.
        device: "GPU" or "CPU".
        devices: that it holds.
        joules: that its devices have counted since the record before this one; None where no device counts.
    """

    at: float
    worker: str
    state: State
    device: str = ""
    devices: float = 0.0
    joules: float | None = None
