"""Near-duplicates of validation documents, found by containment of shingles.

A shingle is a window of 24 letters and digits (case, blanks and ASCII punctuation are dropped first), about five
words. One in eight is kept, those with the smallest hashes: Broder's MOD sketch (1997, "On the resemblance and
containment of documents"), whose overlaps estimate overlaps of the whole sets. We ask for containment and not for
Jaccard: a leak is a validation document inside a longer training document, or a piece of one, and both have a small
Jaccard index. The index holds the validation side only; training documents stream past it.
"""

from dataclasses import dataclass

import numpy as np

WINDOW = 24
_BASE = 0x9E3779B97F4A7C15 | 1
_KEEP = np.uint64(2**64 // 8)
_COMMON = 32  # a shingle in more validation documents than this is boilerplate and names none of them
_FEWEST = 4  # sampled shingles below which a containment says nothing: about 50 letters
_DROPPED = bytes(c for c in range(128) if not chr(c).isalnum())
_LOWER = bytes(ord(chr(c).lower()) if c < 128 else c for c in range(256))


def _powers(count: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(count, _BASE, dtype=np.uint64), dtype=np.uint64)


_POWERS = _powers(WINDOW)[::-1].copy()


def shingles(text: str) -> np.ndarray:
    """The sampled shingle hashes of a text: sorted, distinct, uint64.

    All 61 bits below the sampled range are kept. With 32, five billion validation shingles (a terabyte of text, 5 % of
    it validation) filled the range, and half of all unrelated texts of five shingles met them by chance.
    """
    letters = np.frombuffer(text.encode().translate(_LOWER, _DROPPED), dtype=np.uint8)
    if len(letters) < WINDOW:
        return np.empty(0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        hashes = np.zeros(len(letters) - WINDOW + 1, dtype=np.uint64)
        for at, power in enumerate(_POWERS):
            hashes += power * letters[at : at + len(hashes)]
        # A polynomial hash is weak in its low bits; two rounds of splitmix64 spread it.
        hashes ^= hashes >> np.uint64(30)
        hashes *= np.uint64(0xBF58476D1CE4E5B9)
        hashes ^= hashes >> np.uint64(27)
        hashes *= np.uint64(0x94D049BB133111EB)
        hashes ^= hashes >> np.uint64(31)
    return np.unique(hashes[hashes < _KEEP])


@dataclass(frozen=True)
class ValidationIndex:
    """Inverted index over the shingles of validation documents: shingle `keys[i]` stands in the documents
    `documents[starts[i]:starts[i + 1]]`; `sizes` counts each document's shingles that are not boilerplate, 0 where
    most are."""

    keys: np.ndarray
    starts: np.ndarray
    documents: np.ndarray
    sizes: np.ndarray

    @staticmethod
    def build(sets: list[np.ndarray]) -> "ValidationIndex":
        lengths = np.array([len(s) for s in sets], dtype=np.int64)
        shingle = np.concatenate([*sets, np.empty(0, dtype=np.uint64)])
        owner = np.repeat(np.arange(len(sets), dtype=np.int32), lengths)
        order = np.argsort(shingle, kind="stable")
        keys, counts = np.unique(shingle, return_counts=True)
        telling = np.repeat(counts <= _COMMON, counts)
        starts = np.concatenate([[0], np.cumsum(np.where(counts <= _COMMON, counts, 0))])
        documents = owner[order][telling]
        sizes = np.bincount(documents, minlength=len(sets))
        # What little stands between boilerplate is not the document: half of it must tell, or it is not asked for.
        return ValidationIndex(keys, starts, documents, np.where(2 * sizes >= lengths, sizes, 0))

    def near_duplicates(self, sets: list[np.ndarray], threshold: float) -> np.ndarray:
        """Booleans, one for each of `sets`: at least `threshold` of its shingles stand in validation documents, or
        at least `threshold` of one validation document's shingles stand in it."""
        lengths = np.array([len(s) for s in sets], dtype=np.int64)
        found = np.zeros(len(sets), dtype=bool)
        if not len(self.keys) or not lengths.sum():
            return found
        shingle = np.concatenate(sets)
        owner = np.repeat(np.arange(len(sets)), lengths)
        at = np.minimum(np.searchsorted(self.keys, shingle), len(self.keys) - 1)
        hit = self.keys[at] == shingle
        at, owner = at[hit], owner[hit]
        inside = np.bincount(owner, minlength=len(sets))
        found |= (lengths >= _FEWEST) & (inside >= threshold * lengths)

        spans = self.starts[at + 1] - self.starts[at]
        offsets = np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
        validation = self.documents[np.repeat(self.starts[at], spans) + offsets].astype(np.int64)
        pairs, shared = np.unique(np.repeat(owner, spans) * len(self.sizes) + validation, return_counts=True)
        sizes = self.sizes[pairs % len(self.sizes)]
        holds = (sizes >= _FEWEST) & (shared >= threshold * sizes)
        found[pairs[holds] // len(self.sizes)] = True
        return found
