"""How much text a corpus has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Tokens (end tokens included), documents and bytes of UTF-8 text."""

    tokens: int
    documents: int
    bytes: int


@dataclass(frozen=True)
class DomainCounts:
    """One domain of the corpus by its sides."""

    name: str
    train: Counts
    validation: Counts
