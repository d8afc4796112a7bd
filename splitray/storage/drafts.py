"""Local files that are written first and then moved to their place, so that a reader sees all of one or nothing."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFT = re.compile(r"\.[0-9a-f]{8}\.draft$")  # what the names of drafts end with


@contextmanager
def draft_of(target: str | Path) -> Iterator[Path]:
    """A path beside a target, to write first and then to move; gone afterwards whatever happens."""
    draft = Path(f"{target}.{uuid.uuid4().hex[:8]}.draft")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def write_through(path: Path, data: bytes) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
