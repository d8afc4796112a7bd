"""Write a published segment as a Hugging Face model folder: safetensors, config and tokenizer."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splitray.errors import CorruptError
from splitray.results.exported import ExportRecord, Lineage
from splitray.results.folders import CARD, CHECKSUMS
from splitray.runtime.quiet import no_bars
from splitray.storage.checksum import sha256_file
from splitray.storage.folder import Folder
from splitray.storage.store import Published, Store, StoredFile


def export(store: Store, key: str, tokenizer: Path, target: Folder, card: dict[str, Any]) -> None:
    """Write the model of a segment into a folder of the run.

    Args:
        tokenizer: a folder that `AutoTokenizer` loads.
        card: what the model is, written as `splitray.json` beside it.

    Raises:
        CorruptError: the segment is missing or damaged; it is withdrawn then, so that the next start trains it.
    """
    from splitray.training.model import build
    from splitray.training.recipe import Recipe
    from splitray.training.state import load, load_weights

    published = store.find(key)
    if published is None:
        raise CorruptError(f"the store {store.root.uri} holds no {key}; start the run again to train it")
    with store.invalidating(published):
        model: Any = build(Recipe.from_json(published.recorded("recipe")))
        load_weights(model, load(published, moments=False))
    write_model(model, tokenizer, target, {"key": key, **card}, key, lineage=lineage_of(published))


def lineage_of(published: Published) -> Lineage | None:
    """The lineage in a segment's marker; None where an early store recorded none."""
    meta = published.meta
    return Lineage(meta["recipe"], tuple(meta["phases"])) if "recipe" in meta and "phases" in meta else None


def write_model(
    model: Any,
    tokenizer: Path,
    target: Folder,
    card: dict[str, Any],
    key: str | None = None,
    lineage: Lineage | None = None,
    sources: Mapping[str, str] | None = None,
    records: Mapping[str, object] | None = None,
) -> None:
    """Write a model with its tokenizer, its card, and last of all its checksums.

    Args:
        key, lineage: of its segment. sources: for a merged model, the keys of its parts by folder.
        records: JSON files to write beside it, by name.

    What another model has left in the folder is deleted.
    """
    from transformers import AutoTokenizer

    from splitray.training.process import deepspeed_environment

    _clear(target, card)
    with tempfile.TemporaryDirectory(prefix="splitray-export-") as folder, no_bars(), deepspeed_environment():
        model.save_pretrained(folder)  # safetensors is all that transformers 5 writes
        AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False, local_files_only=True).save_pretrained(folder)
        target.delete(CHECKSUMS)  # it counts again when the new files stand
        files = {}
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            files[path.relative_to(folder).as_posix()] = StoredFile(path.stat().st_size, sha256_file(path))
            target.put(path, path.relative_to(folder).as_posix())
    for name, record in {**(records or {}), CARD: card}.items():
        target.write_json(name, record)
        files[name] = stored(target, name)
    ExportRecord(key, files, lineage, sources or {}).write(target)


def export_router(source: Path, target: Folder, corpus: str, prior: Path | None = None) -> None:
    """Write a corpus's router into a folder, with its checksums last.

    Args:
        source: the router's files. corpus: the corpus's key.
        prior: a folder with what a mixture's weights begin with, which goes beside them.
    """
    for folder in (source, *([prior] if prior else [])):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target.put(path, path.relative_to(folder).as_posix())
    files = {name: stored(target, name) for name in target.names(recursive=True) if name != CHECKSUMS}
    ExportRecord(corpus, files).write(target)


def stored(folder: Folder, name: str) -> StoredFile:
    """Size and SHA-256 of a file as it lies there."""
    import hashlib

    content = folder.read(name)
    return StoredFile(len(content), hashlib.sha256(content).hexdigest())


def _clear(target: Folder, card: Mapping[str, Any]) -> None:
    """Delete what another model has left: its documents, and shards that this one may not overwrite."""
    before: object = None
    with contextlib.suppress(FileNotFoundError, CorruptError):
        before = target.read_json(CARD)
    if isinstance(before, dict) and before.get("key") != card.get("key"):
        for name in target.names(recursive=True):
            target.delete(name)
