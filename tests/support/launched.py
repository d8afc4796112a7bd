"""Workers without processes: a launcher for dispatchers that are tested without a cluster."""

import asyncio
from collections.abc import Callable

from splitray.executor.pool import Lease


class Launched:
    """Every worker is up at the next turn of the event loop, and its actor is its name.

    Args:
        begin: is called with the name, the number of workers and the birth of each.
        held: names of workers that start only when their future in `starts` is given a result.
    """

    def __init__(
        self,
        begin: Callable[[str, int, str], None] = lambda name, workers, birth: None,
        held: frozenset[str] = frozenset(),
    ) -> None:
        self._begin, self._held = begin, held
        self.starts: dict[str, asyncio.Future[None]] = {}
        self.ended: list[str] = []

    def start(self, name: str, workers: int, share: float, birth: str) -> "tuple[str, asyncio.Future[None]]":
        self._begin(name, workers, birth)
        loop = asyncio.get_running_loop()
        self.starts[name] = start = loop.create_future()
        if name not in self._held:
            loop.call_soon(start.set_result, None)
        return name, start

    def end(self, lease: Lease) -> None:
        self.ended.append(lease.name)
