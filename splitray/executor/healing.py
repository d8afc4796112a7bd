"""Withdraw the states of a leaf's lineage that do not load, so that they are trained again."""

import asyncio

from splitray.errors import CorruptError
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.tree import Target, line


async def heal(store: Store, published: set[str], target: Target) -> None:
    """Invalidate what is damaged on a target's way from the root.

    Args:
        published: keys that are taken to stand; those that are withdrawn are removed.
    """
    for depth in range(1, len(target.phases) + 1):
        on_line = SegmentKey.prefix(line(target.recipe, target.phases[:depth]))
        for key in sorted(k for k in published if k.startswith(on_line)):
            if not await asyncio.to_thread(_loads, store, key, not (target.final and key == target.key)):
                await asyncio.to_thread(store.invalidate, key)
                published.discard(key)


def _loads(store: Store, key: str, moments: bool) -> bool:
    from splitray.training.state import load

    try:
        if (held := store.find(key)) is not None:
            load(held, moments)
        return held is not None
    except CorruptError:
        return False
