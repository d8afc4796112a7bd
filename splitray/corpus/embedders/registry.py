"""The registry of embedders. Adding one is adding one class: see `Embedder`."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from splitray.errors import UserError, check_choice

if TYPE_CHECKING:
    from splitray.corpus.embedders.embedder import Embedder

GROUP = "splitray.embedders"  # the entry points by which an installed package offers its embedders
REGISTRY: dict[str, type["Embedder"]] = {}


def register_embedder(embedder: type["Embedder"]) -> type["Embedder"]:
    """Make `corpus.embedder: NAME` mean this class; its settings are the section of its `section`."""
    other = REGISTRY.get(embedder.name)
    if other is not None and (other.__module__, other.__qualname__) != (embedder.__module__, embedder.__qualname__):
        raise UserError(f"two embedders are named {embedder.name!r}: {other.__module__} and {embedder.__module__}")
    REGISTRY[embedder.name] = embedder
    return embedder


def find_embedder(name: str) -> type["Embedder"]:
    """The embedder of that name, loaded from an installed package if need be.

    Raises:
        UserError: nobody has registered that name; the message lists the known ones.
    """
    if name not in REGISTRY:
        for entry in entry_points(group=GROUP, name=name):
            register_embedder(entry.load())
    known = dict.fromkeys([*REGISTRY, *(entry.name for entry in entry_points(group=GROUP))])
    try:
        return REGISTRY[check_choice("embedder", name, known)]
    except UserError as error:
        raise UserError(
            f"{error}. An embedder of your own is known once its module is imported: name the module under `plugins`, "
            f"or install it with an entry point {GROUP!r}"
        ) from None


def section_owner(section: str) -> type["Embedder"] | None:
    """The embedder whose settings stand under `corpus.SECTION`."""
    return next((embedder for embedder in REGISTRY.values() if embedder.section == section), None)


def load_embedder(folder: Path, gpu: bool = False, threads: int | None = None) -> "Embedder":
    """Open what `Embedder.save` wrote; `gpu` and `threads` as of `Embedder.load`."""
    from splitray.corpus.embedders.embedder import described

    return find_embedder(described(folder)["kind"]).load(folder, gpu, threads)
