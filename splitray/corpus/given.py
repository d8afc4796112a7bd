"""Domains that are given: by a column of the tables, or by sources that are named as domains."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitray.corpus.clean import hash64
from splitray.corpus.documents import Documents
from splitray.corpus.holdout import TRAIN, VALIDATION, chosen
from splitray.corpus.settings import RESERVED, CorpusSettings
from splitray.errors import UserError
from splitray.units import some_of

MOST = 1000  # domains: a column of more values is one of ids or titles
_SHOWN = 8  # domains in one message


def domain_name(value: str) -> str:
    """A column's value as the name of a domain, fit for files and actors: other characters become `_`.

    At either end they are left out.
    """
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("_.-")[:64]
    return name or f"domain-{hash64(value):016x}"


@dataclass(frozen=True)
class Given:
    """The domains of a build by name, in the order of the names, and the index of each document's, int16 [documents].

    The order does not depend on the sources' own, which has no part in the corpus's key.
    """

    names: list[str]
    index: np.ndarray
    documents: Documents

    @staticmethod
    def of(
        values: dict[int, str], hashes: np.ndarray, documents: Documents, settings: CorpusSettings, lost: str
    ) -> "Given":
        """The domains of some documents.

        Args:
            values: the domains as the sources have them, by their `hash64`.
            hashes: those of each document's domain, uint64 [documents].
            lost: what was dropped, in words.

        Raises:
            UserError: there are not as many as `corpus.domains` says, or two would have one name.
        """
        names: dict[str, str] = {}
        for value in sorted(values.values()):
            name = domain_name(value)
            if name.lower() in RESERVED:
                raise UserError(
                    f"corpus.domain_column: no domain can be called {value!r}: that is {RESERVED[name.lower()]}"
                )
            if (other := next((v for n, v in names.items() if n.lower() == name.lower()), None)) is not None:
                raise UserError(
                    f"corpus.domain_column: the value {value!r} and {other!r} would be one domain, {name}: rename one"
                )
            names[name] = value
        if len(names) != settings.domains:
            shown = some_of(list(names), _SHOWN) or "none"
            raise UserError(
                f"corpus.domains is {settings.domains}, but {_where(settings)} has text of {len(names)} "
                f"({shown}; {lost}): set corpus.domains to their number, or give text of all"
            )
        ordered = sorted(names)
        known = np.array([hash64(names[name]) for name in ordered], dtype=np.uint64)
        rank = np.argsort(known)
        index = rank[np.searchsorted(known[rank], hashes)]
        return Given(ordered, index.astype(np.int16), documents)

    def check(self, side: np.ndarray, lost: str) -> None:
        """Refuse a domain without a document on either side, before anything is embedded or tokenized.

        Args:
            side: of each document. lost: what was dropped, in words.
        """
        for which, split in ((TRAIN, "training"), (VALIDATION, "validation")):
            counts = np.bincount(self.index[side == which], minlength=len(self.names))
            if not counts.all():
                shown = some_of([f"{name} {n}" for name, n in zip(self.names, counts, strict=True)], _SHOWN)
                raise UserError(
                    f"domain {self.names[counts.argmin()]} has no {split} document ({split} documents by domain: "
                    f"{shown}; {lost}); give more text of it in more files or groups, or raise corpus.validation_share"
                )

    def sample(self, side: np.ndarray, count: int, seed: int) -> np.ndarray:
        """As that of all documents, but as many of each domain: a small one has a centroid too."""
        each, rows = max(1, count // len(self.names)), self.documents.rows
        among = ((side == TRAIN) & (self.index == k) for k in range(len(self.names)))
        return np.sort(np.concatenate([chosen(rows, own, each, seed, "cluster") for own in among]))


def check_labelled(pieces: Sequence[tuple[str, bool]], settings: CorpusSettings) -> None:
    """Refuse a file whose rows all lack the column of domains: it would be dropped unseen.

    Args:
        pieces: of files, by name, and whether a row says its domain. One file may be read in many pieces.
    """
    if bare := sorted({name for name, _ in pieces} - {name for name, labelled in pieces if labelled}):
        raise UserError(
            f"corpus.domain_column: no row of {some_of(bare, _SHOWN)} has a value in {settings.domain_column!r}; name "
            "another column, or leave the file out"
        )


def _where(settings: CorpusSettings) -> str:
    if settings.domain_column is not None:
        return f"column {settings.domain_column!r} (corpus.domain_column)"
    return "what was read of corpus.sources"
