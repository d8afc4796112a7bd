"""What a store could do without, and its deletion."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from splitray.errors import UserError
from splitray.storage.keys import CheckpointKey
from splitray.storage.store import Store


@dataclass(frozen=True)
class Waste:
    """Something to delete: the artifact of a `key`, else an attempt's folder `name` below the root; `size` in bytes."""

    name: str
    size: int
    reason: str
    key: str | None = None


def waste(store: Store) -> Iterator[Waste]:
    """What no finished artifact needs: attempts without a marker, checkpoints of segments that are published.

    Raises:
        UserError: the folder is no store.
    """
    if not store.root.folders():
        raise UserError(f"{store.root.uri} is not a store: it has no artifacts")
    for name in store.keys(CheckpointKey.prefix()):
        key = CheckpointKey.match(name)
        if key is None or store.find(key.segment.format()) is None:
            continue
        published = store.find(name)
        yield Waste(name, published.bytes if published else 0, "checkpoint of a segment that is published", name)
    for name, size in store.orphaned_attempts():
        yield Waste(name, size, "unfinished: its writer was killed, or is at work now")


def delete(store: Store, listed: Iterable[Waste]) -> None:
    """Delete what `waste` listed. No run may be using the store: an attempt may be a writer's at work."""
    for item in listed:
        if item.key is not None:
            store.invalidate(item.key)
        else:
            store.root.delete(item.name)
