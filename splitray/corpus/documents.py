"""All documents of a build as narrow rows, and in which block each lies."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from splitray.corpus.holdout import DROPPED, ROW, TRAIN, chosen, mixed


@dataclass(frozen=True)
class Documents:
    """`rows` of type `ROW`, shape (documents,); `spans` says for each block which of them it holds."""

    rows: np.ndarray
    spans: list[tuple[str, slice]]

    @staticmethod
    def of(blocks: list[tuple[str, bytes]]) -> "Documents":
        """The documents of some blocks: names and rows as bytes."""
        parts = [np.frombuffer(rows, dtype=ROW) for _, rows in blocks]
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        spans = [(name, slice(*span)) for (name, _), span in zip(blocks, pairwise(ends), strict=True)]
        return Documents(np.concatenate([*parts, np.empty(0, dtype=ROW)]), spans)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bytes(self) -> int:
        return int(self.rows["bytes"].sum())

    def picks(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Row numbers over the whole corpus (sorted) as row numbers by block; blocks without any are left out."""
        picks = {}
        for name, span in self.spans:
            low, high = np.searchsorted(rows, [span.start, span.stop])
            if high > low:
                picks[name] = rows[low:high] - span.start
        return picks

    def blocks(self, side: np.ndarray) -> list[dict[str, Any]]:
        """An item for each block of which something is kept. `side`: shape (documents,)."""
        sides = ((name, side[span]) for name, span in self.spans)
        return [{"block": name, "side": some.tobytes()} for name, some in sides if (some != DROPPED).any()]

    def sample(self, side: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Sorted row numbers of the training documents on which embedder and domains are fitted."""
        return chosen(self.rows, side == TRAIN, count, seed, "cluster")

    def by_id(self, rows: np.ndarray) -> np.ndarray:
        """Some rows in the order in which their texts are gathered: by the hashes of id and text."""
        ordered: np.ndarray = rows[np.lexsort((self.rows["content"][rows, 0], self.rows["order"][rows]))]
        return ordered

    def tokenizer_sample(self, side: np.ndarray, megabytes: float, seed: int) -> np.ndarray:
        """Sorted row numbers of the training documents on which the tokenizer is fitted."""
        ranked = mixed(self.rows["order"], seed, "tokenizer")
        train = np.flatnonzero(side == TRAIN)
        train = train[np.argsort(ranked[train], kind="stable")]
        enough = np.searchsorted(np.cumsum(self.rows["bytes"][train]), megabytes * 1e6)
        return np.sort(train[: int(enough) + 1])


@dataclass(frozen=True)
class Placed:
    """What the last passes know of each document, all of shape (documents,): `domain` (-1 for none), `tokens` and
    the partition (`part`) that holds them."""

    domain: np.ndarray
    tokens: np.ndarray
    part: np.ndarray
