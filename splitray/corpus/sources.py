"""What there is to read: settings name files, folders, globs and URIs; a listing names every file with its size.

A missing path, a foreign column or an unreadable ending is the user's error, told here, before any work is done.
"""

import fnmatch
import glob
import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pyarrow import fs

from splitray.corpus.decompress import ENDINGS
from splitray.corpus.environment import environment_files
from splitray.corpus.layouts import metadata
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.stream import Stored
from splitray.errors import UserError
from splitray.storage.address import UNFIT, Address
from splitray.storage.redact import without_query
from splitray.storage.retry import retry

Kind = Literal["parquet", "arrow", "csv", "jsonl", "json", "text"]
_ENDINGS: dict[str, Kind] = {
    **dict.fromkeys((".parquet", ".pq", ".parq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "jsonl"),
    ".json": "json",
}
_MAGIC = "*?["


@dataclass(frozen=True)
class SourceFile:
    """One file to read.

    `root` is a local folder or a URI with its options, `path` the file below it; `name` is what ids, groups and
    messages call it; `container` is the file for tables and the source for text files: shares of groups are taken
    of it. `rows` of a Parquet file are the row groups to read, None for all. `domain` is that of its source, where
    sources are named as domains.
    """

    root: str
    path: str
    name: str
    container: str
    kind: Kind
    size: int
    modified: int
    rows: tuple[int, ...] | None = None
    domain: str | None = None

    def open(self) -> Stored:
        """The bytes of the file; `StorageError` where the storage does not give them."""
        system, base = _open_root(self.root)
        return Stored(system, f"{base}/{self.path}", self.name)

    def listing(self) -> list[Any]:
        own = [] if self.domain is None else [self.domain]  # keys of corpora with found domains stay
        return [self.name, self.kind, self.size, self.modified, *own]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@lru_cache(maxsize=16)
def _open_root(root: str) -> tuple[fs.FileSystem, str]:
    if "://" not in root:
        return fs.LocalFileSystem(), root.rstrip("/")
    system, path = Address.parse(root).open()
    return system, path.rstrip("/")


def list_sources(settings: CorpusSettings) -> tuple[list[SourceFile], Counter[str]]:
    """Every file of the sources, sorted by name, and counts of what was passed over by reason.

    A file that two sources name is read once. Raises `UserError` for a source that does not exist or holds no file,
    and for a file in two domains.
    """
    passed: Counter[str] = Counter()
    files: list[SourceFile] = []
    taken: dict[str, str | None] = {}  # by whole address: one folder may lie inside another
    names: set[str] = set()
    for number, source in enumerate(settings.sources):
        found = list(_expand(source, settings, passed))
        if not found:
            raise UserError(f"corpus.sources[{number}]: {without_query(source)} holds no file that can be read")
        if settings.source_domains is not None:
            found = [replace(f, domain=settings.source_domains[number]) for f in found]
        if twice := next((f for f in found if taken.get(_whole(f), f.domain) != f.domain), None):
            raise UserError(
                f"corpus.sources: {twice.name} is in two domains, {taken[_whole(twice)]} and {twice.domain}; "
                "give it to one"
            )
        found = [f for f in found if _whole(f) not in taken]
        taken.update({_whole(f): f.domain for f in found})
        if names & {f.name for f in found}:  # two folders with equal names inside: tell them apart by their number
            found = [_renamed(f, f"{number}/") for f in found]
        names.update(f.name for f in found)
        files += found
    return sorted(files, key=lambda f: f.name), passed


def _renamed(file: SourceFile, prefix: str) -> SourceFile:
    return SourceFile(**{**file.plain(), "name": prefix + file.name, "container": prefix + file.container})


def _expand(source: str, settings: CorpusSettings, passed: Counter[str]) -> Iterator[SourceFile]:
    if source == "environment":
        for root, path in environment_files(int(settings.environment_megabytes * 1e6)):
            # Without the time: the same packages installed again are the same corpus.
            yield SourceFile(root, path, path, source, "text", Path(root, path).stat().st_size, modified=0)
        return
    try:
        address = Address.parse(source)
    except UserError as error:
        raise UserError(f"corpus.sources: {error}") from None
    listing = (_local if address.is_local else _remote)(address, source, passed)
    found = [(_kind(below[1], settings), below) for below in listing]
    # One file is what the source names; and whoever says that all is text means it.
    left_out: set[str] = set()
    if len(found) > 1 and settings.format != "text":
        left_out = metadata((_full(root, path), kind) for kind, (root, path, *_) in found if kind is not None)
    for kind, (root, path, label, size, modified) in found:
        if kind is None or _full(root, path) in left_out:
            passed["metadata file" if kind else "file of another format"] += 1
            continue
        name = _shown(f"{label}/{path}" if label else path)
        container = name if kind != "text" else without_query(source).rstrip("/").rsplit("/", 1)[-1]
        yield SourceFile(root, path, name, container, kind, size, modified)


def _full(root: str, path: str) -> str:
    return f"{root.partition('?')[0]}/{path}"


def _whole(file: SourceFile) -> str:
    return posixpath.normpath(_full(file.root, file.path))


def _shown(name: str) -> str:
    """A file's name fit for tables and terminals: what is no UTF-8, and control characters, as escapes."""
    plain = name.encode("utf-8", "backslashreplace").decode()
    return UNFIT.sub(lambda found: f"\\x{ord(found.group()):02x}", plain)


def _kind(path: str, settings: CorpusSettings) -> Kind | None:
    name = Path(path).name.lower()
    while name.endswith(ENDINGS):
        name = name.rpartition(".")[0]
    if settings.format == "auto":
        return _ENDINGS.get(Path(name).suffix, "text")
    marker = Path(path).name.startswith(("_", "."))  # _SUCCESS and the like beside tables
    return None if marker and settings.format != "text" else settings.format


_Found = tuple[str, str, str, int, int]


def _local(address: Address, source: str, passed: Counter[str]) -> Iterator[_Found]:
    """(root, path below it, name of the root where it is a folder, bytes, time of change in ns) of the regular files
    that a local source names."""
    label = ""
    # a relative pattern stays one: the names of the folders around it may hold `[` and `*`
    text = address.path if address.scheme or source[0] in "/~" else source
    try:
        if set(text) & set(_MAGIC) and not Path(text).exists():
            fixed = Path(text[: min(text.find(c) for c in _MAGIC if c in text)]).absolute()
            root = fixed if fixed.is_dir() else fixed.parent
            paths = list(_matches(text, passed))
        else:
            top = Path(text).absolute()
            if not top.exists():
                raise UserError(
                    f"corpus.sources: {source} does not exist ({top}); give a file, a folder, a glob or a URI"
                )
            root = top if top.is_dir() else top.parent
            label = top.name if top.is_dir() else ""
            paths = list(_walk(top, passed)) if top.is_dir() else [top]
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"corpus.sources: {_shown(source):.200} cannot be opened: {reason}") from error
    for path in paths:
        if not path.is_file():  # a broken link, a pipe that would never end, a socket
            passed["not a regular file"] += 1
            continue
        if not os.access(path, os.R_OK):
            raise UserError(f"corpus.sources: {_shown(str(path))} cannot be read: permission denied")
        status = path.stat()
        yield str(root), path.relative_to(root).as_posix(), label, status.st_size, status.st_mtime_ns


def _matches(pattern: str, passed: Counter[str]) -> Iterator[Path]:
    """Files that match a local pattern. `**` follows links to folders, which may loop: each file is taken once."""
    found = sorted(glob.glob(pattern, recursive=True), key=lambda p: (p.count("/"), p))  # noqa: PTH207
    if not found:
        raise UserError(f"corpus.sources: no file matches {pattern}")
    seen: set[str] = set()
    for path in (Path(p).absolute() for p in found if not Path(p).is_dir()):
        if "**" in pattern:
            real = os.path.realpath(path)
            if real in seen:
                passed["another name of a file that is read"] += 1
                continue
            seen.add(real)
        yield path


def _walk(top: Path, passed: Counter[str]) -> Iterator[Path]:
    """Files below a folder, hidden ones left out; linked folders, which may loop, are counted and not entered."""

    def refuse(error: OSError) -> None:
        raise UserError(f"corpus.sources: {error.filename} cannot be listed: {error.strerror}") from error

    for folder, folders, names in os.walk(top, onerror=refuse):
        folders[:] = sorted(f for f in folders if f[0] != "." and f != "__pycache__")
        passed.update("link to a folder" for f in folders if Path(folder, f).is_symlink())
        yield from (Path(folder, name) for name in sorted(names) if name[0] != ".")


def _remote(address: Address, source: str, passed: Counter[str]) -> Iterator[_Found]:
    """As `_local`, for S3 and GCS URIs; a pattern may stand in the path after its first folder."""
    pattern = None
    if set(address.path) & set(_MAGIC):
        cut = address.path.rfind("/", 0, min(address.path.find(c) for c in _MAGIC if c in address.path))
        if cut < 0:
            raise UserError(f"corpus.sources: {without_query(source)}: the name of a bucket cannot be a pattern")
        address, pattern = replace(address, path=address.path[:cut]), address.path[cut + 1 :]
    shown = without_query(source)
    try:
        system, path = _open_root(address.full)
        info = retry(lambda: system.get_file_info(path), shown, remote=True)
        if info.type == fs.FileType.NotFound:
            raise UserError(f"corpus.sources: {shown} does not exist")
        if info.type == fs.FileType.File:
            assert address.parent is not None, "a bucket is no file"
            yield address.parent.full, info.base_name, "", info.size, info.mtime_ns or 0
            return
        infos = retry(lambda: system.get_file_info(fs.FileSelector(path, recursive=True)), shown, remote=True)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # every client has errors of its own: httpx's for hf://, Arrow's unknown ones for abfs://
        reason = " ".join(without_query(str(error)).split()) or type(error).__name__
        raise UserError(f"corpus.sources: {shown} cannot be opened: {reason:.500}") from error
    label = "" if pattern else path.rsplit("/", 1)[-1]
    for info in sorted(infos, key=lambda i: i.path):
        below = info.path[len(path) + 1 :]
        hidden = any(part.startswith(".") for part in below.split("/"))
        if info.type == fs.FileType.File and not hidden and (pattern is None or fnmatch.fnmatch(below, pattern)):
            yield address.full, below, label, info.size, info.mtime_ns or 0
