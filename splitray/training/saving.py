"""Publishes the states of one segment: checkpoints beside training, and its end. Every rank has a saver.

A process alone writes all of a state. In a group each rank writes and hashes its own shard at the same time as the
others; then they exchange what they have written, over gloo beside the training, and the first rank writes the marker.
Before that nothing counts: a kill between shards leaves the checkpoint before.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from splitray.errors import SplitrayError, StorageError
from splitray.storage.keys import CheckpointKey, SegmentKey
from splitray.storage.store import Published, Store, new_nonce
from splitray.training import shards
from splitray.training import state as states
from splitray.training.tree import Segment
from splitray.training.writer import Writer

if TYPE_CHECKING:
    from splitray.training.engine import Engine


def checkpoints_of(segment: Segment) -> str:
    """What the keys of a segment's checkpoints start with."""
    return CheckpointKey.prefix(SegmentKey.parse(segment.key))


class Saver:
    """Writes what an engine holds; collective where it is made, and in `publish`."""

    def __init__(self, segment: Segment, store: Store, engine: "Engine") -> None:
        self._segment, self._store, self._engine, self._writer = segment, store, engine, Writer()
        if engine.world > 1:
            from splitray.training import group

            self._side = group.side_group()
            self._name, self._count = group.on_first_rank(new_nonce), 0

    def checkpoint(self, meta: dict[str, Any]) -> None:
        """Copy the state and write it beside training, once the one before is written; raises what that one raised.

        Every rank of a group has the same error, at the same checkpoint.
        """
        self._writer.wait()
        key = CheckpointKey(SegmentKey.parse(self._segment.key), meta["tokens"]).format()
        self._writer.begin(partial(self._checkpoint, self._writing(key, moments=True), key, meta))

    def publish(self, meta: dict[str, Any]) -> Published:
        """Write and publish the segment's end; its checkpoints go."""
        self._writer.wait()
        return self._writing(self._segment.key, moments=not self._segment.final)(meta, self._clear)

    def wait(self) -> None:
        """Until nothing is being written; raises what the last checkpoint raised, once."""
        self._writer.wait()

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.close()

    def _checkpoint(self, write: "_Write", key: str, meta: dict[str, Any]) -> None:
        write(meta, partial(self._clear, before=key))

    def _clear(self, before: str | None = None) -> None:
        """Drop the segment's checkpoints, or those before one."""
        for old in self._store.keys(checkpoints_of(self._segment)):
            if before is None or old < before:
                self._store.invalidate(old)

    def _writing(self, key: str, moments: bool) -> "_Write":
        """Copy the state now; what writes the copy later, given the metadata and what follows its publication."""
        if self._engine.world == 1:
            return partial(self._whole, key, self._engine.state(moments))
        self._count += 1
        return partial(self._sharded, key, f"{self._name}{self._count:04x}", self._engine.shard(moments))

    def _whole(self, key: str, state: states.State, meta: dict[str, Any], then: Callable[[], None]) -> Published:
        published = states.publish(self._store, key, state, meta)
        then()
        return published

    def _sharded(
        self, key: str, nonce: str, shard: shards.Shard, meta: dict[str, Any], then: Callable[[], None]
    ) -> Published:
        from splitray.training import group

        written: shards.Written | SplitrayError
        try:
            attempt = self._store.attempt(key, nonce)
            written = shards.write(attempt, self._engine.rank, shard)
        except SplitrayError as error:
            written = error
        except OSError as error:  # raised here alone, it would leave the other ranks waiting
            written = StorageError(f"{key}: {error}")
        every = group.all_of(written, self._side)
        group.raise_first(every)
        outcome: Any = None
        if self._engine.rank == 0:
            try:
                outcome = shards.publish(attempt, every, {**meta, "step": shard.step})
                then()
            except SplitrayError as error:
                outcome = error
        (first, *_) = group.all_of(outcome, self._side)
        group.raise_first([first])
        published: Published = first
        return published


_Write = Callable[[dict[str, Any], Callable[[], None]], Published]
