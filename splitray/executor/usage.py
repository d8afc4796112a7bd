"""The coordinator's record of what each worker does with its devices, from its first sign of life to its end."""

from collections.abc import Callable
from dataclasses import dataclass

from splitray.runtime.clock import steady
from splitray.runtime.worker_state import State, WorkerState

_EVERY = 30.0  # seconds between records of the energy of one long call: a kill hides what was counted since


@dataclass
class _Known:
    """A worker: the devices that it holds, whether the ranks of a group hold them for it, and what it does.

    It holds nothing until its process is up.
    """

    devices: float
    in_group: bool
    does: State = "idle"
    up: bool = False
    joules: float | None = None
    written: float = 0.0


class UsageLog:
    """Writes down every change. A worker that the cluster has not started yet holds nothing.

    Args:
        device: "GPU" or "CPU", which workers hold.
        put: takes the records.
        clock: seconds since the epoch.
    """

    def __init__(self, device: str, put: Callable[[WorkerState], object], clock: Callable[[], float] = steady) -> None:
        self._device, self._put, self._clock = device, put, clock
        self._known: dict[str, _Known] = {}
        put(WorkerState(clock(), "", "gone"))  # those of a coordinator that died

    def begin(self, worker: str, devices: float, in_group: bool) -> None:
        """The cluster is asked for a worker."""
        self._known[worker] = _Known(devices, in_group)

    def beat(self, worker: str, rank: int | None, joules: float | None = None) -> None:
        """A process of a worker lives.

        Args:
            rank: in the worker's group; None for its own process, which holds no devices where it has a group.
            joules: that its devices have counted since its last beat.
        """
        known = self._known.get(worker)
        if known is None or known.in_group != (rank is not None):
            return
        if joules is not None:
            known.joules = (known.joules or 0.0) + joules
        late = known.joules is not None and self._clock() - known.written > _EVERY
        if not known.up or late:
            known.up = True
            self._write(worker, known, known.does)

    def works(self, worker: str, does: State) -> None:
        """The worker was given a call; the processes of a group begin only after it."""
        self._turn(worker, does)

    def rests(self, worker: str) -> None:
        """Its call is over."""
        self._turn(worker, "idle")

    def end(self, worker: str) -> None:
        """The worker is let go."""
        known = self._known.pop(worker, None)
        if known is not None and known.up:
            self._write(worker, known, "gone")

    def _turn(self, worker: str, does: State) -> None:
        known = self._known.get(worker)
        if known is None or known.does == does:
            return
        known.does = does
        if known.up:
            self._write(worker, known, does)

    def _write(self, worker: str, known: _Known, state: State) -> None:
        joules, known.joules, known.written = known.joules, None, self._clock()
        self._put(WorkerState(known.written, worker, state, self._device, known.devices, joules))
