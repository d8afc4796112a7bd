"""Files of known layouts that hold no documents: what engines, `datasets` and the Hub write beside the data."""

import fnmatch
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath

# Never documents, wherever they lie.
_NAMES = {
    "_SUCCESS",
    "_metadata",
    "_common_metadata",
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "SHA256SUMS",
    "MD5SUMS",
    "Thumbs.db",
    "desktop.ini",
}
_PATTERNS = (
    *("_committed_*", "_started_*", "*.metadata.json", "*.crc", "*.md5", "*.sha1", "*.sha256", "*.sha512"),
    *("md5sum*.txt", "sha*sum*.txt", "checksum*.txt"),
)
_FOLDERS = {"_delta_log", "_spark_metadata", "_temporary", "__MACOSX"}
# About the data where a folder holds tables and no other text; documents of a tree of texts or of source code.
_ABOUT = (
    "DATA_CARD*",
    "DATASET_CARD*",
    "DATACARD*",
    "GITATTRIBUTES",
    "REQUIREMENTS*.TXT",
    "README*",
    "LICEN[SC]E*",
    "COPYING*",
    "NOTICE*",
    "CHANGELOG*",
    "CITATION*",
    "CONTRIBUTING*",
    "DATASHEET*",
)
_ABOUT_ENDINGS = {".yaml", ".yml", ".toml", ".cff", ".bib", ".lock", ".incomplete", ".log"}


def metadata(files: Iterable[tuple[str, str]]) -> set[str]:
    """The paths among a source's files that are metadata.

    Args:
        files: the whole path, and the kind by which it would be read.
    """
    listed = list(files)
    tables: set[str] = set()  # folders with a table somewhere below
    texts: set[str] = set()  # folders with a text that is no description, somewhere below
    arrow: set[str] = set()  # folders with an Arrow file in them
    for path, kind in listed:
        if not _is_metadata(path):
            where = PurePosixPath(path)
            if kind == "arrow":
                arrow.add(str(where.parent))
            if kind != "text" or not _is_about(where):
                (texts if kind == "text" else tables).update(map(str, where.parents))
    return {path for path, kind in listed if _is_metadata(path) or _belongs(path, kind, tables - texts, arrow)}


def _is_metadata(path: str) -> bool:
    where = PurePosixPath(path)
    parts = where.parts
    # Where the Hub's cache lies, the files of `snapshots` are links to `blobs`, and `refs` are commits.
    if any(a.startswith("datasets--") and b in ("blobs", "refs") for a, b in pairwise(parts)):
        return True
    by_name = where.name in _NAMES or any(fnmatch.fnmatchcase(where.name, pattern) for pattern in _PATTERNS)
    return by_name or not _FOLDERS.isdisjoint(where.parts[:-1])


def _is_about(path: PurePosixPath) -> bool:
    script = path.suffix == ".py" and path.stem == path.parent.name  # a loading script bears its folder's name
    named = any(fnmatch.fnmatchcase(path.name.upper(), pattern) for pattern in _ABOUT)
    return script or named or path.suffix.lower() in _ABOUT_ENDINGS


def _belongs(path: str, kind: str, tables: set[str], arrow: set[str]) -> bool:
    """Whether a file belongs to the tables beside or below it."""
    where = PurePosixPath(path)
    if str(where.parent) in arrow and (where.name == "state.json" or where.name.startswith("cache-")):
        return True  # `datasets` keeps the results of `map` and `filter` as cache-*.arrow beside the data
    return kind == "text" and str(where.parent) in tables and _is_about(where)
