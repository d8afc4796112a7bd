"""A worker process's line to the coordinator: it says that it lives, and hears when to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray

from splitray.errors import StageError
from splitray.executor.energy import EnergyMeter

COORDINATOR = "coordinator"
PATIENCE = 30.0  # seconds for an answer that takes one; the driver looks after a coordinator that gives none


def coordinator_of(namespace: str) -> Any:
    """The coordinator of a run, by the run's Ray namespace; actors carry plain names there, as `specialist[code_c]`."""
    return ray.get_actor(COORDINATOR, namespace=namespace)


class Watch:
    """Beats for one process, from a thread of its own; called, it says whether to stop.

    A beat waits at the coordinator for about a second and is answered at once when the run stops or the node drains.
    Only a coordinator that is dead for good means "stop, with a checkpoint": its run is over. Any other error is a
    fault of the run, and raised in the thread that trains.

    Args:
        worker: the name of the worker.
        birth: what the coordinator gave the worker when it started it.
        rank: of a worker group; None for the worker's own process.
    """

    def __init__(self, namespace: str, worker: str, birth: str, rank: int | None = None) -> None:
        self._coordinator = coordinator_of(namespace)
        self._who = (worker, rank, birth)
        self._node = ray.get_runtime_context().get_node_id()
        self._energy = EnergyMeter()
        self._stopping, self._closed = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        threading.Thread(target=self._poll, daemon=True, name="beats").start()

    def _poll(self) -> None:
        while not self._closed.is_set():
            try:
                if ray.get(self._beat(), timeout=PATIENCE):
                    self._stopping.set()
                    self._closed.wait(1.0)  # goes on beating while the checkpoint is written
            except ray.exceptions.GetTimeoutError:
                continue
            except ray.exceptions.ActorUnavailableError:  # a RayActorError, of a connection that may come back
                self._closed.wait(1.0)
            except ray.exceptions.RayActorError:
                self._stopping.set()
                return
            except ray.exceptions.RayError as error:
                self._fault = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                return

    def _beat(self) -> Any:
        return self._coordinator.beat.remote(*self._who, self._node, self._energy.joules())

    def __call__(self) -> bool:
        """Whether to stop.

        Raises:
            StageError: the coordinator answers with an error.
        """
        if self._fault is not None:
            raise StageError(f"the coordinator failed: {type(self._fault).__name__}: {self._fault}")
        return self._stopping.is_set()

    @contextlib.contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Have SIGTERM to this process mean "stop, with a checkpoint" while the block runs."""
        try:
            before = signal.signal(signal.SIGTERM, lambda number, frame: self._stopping.set())
        except ValueError:  # not the main thread: the coordinator's word must do
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def close(self) -> None:
        """No more beats: this process has done its part."""
        self._closed.set()
        with contextlib.suppress(ray.exceptions.RayError):
            self._coordinator.leave.remote(*self._who)
