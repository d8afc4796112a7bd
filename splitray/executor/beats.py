"""When each worker process was last heard of, and which of them are up at all."""

import uuid


class Beats:
    """The coordinator's record of signs of life.

    Seconds are those in which the coordinator itself ran (`tick`). Time in which it was stopped, or its machine asleep,
    tells nothing of the workers.
    """

    def __init__(self) -> None:
        self._now = 0
        self._births: dict[str, str] = {}
        self._heard: dict[str, dict[int | None, int]] = {}

    def tick(self) -> None:
        """One second went by."""
        self._now += 1

    def begin(self, worker: str) -> str:
        """A worker of this name is started: the word by which its processes are told from those of an earlier one."""
        self._births[worker], self._heard[worker] = uuid.uuid4().hex, {}
        return self._births[worker]

    def hear(self, worker: str, rank: int | None, birth: str) -> bool:
        """A process lives: the worker's own (rank None), or a rank of its group. False for an earlier worker's."""
        if self._births.get(worker) != birth:
            return False
        self._heard[worker][rank] = self._now
        return True

    def leave(self, worker: str, rank: int | None, birth: str) -> None:
        """A process ends as it should, and will say nothing more."""
        if self._births.get(worker) == birth:
            self._heard[worker].pop(rank, None)

    def up(self, worker: str) -> bool:
        """Whether the worker's process was heard of. True of workers that nobody began here: they send no beats."""
        return worker not in self._births or bool(self._heard[worker])

    def ranks(self, worker: str) -> int:
        """Ranks of the worker's group that were heard of and have not left."""
        return sum(rank is not None for rank in self._heard.get(worker, {}))

    def silence(self, worker: str) -> tuple[str, int]:
        """The process of a worker that has been silent longest, and for how many seconds; 0 where none was heard."""
        heard = self._heard.get(worker)
        if not heard:
            return worker, 0
        rank, last = min(heard.items(), key=lambda item: item[1])
        return worker if rank is None else f"{worker}.{rank}", self._now - last
