"""The store: artifacts named by what they are, published once, checked when read.

Layout below the root:

    attempts/<key>/<nonce>/...   files of one writer; several writers of one key never meet
    done/<key>.json              the marker: nonce, size and SHA-256 of every file, and free metadata

Publishing is one small write of the marker, after its files; the first readable marker wins. That needs no rename,
so it holds on object stores, and it holds against orphaned writers. A marker that is torn, or that does not match the
checksum inside it or lacks a field, counts as absent, and the log says so.

Markers are of schema 2. Those of the first release name no schema: they are schema 1, have the same fields, and are
read as they are. Nothing has to be migrated, and the first release reads markers of schema 2.
"""

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from splitray.errors import CorruptError, StorageError
from splitray.storage.checksum import Schema, sha256_file
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)

MARKER = Schema("marker", 2)
_NONCE, _SHA256 = re.compile(r"[0-9a-z]+"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredFile:
    """What a marker says of one file: its size in bytes, and the SHA-256 of its content in hex digits."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """The record that publishes an artifact. `files` are those below `attempts/<key>/<nonce>`, `meta` is free."""

    key: str
    nonce: str
    files: dict[str, StoredFile]
    meta: dict[str, Any]

    @classmethod
    def of(cls, record: Any, key: str, where: str) -> "Marker":
        """The marker of `key` in a JSON record; `CorruptError` names `where` it stands if there is none in it."""
        plain = MARKER.open(record, where)
        match plain:
            case {"key": str(named), "nonce": str(nonce), "files": dict(files), "meta": dict(meta)}:
                pass
            case _:
                lacking = [name for name in ("key", "nonce", "files", "meta") if name not in plain]
                reason = f"lacks {', '.join(lacking)}" if lacking else "has a field of another type"
                raise CorruptError(f"{where} is no whole marker: it {reason}")
        if named != key:
            raise CorruptError(f"{where} is the marker of {named}")
        if not _NONCE.fullmatch(nonce):
            raise CorruptError(f"{where} is no whole marker: its nonce {nonce!r} is no name of an attempt")
        return cls(key, nonce, {name: _stored(value, name, where) for name, value in files.items()}, meta)

    def plain(self) -> dict[str, Any]:
        """As JSON types, closed by `MARKER`."""
        return MARKER.close(asdict(self))


def _stored(value: Any, name: str, where: str) -> StoredFile:
    match value:
        case {"bytes": int(size), "sha256": str(sha256)} if size >= 0 and _SHA256.fullmatch(sha256):
            return StoredFile(size, sha256)
    raise CorruptError(f"{where} is no whole marker: of the file {name} it lacks the size or the SHA-256")


@dataclass(frozen=True)
class Published:
    """A finished artifact: `files` maps a name to its size and SHA-256, `meta` is what its writer recorded."""

    key: str
    nonce: str
    files: dict[str, StoredFile]
    meta: dict[str, Any]
    folder: Folder

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())

    def fetch(self, name: str, check: bool = True, trust: bool = False, hold: bool = False) -> Path:
        """A local path of one file. `check` compares its SHA-256, and raises `CorruptError` on a mismatch.

        `trust` and `hold` are those of `Folder.fetch`.
        """
        file = self.stored(name)
        return self.folder.fetch(name, file.sha256 if check else None, file.bytes, trust, hold)

    def stored(self, name: str) -> StoredFile:
        """Size and SHA-256 of one file; `CorruptError` where there is none of that name."""
        if name not in self.files:
            raise CorruptError(f"{self.key} holds no file {name}; it has {', '.join(self.files) or 'none'}")
        return self.files[name]

    def recorded(self, name: str) -> Any:
        """A value of `meta`; `CorruptError` where the writer recorded none of that name."""
        if name not in self.meta:
            raise CorruptError(f"the marker of {self.key} records no {name}: damaged, or another's")
        return self.meta[name]


class Attempt:
    """A writer's own folder for one key. Nothing in it counts before `publish`.

    Several processes write one attempt where they agree on its `nonce`; one of them publishes it.
    """

    def __init__(self, store: "Store", key: str, nonce: str | None = None) -> None:
        self.key, self.nonce, self._store = key, nonce or new_nonce(), store
        self.folder = store.root / f"attempts/{key}/{self.nonce}"
        self._files: dict[str, StoredFile] = {}

    def add(self, source: Path, name: str) -> None:
        """Copy a local file into the attempt; its size and SHA-256 are those of the local file."""
        self._files[name] = StoredFile(source.stat().st_size, sha256_file(source))
        self.folder.put(source, name)

    def add_tree(self, source: Path) -> None:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            self.add(path, path.relative_to(source).as_posix())

    def register(self, name: str, size: int, sha256: str) -> None:
        """Record a file that another process has written into `folder`."""
        self._files[name] = StoredFile(size, sha256)

    def publish(self, meta: dict[str, Any]) -> Published:
        """Write the marker unless another writer was first; returns what stands published then."""
        name = f"done/{self.key}.json"
        marker = Marker(self.key, self.nonce, self._files, meta).plain()
        if not self._store.root.create_json(name, marker):
            if (first := self._store.find(self.key)) is not None:
                return first
            self._store.root.write_json(name, marker)  # what was there is torn
        mine = Published(self.key, self.nonce, self._files, meta, self.folder)
        return self._store.find(self.key) or mine  # where two wrote at once, as object stores allow, what stands


def new_nonce() -> str:
    """The name of an attempt that nobody else takes."""
    return uuid.uuid4().hex[:12]


class Store:
    """Artifacts by key on local disk or an object store. Cheap to open; picklable by its address."""

    def __init__(self, root: Folder | str | Path) -> None:
        self.root = root if isinstance(root, Folder) else Folder(root)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.root,)

    def attempt(self, key: str, nonce: str | None = None) -> Attempt:
        return Attempt(self, key, nonce)

    def find(self, key: str) -> Published | None:
        """The published artifact of a key, None where there is none or its marker is damaged."""
        name = f"done/{key}.json"
        try:
            marker = Marker.of(self.root.read_json(name), key, f"{self.root.uri}/{name}")
            return Published(key, marker.nonce, marker.files, marker.meta, self.root / f"attempts/{key}/{marker.nonce}")
        except FileNotFoundError:
            return None
        except CorruptError as error:
            _log.warning("store: %s; it counts as absent", error)
            return None

    def keys(self, prefix: str = "") -> list[str]:
        """Keys with a marker (torn ones included: `find` tells), sorted."""
        names = (self.root / "done").names()
        return [n[: -len(".json")] for n in names if n.endswith(".json") and n.startswith(prefix)]

    def invalidate(self, key: str, nonce: str | None = None) -> None:
        """Unpublish a key, marker first, then the files it named: for what was found rotten, and for pruning.

        Other attempts at the key stay: a writer that is still at work may publish one. With `nonce` nothing happens
        where another attempt has been published since.
        """
        published = self.find(key)
        if nonce is not None and published is not None and published.nonce != nonce:
            return
        self.root.delete(f"done/{key}.json")
        if published is not None:
            try:
                self.root.delete(f"attempts/{key}/{published.nonce}")
            except StorageError as error:  # behind a symbolic link: it does not count any more, and that is enough
                _log.warning("store: %s", error)

    @contextmanager
    def invalidating(self, published: Published) -> Iterator[None]:
        """Withdraw an artifact that the block finds damaged; left standing, it would end every start in this place."""
        try:
            yield
        except CorruptError as error:
            self.invalidate(published.key, published.nonce)
            raise CorruptError(
                f"{error}; {published.key} is withdrawn: start the run again, and it is made anew"
            ) from error

    def orphaned_attempts(self) -> Iterator[tuple[str, int]]:
        """(folder name, bytes) of attempts that no marker names: what killed or orphaned writers left.

        Symbolic links are passed over: what they point to is not the store's.
        """
        attempts = self.root / "attempts"
        for key in attempts.folders(links=False):
            published = self.find(key)
            for nonce in (attempts / key).folders(links=False):
                if published is None or nonce != published.nonce:
                    folder = attempts / key / nonce
                    yield (
                        f"attempts/{key}/{nonce}",
                        sum(folder.size(n) or 0 for n in folder.names(recursive=True)),
                    )
