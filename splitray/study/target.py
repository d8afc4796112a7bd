"""The folder that a filter writes: what is its own there, what is not, and that it lies apart from the sources."""

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile
from splitray.errors import CorruptError, UserError
from splitray.storage.address import Address
from splitray.storage.checksum import Schema
from splitray.storage.folder import Folder
from splitray.storage.redact import without_query

FILTERED, QUALITY = ARMS = ("filtered", "quality")  # folders of Parquet files, fit to be `corpus.sources`
RESULT = Schema("filtered", 2, unnamed=None)  # 1: arms by a threshold each, ties and all
FOLDER = Schema("filterfolder", 1, unnamed=None)
_SCORED = "scored"
_MODEL = re.compile(r"model-[0-9a-f]{20}")  # a folder with the filter, and the exams' index
FILE = "filtered.json"  # written last: without it nothing of the folder counts
_MARKER = "filter-folder.json"  # written first: without it nothing of the folder is ours to delete


def keep_apart(settings: CorpusSettings, files: Sequence[SourceFile], target: Folder) -> None:
    """Refuse sources below the target, which would be deleted, and a target below them, which would be read."""
    own = _place(target.address)
    for file in files:
        folder, _, name = file.path.rpartition("/")
        place = _place(file.root, folder)
        if not place.scheme and (link := Path(place.path, name)).is_symlink():
            place = _place(str(link))
        if _below(place, own):
            raise UserError(
                f"the source {file.name} lies below {target.uri}, where a filter writes and deletes: give another "
                "folder"
            )
    for source in settings.sources:
        if source != "environment" and _below(own, _place(Address.parse(source).full)):
            raise UserError(
                f"{target.uri} lies below the source {without_query(source)}, which would read it: give another folder"
            )


@lru_cache(maxsize=4096)
def _place(root: str, path: str = "") -> Address:
    """Where a folder or file below a root lies, to be compared: without links, options and other names of a scheme."""
    address = Address.parse(root)
    address = address / path if path else address
    if address.is_local:
        return Address("", str(Path(address.path).resolve()))
    return Address("gs" if address.scheme == "gcs" else address.scheme, address.path.rstrip("/"))


def _below(inner: Address, outer: Address) -> bool:
    return inner.scheme == outer.scheme and f"{inner.path}/".startswith(f"{outer.path.rstrip('/')}/")


def clear(target: Folder) -> None:
    """Delete what an earlier call has written, and mark the folder as ours.

    Raises:
        UserError: what it would delete was written by no filter.
    """
    names = [FILE, *filter(_MODEL.fullmatch, target.folders()), _SCORED, *ARMS]
    if not any(_written(target, name, schema) for name, schema in ((_MARKER, FOLDER), (FILE, RESULT))):
        if taken := [name for name in (_MARKER, *names) if target.exists(name)]:
            raise UserError(
                f"{target.uri} holds {', '.join(taken)}, which no filter has written: give an empty folder, or delete "
                "them by hand"
            )
        target.write_checksummed(_MARKER, {}, FOLDER)
    for name in names:
        target.delete(name)


def _written(target: Folder, name: str, schema: Schema) -> bool:
    with contextlib.suppress(FileNotFoundError, CorruptError):
        target.read_checksummed(name, schema)
        return True
    return False


def written_files(target: Folder) -> dict[str, int]:
    """Bytes of all files of documents, by their names in the target."""
    folders = ((folder, (target / folder).sizes()) for folder in (_SCORED, *ARMS))
    return {f"{folder}/{name}": size for folder, sizes in folders for name, size in sizes.items()}
