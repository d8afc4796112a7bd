"""The errors that splitray raises on purpose.

`UserError` is the user's to mend (exit code 2); `StageError` says that a stage failed (exit code 1).
A broken invariant of ours is an `assert`, never one of these.
"""


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
