"""How a law and a plan are written for their readers: JSON with its schema and checksum, whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage.checksum import Schema
from splitray.storage.folder import Folder

T = TypeVar("T")


def write(path: str | Path, schema: Schema, record: dict[str, Any]) -> None:
    """Write a record of plain JSON types; raises UserError where it cannot be written. `schema.kind` names it there."""
    path = Path(path)
    try:
        Folder(path.parent).write_checksummed(path.name, record, schema)
    except StorageError as error:
        raise UserError(f"{path}: the {schema.kind} cannot be written ({error}); give another path") from error


def read(path: str | Path, schema: Schema, parse: Callable[[dict[str, Any]], T]) -> T:
    """What `parse` makes of the record that `write` left.

    Raises:
        UserError: naming a file that is missing, cut short, damaged, of another kind or from a newer splitray.
    """
    path, kind = Path(path), schema.kind
    try:
        return parse(Folder(path.parent).read_checksummed(path.name, schema))
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot be read (no such file); give the path of a saved {kind}") from error
    except StorageError as error:
        raise UserError(f"{path}: cannot be read ({error}); give the path of a saved {kind}") from error
    except CorruptError as error:
        raise UserError(f"{error}; give a file that {kind.title()}.save wrote, or save the {kind} again") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: a damaged {kind} ({type(error).__name__}: {error}); save it again") from error
