"""The batches of one rank, drawn before they are asked for.

What comes next is known: the order of the data is a pure function. So one thread draws the next batches while a step
is taken, and a few others fetch the shards that batches further ahead will need, in the order of that need. Training
begins when its first batch is there, not when the corpus is.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from splitray.errors import SplitrayError
from splitray.storage.cache import GRACE, NoRoomError
from splitray.training.data import Sequences, draw
from splitray.training.tree import Segment

_log = logging.getLogger(__name__)
_AHEAD = 2  # batches that wait to be trained on
_BUFFERS = _AHEAD + 3  # one being drawn, one in the step, one whose copy to the GPU may still be read
_LOOK = 64  # batches ahead of which shards are fetched
_APART = _AHEAD + 4  # batches between what two processes of a group draw: queued, being drawn, and a step on its way
_PATIENCE = GRACE + 60  # seconds for room in the cache: what another process was handed is spared for most of them
_TRY_AGAIN = 1.0  # seconds
_FETCHERS = 4  # shards that a process fetches at once

Allocate = Callable[[tuple[int, ...]], np.ndarray]


def reach(batch: int) -> dict[str, int]:
    """How far the feeds of a group reach in an order, in sequences, by the sequences of the global batch.

    `ahead` is from the last sequence that a process needs to the first that a process fetches. `apart` lies between
    what two processes draw.
    """
    return {"ahead": (_LOOK + _APART) * batch, "apart": _APART * batch}


class Feed:
    """Batches of a segment from a token count to its end: int64 [rank_batch, sequence_length + 1] each.

    An order that says `drawn_ahead` is drawn by a thread. Any other is drawn when a batch is asked for.

    Args:
        start: tokens of the lineage before the first batch.
        rank, rank_batch: this rank takes so many sequences of every global batch, as its rank says.
        allocate: int64 arrays that batches are copied into, in turns, as a GPU wants them pinned. A batch is
            overwritten after three more were asked for.
    """

    def __init__(
        self,
        order: Sequences,
        segment: Segment,
        start: int,
        rank: int,
        rank_batch: int,
        allocate: Allocate | None = None,
    ) -> None:
        self._order, self._segment, self._count = order, segment, rank_batch
        batches = -(-(segment.end - start) // segment.recipe.batch_tokens)
        first, step = segment.cursor(start) + rank * rank_batch, segment.recipe.global_batch_size
        self._cursors = range(first, first + batches * step, step)  # a list of them had 12 GB for 10^12 tokens
        self._given = 0
        self._allocate, self._buffers = allocate, list[np.ndarray]()
        self._stopped, self._first = threading.Event(), threading.Event()
        self._waiting: queue.Queue[np.ndarray | BaseException] = queue.Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        if self._cursors and getattr(order, "drawn_ahead", False):
            ahead = _Ahead(order, segment, self._cursors, rank_batch)  # here: an error in the thread would not be seen
            self._thread = threading.Thread(target=self._run, args=(ahead,), name="feed", daemon=True)
            self._thread.start()

    def ready(self) -> bool:
        """Whether the first batch is there, or what keeps it from coming is known."""
        return self._thread is None or self._first.is_set()

    def wait(self, seconds: float) -> None:
        """Until `ready`, or so long."""
        if self._thread is not None:
            self._first.wait(seconds)

    def next(self) -> np.ndarray:
        """The next batch.

        Raises:
            SplitrayError: what the drawing of it met.
        """
        if self._thread is None:
            batch = draw(self._order, self._segment, self._cursors[self._given], self._count)
        else:
            got = self._waiting.get()
            if isinstance(got, BaseException):
                raise got
            batch = got
        self._given += 1
        return batch

    def close(self) -> None:
        """End the thread; what it has drawn is dropped."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, ahead: "_Ahead") -> None:
        try:
            for number, cursor in enumerate(self._cursors):
                ahead.look(number)
                batch = self._placed(number, self._drawn(cursor))
                if not self._hand(batch):
                    return
        except BaseException as error:  # raised where the batch is asked for
            self._hand(error)
        finally:
            ahead.close()

    def _drawn(self, cursor: int) -> np.ndarray:
        """The sequences of a batch; waits where what other processes use leaves the cache no room for a shard."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return draw(self._order, self._segment, cursor, self._count)
            except NoRoomError as error:
                left = until - time.monotonic()
                if left < 0 or self._stopped.is_set():
                    raise
                if left > _PATIENCE - _TRY_AGAIN:
                    _log.warning("training waits up to %.0f minutes: %s", _PATIENCE / 60, error)
                self._stopped.wait(_TRY_AGAIN)

    def _placed(self, number: int, batch: np.ndarray) -> np.ndarray:
        if self._allocate is None:
            return batch
        if len(self._buffers) < _BUFFERS:
            self._buffers.append(self._allocate(batch.shape))
        buffer = self._buffers[number % _BUFFERS]
        np.copyto(buffer, batch)
        return buffer

    def _hand(self, got: np.ndarray | BaseException) -> bool:
        """Leave a batch, or an error, to be asked for; False where nobody will."""
        self._first.set()
        while not self._stopped.is_set():
            try:
                self._waiting.put(got, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class _Ahead:
    """Fetches the shards of coming batches in threads of its own, in the order of need.

    They are those of the span in use and of the next, so that a cache with room for a few spans suffices.
    """

    def __init__(self, order: Any, segment: Segment, cursors: Sequence[int], count: int) -> None:
        self._order, self._segment, self._cursors, self._count = order, segment, cursors, count
        self._threads = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch")
        self._looked, self._asked = 0, set[int]()
        domains = order.domains(segment.sources)
        self._missing = {id(s) for domain in domains for s in order.shards(domain) if _is_missing(s)}

    def look(self, batch: int) -> None:
        """Ask for the shards of batches from the one that is drawn next on, as far as they may be fetched by now."""
        while self._missing and self._looked < min(batch + _LOOK, len(self._cursors)):
            runs = self._segment.draws(self._cursors[self._looked], self._count)
            found = [needed for run in runs for needed in self._order.look(*run)]
            if self._looked > batch and any(spans > 1 for _, spans in found):
                return
            for shard in dict.fromkeys(shard for shard, spans in found if spans <= 1):
                if _is_missing(shard) and id(shard) not in self._asked:
                    self._asked.add(id(shard))
                    if not self._order.passes:
                        self._missing.discard(id(shard))
                    self._threads.submit(self._fetch, shard)
            self._looked += 1

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._order.leave()

    def _fetch(self, shard: Any) -> None:
        try:
            shard.open()
        except SplitrayError as error:  # raised again where a sequence of it is drawn
            _log.debug("fetched ahead: %s", error)
        finally:
            self._asked.discard(id(shard))


def _is_missing(shard: Any) -> bool:
    return bool(getattr(shard, "is_remote", False)) and not shard.is_open
