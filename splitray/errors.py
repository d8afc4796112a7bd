"""The errors that splitray raises on purpose.

`UserError` is the user's to mend (exit code 2); `StageError` says that a stage failed (exit code 1).
A broken invariant of ours is an `assert`, never one of these.
"""

import difflib
from collections.abc import Iterable


class SplitrayError(Exception):
    """Base of every error that splitray raises on purpose."""


class UserError(SplitrayError):
    """What the user gave cannot be used: the message says what, where (file, field, value) and what to do."""


class StorageError(SplitrayError):
    """The run folder or the store cannot be read or written: disk full, read-only, unreachable."""


class CorruptError(SplitrayError):
    """A stored file does not match its recorded size or checksum."""


class StageError(SplitrayError):
    """A stage failed; the message lists its failed units."""


def did_you_mean(given: str, choices: Iterable[str]) -> str:
    """`; did you mean X?` for the choice that is spelled most like `given`, empty where none is near."""
    spelled = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(given.lower(), spelled, n=1, cutoff=0.6)
    return f"; did you mean {spelled[near[0]]}?" if near else ""


def check_choice(what: str, given: str, choices: Iterable[str]) -> str:
    """`given`, one of the choices.

    Raises:
        UserError: it is none of them. The message lists them, and names the one that is spelled most like it.
    """
    known = list(choices)
    if given not in known:
        raise UserError(f"{what} {given!r} is not known: choose {', '.join(known)}{did_you_mean(given, known)}")
    return given
