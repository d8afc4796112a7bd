"""`splitray prune` and `python jobs/prune.py`: say what a store could do without, and delete it only when told to."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from splitray.cli.command import Command
from splitray.errors import UserError
from splitray.storage.store import Store


@dataclass(frozen=True)
class Waste:
    """Something to delete: a folder below the store's root, or the artifact of a key."""

    name: str
    size: int
    why: str
    key: str | None = None


def waste(store: Store) -> Iterator[Waste]:
    """What no finished artifact needs: attempts without a marker, checkpoints of segments that are published."""
    for key in store.keys("part-"):
        segment = key.removeprefix("part-").rsplit("-", 1)[0]
        held = store.find(key)
        if store.find(segment) is not None:
            yield Waste(key, held.bytes if held else 0, "checkpoint of a segment that is published", key)
    for name, size in store.orphaned_attempts():
        yield Waste(name, size, "unfinished: its writer was killed, or is at work now")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", help="path or URI of the store, for instance runs/store")
    parser.add_argument("--delete", action="store_true", help="delete what is listed; no run may be using the store")


def _run(options: argparse.Namespace) -> None:
    store = Store(options.store)
    if not store.root.folders():
        raise UserError(f"{store.root.uri} is not a store: it has no artifacts")
    found = list(waste(store))
    for item in found:
        print(f"{item.size / 2**20:10.1f} MiB  {item.name}  ({item.why})")
    print(f"{sum(i.size for i in found) / 2**20:10.1f} MiB in {len(found)} places")
    if options.delete:
        for item in found:
            store.invalidate(item.key) if item.key else store.root.delete(item.name)
        print("deleted")
    elif found:
        print("nothing is deleted yet: stop every run that uses this store, then add --delete")


COMMAND = Command("List what a store could do without; --delete deletes it.", _add_arguments, _run)
main = COMMAND.main
