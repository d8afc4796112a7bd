"""One canonical way to turn settings and files into names, and to close a record with its schema and checksum."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitray.errors import CorruptError, UserError

_BLOCK = 1 << 20
_SEAL, _SCHEMA = "sha256", "schema"
_NAMED = re.compile(r"splitray-([a-z]+)-([1-9]\d*)")


def fingerprint(value: Any, length: int = 20) -> str:
    """The first `length` hex digits of the SHA-256 of `value` as canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def checksummed(record: dict[str, Any]) -> dict[str, Any]:
    """A record, as JSON gives it back, with the SHA-256 of its content as one more field.

    One flipped bit leaves most JSON valid and some number in it wrong: whoever reads a record asks `verified`.
    """
    plain = json.loads(json.dumps(record, allow_nan=False))
    assert _SEAL not in plain, plain.keys()
    return {**plain, _SEAL: fingerprint(plain, 64)}


def verified(record: Any, where: str) -> dict[str, Any]:
    """The record that `checksummed` closed; `CorruptError` names `where` it stands if it is another one now."""
    if isinstance(record, dict) and _SEAL in record:
        plain = {name: value for name, value in record.items() if name != _SEAL}
        try:
            if fingerprint(plain, 64) == record[_SEAL]:
                return plain
        except (ValueError, RecursionError):  # NaN, which we never write
            pass
    raise CorruptError(f"{where} does not match the checksum inside it: damaged, edited or not ours")


@dataclass(frozen=True)
class Schema:
    """The format of a kind of record, written into it as `splitray-KIND-VERSION`.

    A reader takes every version up to its own, and refuses newer ones by name instead of misreading them.

    Attributes:
        version: what is written now.
        unnamed: the version of a record that names none, as those of the first release; None where all name theirs.
    """

    kind: str
    version: int
    unnamed: int | None = 1

    def __str__(self) -> str:
        return f"splitray-{self.kind}-{self.version}"

    def close(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record with its schema and checksum, ready to be written."""
        return checksummed({_SCHEMA: str(self), **record})

    def open(self, record: Any, where: str) -> dict[str, Any]:
        """The content of a record that `close` made, now or in an earlier version, without schema and checksum.

        Raises:
            CorruptError: it is damaged, or of another kind.
            UserError: it is of a version that this splitray does not know.
        """
        self._version(record, where)
        plain = verified(record, where)
        self.check(plain, where)
        return {name: value for name, value in plain.items() if name != _SCHEMA}

    def check(self, record: Any, where: str) -> None:
        """Refuse, as `open` does, a record of another kind or a newer version; its checksum is kept elsewhere."""
        if self._version(record, where) > self.version:
            raise UserError(
                f"{where} was written by a newer splitray (schema {record[_SCHEMA]!r}; this one reads up to "
                f"{str(self)!r}): update splitray"
            )

    def _version(self, record: Any, where: str) -> int:
        named = record.get(_SCHEMA) if isinstance(record, dict) else None
        if named is None and self.unnamed is not None:
            return self.unnamed
        found = _NAMED.fullmatch(named) if isinstance(named, str) else None
        if found is None or found[1] != self.kind:
            raise CorruptError(f"{where} is not a {self.kind} (schema {str(self)!r} expected)")
        return int(found[2])


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
