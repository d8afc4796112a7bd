"""Where the folder of a model from outside lies: at the path of its shape, or at hand under the hash of its content.

A path is part of every key of such a model. A folder that is written for a while, and anew by whoever needs it again,
would never have the same key twice. So it is named by what it holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from splitray.errors import UserError
from splitray.training.settings import ModelShape

_CONTENT = "sha256:"
_at_hand: dict[str, Path] = {}


@contextmanager
def named_by_content(folder: Path, content: str) -> Iterator[ModelShape]:
    """A passing folder as a model whose keys say what it holds, and not where it lies.

    The shape is of use within the block, in this process.

    Args:
        content: the hash of its config and weights; see `splitray.training.folder.folder_hash`.
    """
    name = f"{_CONTENT}{content}"
    _at_hand[name] = folder
    try:
        yield ModelShape(path=name)
    finally:
        del _at_hand[name]


def folder_of(shape: ModelShape) -> Path:
    """Where the folder of a model lies.

    Raises:
        UserError: it is named by its content, and no such folder is at hand.
    """
    assert shape.path is not None
    if shape.path.startswith(_CONTENT) and shape.path not in _at_hand:
        raise UserError(f"no folder with the weights {shape.path} is at hand: what made it has to make it again")
    return _at_hand.get(shape.path, Path(shape.path))
