"""Requests in, text out: one thread that writes for several requests at once.

Requests of one model that wait together are written together. A batch is written to its end before the next begins.
"""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from splitray.evaluate.mixture import Mixture, Sampling, Step
from splitray.serve.errors import BusyError, LateError
from splitray.serve.writer import TextWriter


@dataclass(frozen=True)
class Piece:
    """Some text of one request, with the steps that it was made of.

    finished: None while it goes on; then "stop" (the end token, or a stop text) or "length".
    """

    text: str
    steps: tuple[Step, ...] = ()
    finished: str | None = None

    @staticmethod
    def joined(pieces: "Sequence[Piece]") -> "Piece":
        """Pieces of one request as one."""
        steps = tuple(step for piece in pieces for step in piece.steps)
        return Piece("".join(piece.text for piece in pieces), steps, pieces[-1].finished)


@dataclass
class _Request:
    """A request at work. What it writes goes to `pieces`, in the event loop that asked.

    whole: as one piece at the end. To wake the loop for each of 48 tokens took 216 ms where this took 200.
    """

    model: str
    prompt: str
    sampling: Sampling
    writer: TextWriter
    deadline: float
    loop: asyncio.AbstractEventLoop
    whole: bool
    pieces: "asyncio.Queue[Piece | Exception]" = field(default_factory=asyncio.Queue)
    over: bool = False
    _held: list[Piece] = field(default_factory=list)

    def put(self, piece: "Piece | Exception") -> None:
        if isinstance(piece, Exception) or piece.finished:
            self.over = True
        if self.whole and isinstance(piece, Piece):
            self._held.append(piece)
            if not self.over:
                return
            piece = Piece.joined(self._held)
        self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    def take(self, step: Step, end: int) -> None:
        """Pass a token on as text."""
        if step.token == end:
            return self.put(Piece(self.writer.close(), (step,), "stop"))
        text = self.writer.add(step.token)
        if self.writer.stopped:
            return self.put(Piece(text, (step,), "stop"))
        return self.put(Piece(text, (step,)))


class Limit:
    """Seconds that a request may take from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.deadline = seconds, time.monotonic() + seconds


class Engine:
    """Writes for requests.

    Args:
        models: mixtures by the name that a request gives; they may share their models.
        batch: requests that are written at once.
        waiting: requests that may wait.
        count: told of every batch: its requests and its tokens, for metrics.
    """

    def __init__(
        self,
        models: Mapping[str, Mixture],
        batch: int = 16,
        waiting: int = 128,
        count: Callable[[int, int], None] | None = None,
    ) -> None:
        self.models = dict(models)
        self._batch, self._count = batch, count
        self._queue: queue.Queue[_Request | None] = queue.Queue(waiting)
        self._kept: list[_Request] = []  # taken from the queue, and of another model than the batch
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize() + len(self._kept)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish what is being written, and stop."""
        self._queue.put(None)
        self._thread.join()

    async def write(
        self,
        model: str,
        prompt: str,
        sampling: Sampling,
        stops: Sequence[str] = (),
        limit: "Limit | None" = None,
        whole: bool = False,
    ) -> AsyncGenerator[Piece]:
        """What a model writes after a prompt, as it comes. Whoever stops listening ends the request.

        Args:
            limit: on the time, which the prompts of one request share; default 120 s from now.
            whole: give it as one piece, at the end.

        Raises:
            BusyError: too many requests wait.
            LateError: the limit is reached.
        """
        mixture = self.models[model]
        limit = limit or Limit(120.0)
        deadline, seconds = limit.deadline, limit.seconds
        loop = asyncio.get_running_loop()
        request = _Request(model, prompt, sampling, TextWriter(mixture.encoder, stops), deadline, loop, whole)
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            raise BusyError(f"{self._queue.maxsize} requests wait already; try again later") from None
        try:
            while True:
                left = deadline - time.monotonic()
                try:
                    piece = await asyncio.wait_for(request.pieces.get(), max(left, 0.0))
                except TimeoutError:
                    raise LateError(seconds) from None
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finished:
                    return
        finally:
            request.over = True

    def _work(self) -> None:
        while (requests := self._next()) is not None:
            mixture = self.models[requests[0].model]
            written = 0
            try:
                steps = mixture.stream(
                    [r.prompt for r in requests],
                    [r.sampling for r in requests],
                    wanted=lambda row, of=requests: not of[row].over,  # type: ignore[misc]
                )
                for step in steps:
                    written += 1
                    requests[step.row].take(step, mixture.encoder.end)
                for request in requests:
                    if not request.over:
                        request.put(Piece(request.writer.close(), (), "length"))
            except Exception as error:  # one request's fault must not end the others
                for request in requests:
                    if not request.over:
                        request.put(error)
            if self._count is not None:
                self._count(len(requests), written)

    def _next(self) -> list[_Request] | None:
        """Requests of one model that wait, the oldest's; None at the end."""
        waiting, self._kept = self._kept, []
        closing = False
        while not closing and len(waiting) < self._batch:
            try:
                found = self._queue.get(block=not waiting)
            except queue.Empty:
                break
            closing = found is None
            if found is not None and not found.over and time.monotonic() < found.deadline:
                waiting.append(found)
        if closing:
            self._queue.put(None)  # seen again when nothing is left
        if not waiting:
            return None if closing else self._next()
        mine = [request for request in waiting if request.model == waiting[0].model][: self._batch]
        self._kept = [request for request in waiting if request not in mine]
        return mine
