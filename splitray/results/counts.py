"""How much text a corpus has."""

from collections.abc import Callable, Mapping
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

    @classmethod
    def of(cls, name: str, counts: Callable[[str, str], Mapping[str, int]]) -> "DomainCounts":
        """The counts of a domain, as `Corpus.counts` gives them by name and side."""
        return cls(name, Counts(**counts(name, "train")), Counts(**counts(name, "validation")))
