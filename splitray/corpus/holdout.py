"""Which documents stay, and on which side: decided from narrow rows of hashes, never from the order of arrival.

About 60 bytes a document: a million fit in 60 MB, so one process decides for all and no text is ever shuffled.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from splitray.corpus.clean import Document, hash64, row_of
from splitray.corpus.settings import CorpusSettings

TRAIN, VALIDATION, DROPPED = 0, 1, 2
SPLITS = ("train", "validation")
OVERSIZED = 0.05  # a group above this share of its file's rows is split by row

ROW = np.dtype(
    [
        ("order", "<u8"),
        ("row", "<u8"),
        ("group", "<u8"),
        ("content", "<u8", (2,)),
        ("container", "<u8"),
        ("bytes", "<u4"),
        ("characters", "<u4"),
    ]
)


def narrow(document: Document) -> tuple[object, ...]:
    """A document as one element of an array of type `ROW`."""
    container = hash64(document.container)
    size = len(document.text.encode())
    hashes = (document.order, document.row, document.group_hash, document.content, container)
    return (*hashes, size, len(document.text))


def mixed(hashes: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """`hashes` made anew for one purpose: uint64, uniform, and unrelated between purposes and seeds (splitmix64)."""
    with np.errstate(over="ignore"):
        value = hashes.astype(np.uint64) ^ np.uint64(hash64(f"{seed}/{purpose}"))
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def chosen(rows: np.ndarray, among: np.ndarray, count: int, seed: int, purpose: str) -> np.ndarray:
    """Sorted indices of at most `count` rows where `among` holds: those whose ids hash lowest for this purpose."""
    candidates = np.flatnonzero(among)
    rank = np.lexsort((rows["content"][candidates, 0], mixed(rows["order"][candidates], seed, purpose)))
    return np.sort(candidates[rank[:count]])


@dataclass(frozen=True)
class Decision:
    """`side` (int8, TRAIN, VALIDATION or DROPPED) of every row, counts of what was dropped by reason, and a row of
    each group that was split by row because of its share of its file."""

    side: np.ndarray
    dropped: Counter[str]
    oversized: list[tuple[int, int, float]]


def decide(rows: np.ndarray, settings: CorpusSettings, seed: int) -> Decision:
    """Drop exact duplicates (the lowest id stays), keep the sample, and send whole groups to one side by hash."""
    side = np.full(len(rows), DROPPED, dtype=np.int8)
    content = rows["content"]
    order = np.lexsort((rows["order"], content[:, 1], content[:, 0]))
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (content[order[1:]] != content[order[:-1]]).any(axis=1)
    kept = order[first]
    dropped = Counter({"exact duplicate": len(rows) - len(kept)})
    if settings.max_documents is not None and len(kept) > settings.max_documents:
        among = np.zeros(len(rows), dtype=bool)
        among[kept] = True
        dropped["beyond max_documents"] = len(kept) - settings.max_documents
        kept = chosen(rows, among, settings.max_documents, seed, "sample")

    oversized = _oversized(rows, kept)
    by_row = np.isin(rows["group"][kept], rows["group"][[index for index, _, _ in oversized]])
    unit = np.where(by_row, rows["row"][kept], rows["group"][kept])
    held = mixed(unit, seed, "validation") < np.uint64(int(settings.validation_share * 2**64))
    side[kept] = np.where(held, VALIDATION, TRAIN)
    return Decision(side, dropped, oversized)


def split_units(ids: Sequence[str], groups: Sequence[str], by_row: Collection[str]) -> list[str]:
    """By document, what was sent to one side together: its group, or its row where its group was split by row.

    Args:
        by_row: names of the groups that were split by row.
    """
    pairs = zip(ids, groups, strict=True)
    return [f"{group}:{row_of(identity)}" if group in by_row else group for identity, group in pairs]


def _oversized(rows: np.ndarray, kept: np.ndarray) -> list[tuple[int, int, float]]:
    """(index of one of its rows, rows, share) of the groups above `OVERSIZED` of the rows of their file."""
    pairs = np.stack([rows["container"][kept], rows["group"][kept]], axis=1)
    unique, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    containers, which = np.unique(unique[:, 0], return_inverse=True)
    totals = np.bincount(which, weights=counts, minlength=len(containers))
    share = counts / totals[which]
    big = np.flatnonzero((share > OVERSIZED) & (counts > 1))
    return [(int(kept[first[b]]), int(counts[b]), float(share[b])) for b in big]
