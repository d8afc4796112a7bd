"""`checksums.json` of an exported folder: its files, and the lineage that its weights come from.

The record carries the schema `splitray-export-1` and a checksum of itself. Documents for people are not among the
files, because their blanks are filled in by hand; their SHA-256 says only whether somebody has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import CorruptError
from splitray.results.codec import from_json, to_json
from splitray.results.folders import CHECKSUMS, DOCUMENTS
from splitray.storage.checksum import Schema
from splitray.storage.folder import Folder
from splitray.storage.store import StoredFile

EXPORT = Schema("export", 1, unnamed=None)


@dataclass(frozen=True)
class Lineage:
    """What names a state of training: see `splitray.training.tree`.

    Args:
        recipe: in its written form. phases: of the segment, as its marker in the store has them.
    """

    recipe: Mapping[str, Any]
    phases: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ExportRecord:
    """What an exported folder holds.

    Args:
        key: its segment, or its corpus for a router; None for a merged model of which nothing was trained.
        files: size and SHA-256 of every file but the documents, by name.
        lineage: of the segment; None for routers and where nothing was trained.
        sources: for a merged model, the key of every model it is made of, by the model's folder.
        documents: SHA-256 of every document as it was written.
    """

    key: str | None
    files: Mapping[str, StoredFile]
    lineage: Lineage | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Folder) -> None:
        """Write the record into an exported folder."""
        folder.write_checksummed(CHECKSUMS, to_json(self), EXPORT)

    @classmethod
    def read(cls, folder: Folder) -> "ExportRecord | None":
        """The record of an exported folder; None where an earlier splitray wrote none.

        Raises:
            CorruptError: it is damaged or another record.
            UserError: it is of a newer version than this splitray knows.
        """
        if not folder.exists(CHECKSUMS):
            return None
        found = from_json(cls, folder.read_checksummed(CHECKSUMS, EXPORT), f"{folder.uri}/{CHECKSUMS}")
        if loose := [name for name in found.files if name in DOCUMENTS or name == CHECKSUMS]:
            raise CorruptError(f"{folder.uri}/{CHECKSUMS} counts {loose[0]} among the files")
        return found
