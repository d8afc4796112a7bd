"""How a law and a plan are written for their readers: JSON with its schema and checksum, whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage.checksum import checksummed, verified
from splitray.storage.folder import Folder

T = TypeVar("T")


def write(path: str | Path, what: str, record: dict[str, Any]) -> None:
    """Write a record of plain JSON types; raises UserError where `what` ("law" or "plan") cannot be written."""
    path = Path(path)
    try:
        Folder(path.parent).write_json(path.name, checksummed(record))
    except StorageError as error:
        raise UserError(f"{path}: the {what} cannot be written ({error}); give another path") from error


def read(path: str | Path, what: str, schema: str, made: Callable[[dict[str, Any]], T]) -> T:
    """What `made` makes of the record that `write` left; raises UserError naming a file that is missing, cut short,
    damaged, or no `what` at all.
    """
    try:
        record = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a saved {what}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON, or cut short ({error}); save the {what} again") from error
    if not isinstance(record, dict) or record.get("schema") != schema:
        raise UserError(
            f"{path}: not a {what} (schema {schema!r} expected); give a file that {what.title()}.save wrote"
        )
    try:
        return made(verified(record, str(path)))
    except CorruptError as error:
        raise UserError(f"{error}; save the {what} again") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: a damaged {what} ({type(error).__name__}: {error}); save it again") from error
