"""How many workers a group has while nodes come and go: the choice is a pure function, `room` asks the cluster.

Ray Train's own `num_workers=(min, max)` was read first (2.60, `ElasticScalingPolicy`) and cannot serve here:

- It takes any number of workers in the range, and a global batch is not divided by 7. There is no seam to say so.
- It counts what nodes have, less what other trainers asked for. Workers of the ladder, which are plain actors, do not
  count, so that it starts groups which nothing can place.
- It grows a group by ending its processes at once: what was trained since the last checkpoint is lost.
- It restarts by itself, past the coordinator's count of deaths without progress and its record of held devices.

So the coordinator starts groups of a fixed size, as ever, and chooses the size. The whole group is asked for first, as
that is what has an autoscaler bring the missing nodes.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping

import ray

from splitray.errors import SplitrayError
from splitray.executor.compat import draining_nodes

_LITTLE = 1e-6  # of a resource


class Resized(SplitrayError):
    """A group that cannot start is asked for anew with fewer workers; it had not begun."""


def sizes(workers: int, fewest: int | None, batch: int) -> tuple[int, ...]:
    """Numbers of workers that a group may have, the most first; one where it is not elastic.

    Args:
        fewest: None for as many as `workers`.
        batch: the global batch in sequences, which workers share evenly.
    """
    least = workers if fewest is None else min(fewest, workers)
    return tuple(n for n in range(workers, least - 1, -1) if n == workers or batch % n == 0)


def places(nodes: Iterable[Mapping[str, float]], each: Mapping[str, float]) -> int:
    """Workers that fit on nodes, were nothing else there.

    Args:
        nodes: the resources of every node.
        each: what a worker needs of one node.
    """
    needed = {name: amount for name, amount in each.items() if amount > 0}
    return sum(min(math.floor(node.get(n, 0.0) / a + _LITTLE) for n, a in needed.items()) for node in nodes)


def room(each: Mapping[str, float]) -> tuple[int, int]:
    """Places for workers on nodes that are alive and do not drain, and how many of all places are free."""
    draining = draining_nodes()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in draining]
    return places(nodes, each), places([ray.available_resources()], each)


class Elastic:
    """The size of one call's group.

    Args:
        sizes: see `sizes`.
        seconds: of waiting after which a group starts with fewer, and that room for more must last.
        room: see the function of that name.
        clock: seconds.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        seconds: float,
        room: Callable[[], tuple[int, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sizes, self._seconds, self._room, self._clock = sizes, seconds, room, clock
        self.workers = sizes[0]
        self._since: tuple[int, float] | None = None  # another size, and since when it would be better
        self._begun = False

    @property
    def settled(self) -> bool:
        """Whether a group that is up stays as it is, whatever the cluster has."""
        return self.workers == self._sizes[0]

    @property
    def fixed(self) -> bool:
        return len(self._sizes) == 1

    def take(self, workers: int) -> None:
        """The next start has so many."""
        self.workers, self._since = workers, None

    def whole(self) -> None:
        """The next start asks for all again."""
        self.take(self._sizes[0])

    def begin(self) -> None:
        """A group is started."""
        self._begun, self._since = False, None

    def better(self, up: bool, spare: int) -> int | None:
        """The size that the group should have in place of its own by now. Asked about once a second.

        A group that waits gets fewer where nodes are missing; where others hold the nodes, it waits on. A group that
        trains gets more where there are places, free ones, and the pool has `spare` workers to give. One that was up
        and is no longer is about to tell why.
        """
        self._begun = self._begun or up
        if self.fixed or (self.settled if up else self._begun):
            return None
        found, free = self._room()
        size = next((n for n in self._sizes if n <= found), None)
        if size is not None and up:
            size = next((n for n in self._sizes if n <= min(found, self.workers + min(free, spare))), None)
        if size is None or (size <= self.workers if up else size >= self.workers):
            self._since = None
            return None
        now = self._clock()
        if self._since is None or self._since[0] != size:
            self._since = size, now
        return size if now - self._since[1] >= self._seconds else None
