"""One canonical way to turn settings and files into names."""

import hashlib
import json
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def fingerprint(value: Any, length: int = 20) -> str:
    """The first `length` hex digits of the SHA-256 of `value` as canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
