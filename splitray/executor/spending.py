"""Tokens that workers have trained, whatever became of them: what a stage has spent, and not only what it has left."""

from collections.abc import Iterable, Mapping
from typing import Any

from splitray.training.tree import Segment


class Spending:
    """The coordinator's count of a stage, by N of the models.

    A worker says about once a second how much it has trained of a segment since it took it up. A worker that dies loses
    what it trained since its last checkpoint, and another trains it again: both count here.

    Args:
        start: of the run; markers of segments that this start trained name it.
    """

    def __init__(self, start: str) -> None:
        self._start = start
        self._ended: dict[int, int] = {}  # tokens by N, of segments that are through
        self._params: dict[str, int] = {}  # N by segment in flight
        self._attempts: dict[str, dict[str, int]] = {}  # by segment in flight: tokens by attempt, the last one last

    def begin(self, segments: Iterable[Segment]) -> None:
        """Segments are in flight."""
        self._params |= {segment.key: segment.recipe.params for segment in segments}

    def note(self, segment: str, attempt: str, trained: int) -> None:
        """A worker has trained so many tokens of a segment in an attempt. Notes that come late count no more."""
        if segment in self._params:
            attempts = self._attempts.setdefault(segment, {})
            attempts[attempt] = max(trained, attempts.get(attempt, 0))

    def end(self, segment: str, marker: Mapping[str, Any] | None = None) -> None:
        """A segment is through: published, as its marker's metadata says, or given up.

        The marker knows to the token what its own attempt trained, whose last note may still be under way.
        """
        if (params := self._params.pop(segment, None)) is None:
            return  # of a stage that is over
        attempts = list(self._attempts.pop(segment, {}).values())
        if marker is not None and marker.get("start") == self._start:
            trained = int(marker.get("tokens_trained", 0))
            attempts = [*attempts[:-1], max(trained, *attempts[-1:])] if attempts else [trained]
        self._ended[params] = self._ended.get(params, 0) + sum(attempts)

    @property
    def tokens(self) -> dict[int, int]:
        """Tokens trained so far, by N."""
        total = dict(self._ended)
        for segment, attempts in self._attempts.items():
            params = self._params[segment]
            total[params] = total.get(params, 0) + sum(attempts.values())
        return total
