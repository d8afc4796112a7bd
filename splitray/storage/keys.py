"""The one grammar of artifact names in the store.

    seg-HASH-TOKENS                    a segment: the hash of its lineage, and the token count at its end
    part-SEGMENT-TOKENS                a checkpoint inside a segment that is not finished, at a token count
    loss-SEGMENT-VALIDATION-DOMAIN     losses of a segment on one domain's validation text, or on the choices of an exam
    corpus-HASH                        a corpus: token shards, tokenizer and router
    precision-HASH                     the precision that `auto` means on one kind of machine

Token counts have 15 digits, so that names sort by them. Every kind has `parse`, which refuses other names with a
`CorruptError`, `match`, which answers None for them, `format`, the inverse, and `prefix`, which starts all such names.
The grammar is that of the first release: names on disk do not change.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from splitray.errors import CorruptError

_TOKENS = r"(?:\d{15}|[1-9]\d{15,})"  # one way only to write a number, or two names would be one key
_SEGMENT = rf"seg-[0-9a-z]+-{_TOKENS}"


@dataclass(frozen=True)
class _Key:
    """What all kinds share: a pattern whose groups are the fields in their order."""

    _KIND: ClassVar[str]
    _PATTERN: ClassVar[re.Pattern[str]]

    @classmethod
    def parse(cls, name: str) -> Self:
        """The key that `format` wrote as `name`.

        Raises:
            CorruptError: `name` is no key of this kind.
        """
        key = cls.match(name)
        if key is None:
            raise CorruptError(f"{name!r} is not the name of a {cls._KIND}")
        return key

    @classmethod
    def match(cls, name: str) -> Self | None:
        """As `parse`, but None for other names."""
        found = cls._PATTERN.fullmatch(name)
        return None if found is None else cls._of(*found.groups())

    @classmethod
    def _of(cls, *fields: str) -> Self:
        """The key of a name, from the groups of the pattern."""
        raise NotImplementedError

    def format(self) -> str:
        """The artifact's name in the store."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.format()


@dataclass(frozen=True)
class SegmentKey(_Key):
    """A segment of the tree: `line` (`seg-HASH`) is what all segments of one lineage share, `tokens` where it ends."""

    line: str
    tokens: int

    _KIND = "segment"
    _PATTERN = re.compile(rf"(seg-[0-9a-z]+)-({_TOKENS})")

    @classmethod
    def _of(cls, *fields: str) -> Self:
        return cls(fields[0], int(fields[1]))

    def format(self) -> str:
        return f"{self.line}-{self.tokens:015d}"

    @property
    def lineage(self) -> str:
        """The hash in `line`."""
        return self.line.removeprefix(self.prefix())

    @staticmethod
    def line_of(fingerprint: str) -> str:
        """The line of a lineage with this hash."""
        return f"seg-{fingerprint}"

    @staticmethod
    def prefix(line: str = "seg") -> str:
        """What the names of all segments start with, or of those on one line."""
        return f"{line}-"

    @classmethod
    def ends(cls, line: str, names: Iterable[str]) -> set[int]:
        """Token counts at which segments on a line end, among some names."""
        prefix = cls.prefix(line)
        found = (cls.match(name) for name in names if name.startswith(prefix))
        return {key.tokens for key in found if key is not None}


@dataclass(frozen=True)
class CheckpointKey(_Key):
    """A checkpoint inside a segment that is not finished, after `tokens` since the root."""

    segment: SegmentKey
    tokens: int

    _KIND = "checkpoint"
    _PATTERN = re.compile(rf"part-({_SEGMENT})-({_TOKENS})")

    @classmethod
    def _of(cls, *fields: str) -> Self:
        return cls(SegmentKey.parse(fields[0]), int(fields[1]))

    def format(self) -> str:
        return f"{self.prefix(self.segment)}{self.tokens:015d}"

    @staticmethod
    def prefix(segment: SegmentKey | None = None) -> str:
        """What the names of all checkpoints start with, or of those of one segment."""
        return "part-" if segment is None else f"part-{segment}-"


@dataclass(frozen=True)
class LossKey(_Key):
    """Losses of a segment on one domain. `validation` is the hash of the validation text that was read."""

    segment: SegmentKey
    validation: str
    domain: str

    _KIND = "loss"
    _PATTERN = re.compile(rf"loss-({_SEGMENT})-([0-9a-z]+)-(.+)", re.DOTALL)

    @classmethod
    def _of(cls, *fields: str) -> Self:
        return cls(SegmentKey.parse(fields[0]), fields[1], fields[2])

    def format(self) -> str:
        return f"{self.prefix(self.segment)}{self.validation}-{self.domain}"

    @staticmethod
    def prefix(segment: SegmentKey | None = None) -> str:
        """What the names of all losses start with, or of those of one segment."""
        return "loss-" if segment is None else f"loss-{segment}-"


@dataclass(frozen=True)
class _HashKey(_Key):
    """A kind whose name is its word and a hash."""

    hash: str

    @classmethod
    def _of(cls, *fields: str) -> Self:
        return cls(fields[0])

    def format(self) -> str:
        return f"{self.prefix()}{self.hash}"

    @classmethod
    def prefix(cls) -> str:
        """What the names of all of this kind start with."""
        return f"{cls._KIND}-"


@dataclass(frozen=True)
class CorpusKey(_HashKey):
    """A corpus, by the hash of its settings, seed, and list of files."""

    _KIND = "corpus"
    _PATTERN = re.compile(r"corpus-(.+)", re.DOTALL)


@dataclass(frozen=True)
class PrecisionKey(_HashKey):
    """What `training.precision: auto` means on one kind of machine, by the hash of its description."""

    _KIND = "precision"
    _PATTERN = re.compile(r"precision-([0-9a-f]+)")
