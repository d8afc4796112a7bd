"""The registry of embedders. Adding one is adding one class: see `Embedder`."""

from pathlib import Path
from typing import TYPE_CHECKING

from splitray.runtime.plugins import find_class, register_class

if TYPE_CHECKING:
    from splitray.corpus.embedders.embedder import Embedder

GROUP = "splitray.embedders"  # the entry points by which an installed package offers its embedders
REGISTRY: dict[str, type["Embedder"]] = {}


def register_embedder(embedder: type["Embedder"]) -> type["Embedder"]:
    """Make `corpus.embedder: NAME` mean this class; its settings are the section of its `section`."""
    return register_class(REGISTRY, "embedder", embedder)


def find_embedder(name: str) -> type["Embedder"]:
    """The embedder of that name; errors as of `find_class`."""
    return find_class(REGISTRY, "embedder", GROUP, name)


def section_owner(section: str) -> type["Embedder"] | None:
    """The embedder whose settings stand under `corpus.SECTION`."""
    return next((embedder for embedder in REGISTRY.values() if embedder.section == section), None)


def load_embedder(folder: Path, gpu: bool = False, threads: int | None = None) -> "Embedder":
    """Open what `Embedder.save` wrote; `gpu` and `threads` as of `Embedder.load`."""
    from splitray.corpus.embedders.embedder import described

    return find_embedder(described(folder)["kind"]).load(folder, gpu, threads)
