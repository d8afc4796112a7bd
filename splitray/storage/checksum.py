"""One canonical way to turn settings and files into names."""

import hashlib
import json
from pathlib import Path
from typing import Any

from splitray.errors import CorruptError

_BLOCK = 1 << 20
_SEAL = "sha256"


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
        except ValueError:  # NaN, which we never write
            pass
    raise CorruptError(f"{where} does not match the checksum inside it: damaged, edited or not ours")


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
