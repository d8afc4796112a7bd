"""What the failure of a worker's call means: a preemption, a lost process, or the call's own error; when to give up."""

from dataclasses import dataclass
from typing import Any

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from splitray.errors import SplitrayError, StageError
from splitray.training.loop import Interrupted


class WorkerLost(StageError):
    """A process of a worker group ended without a word: preempted, killed."""


class OutOfMemory(WorkerLost):
    """A process of a worker group was killed since its node ran out of memory."""


LIMIT = 5  # deaths in a row, none further than the one before: that is a bug; with progress it is a spot market
_LOST = (
    WorkerLost,
    RayActorError,
    OutOfMemoryError,  # of the node: Ray's memory monitor killed the process; no RayActorError
    WorkerCrashedError,
    NodeDiedError,
    LocalRayletDiedError,
    ObjectLostError,  # what the call returned was lost with its node
)


def lost_by(error: Any) -> type[WorkerLost]:
    """Which of the two a `TrainingFailedError` of Ray Train tells of."""
    failures = [getattr(error, "controller_failure", None), *getattr(error, "worker_failures", {}).values()]
    causes = (getattr(f, "health_check_failure", f) for f in failures)  # so Train wraps what its polls meet
    return OutOfMemory if any(isinstance(c, OutOfMemoryError) for c in causes) else WorkerLost


@dataclass(frozen=True)
class Failure:
    """How one call ended. `cause` is the error that the worker raised, or what Ray says of its process."""

    error: RayError

    @property
    def cause(self) -> BaseException:
        cause: BaseException = self.error.cause if isinstance(self.error, RayTaskError) else self.error
        return cause

    @property
    def lost(self) -> bool:
        """Whether a process died, the worker's or one that it works with."""
        return isinstance(self.cause, _LOST)

    @property
    def told_to_stop(self) -> bool:
        """Whether the worker checkpointed and ended as asked: its node drains, SIGTERM came, or the run stops."""
        return isinstance(self.cause, Interrupted)

    @property
    def preempted(self) -> bool:
        """Whether the worker ended for its node's sake, with or without a last checkpoint; that is nobody's fault."""
        return self.told_to_stop or (isinstance(self.cause, RayActorError) and self.cause.preempted)

    @property
    def reusable(self) -> bool:
        """Whether the worker may take the next call."""
        return isinstance(self.error, RayTaskError) and not self.lost and not self.told_to_stop

    @property
    def first_line(self) -> str:
        return (str(self.cause).strip() or type(self.cause).__name__).splitlines()[0]

    def told(self, worker: str) -> SplitrayError:
        """What the caller gets: the worker's own error where it is one of ours, else one with Ray's words and trace."""
        return self.cause if isinstance(self.cause, SplitrayError) else StageError(f"{worker}: {self.error}")


class RestartBudget:
    """RestartBudget of one call's workers, counted anew whenever the call got further than at the death before."""

    def __init__(self) -> None:
        self.in_vain, self._furthest = 0, -1

    def count(self, reached: int) -> None:
        """One more.

        Args:
            reached: tokens of the call that stand in the store.
        """
        self.in_vain = 1 if reached > self._furthest else self.in_vain + 1
        self._furthest = max(reached, self._furthest)

    @property
    def too_many(self) -> bool:
        return self.in_vain >= LIMIT

    def told(self, worker: str, last: Failure) -> StageError:
        """What the caller gets when they are too many."""
        told = f"{worker} died {self.in_vain} times in a row without getting further"
        if isinstance(last.cause, OutOfMemoryError | OutOfMemory):
            told += (
                ", at last because its node ran out of memory: lower training.micro_batch_size, raise "
                "training.zero_stage or the number of workers (resources.base_workers, resources.specialist_workers), "
                "or use nodes with more memory"
            )
        return StageError(f"{told}. The last time: {last.cause}")
