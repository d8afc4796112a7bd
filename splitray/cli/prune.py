"""`splitray prune` and `python jobs/prune.py`: say what a store could do without, and delete it only when told to."""

import argparse

from splitray.cli.command import Command
from splitray.storage.prune import delete, waste
from splitray.storage.store import Store


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", help="path or URI of the store, for instance runs/store")
    parser.add_argument("--delete", action="store_true", help="delete what is listed; no run may be using the store")


def _run(options: argparse.Namespace) -> None:
    store = Store(options.store)
    found = list(waste(store))
    for item in found:
        print(f"{item.size / 2**20:10.1f} MiB  {item.name}  ({item.reason})")
    print(f"{sum(i.size for i in found) / 2**20:10.1f} MiB in {len(found)} places")
    if options.delete:
        delete(store, found)
        print("deleted")
    elif found:
        print("nothing is deleted yet: stop every run that uses this store, then add --delete")


COMMAND = Command("List what a store could do without; --delete deletes it.", _add_arguments, _run)
main = COMMAND.main
