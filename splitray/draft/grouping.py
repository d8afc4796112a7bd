"""How many domains a sample of documents falls into, and how evenly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitray.corpus.embedders import find_embedder
from splitray.corpus.kmeans import fit_centroids, nearest
from splitray.corpus.settings import CorpusSettings

_SEEN = 3000  # documents that are clustered: some seconds
_COMPARED = 1500  # of them, between all of which distances are taken
_RESTARTS = 5
_COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
_UNEVEN = 0.25  # the smallest domain has at least this part of an equal share: less text bounds the budget of all


@dataclass(frozen=True)
class Grouping:
    """A number of domains, and the share of the sample's text that the smallest of them has."""

    domains: int
    smallest: float


def group(texts: Sequence[str], settings: CorpusSettings, seed: int, wanted: int | None, most: int) -> Grouping | None:
    """The domains that a sample suggests: the number with the best silhouette (Rousseeuw 1987), by cosine distance.

    On files of the benchmark corpus it finds 3 for three sources and 6 for six. Where every number leaves a domain with
    little text, 2 are taken. None where fewer documents differ.

    Args:
        settings: how documents are embedded and clustered.
        wanted: take this many domains.
        most: domains at most.
    """
    from sklearn.metrics import silhouette_score

    texts = list(texts[:_SEEN])
    embedder = find_embedder(settings.embedder).fit(texts, settings.embedder_settings, seed)
    vectors = embedder.embed(texts)
    placeable = vectors.any(axis=1)
    vectors, sizes = vectors[placeable], np.array([len(text.encode()) for text in texts])[placeable]
    distinct = len(np.unique(vectors, axis=0))
    cluster = settings.cluster.model_copy(update={"restarts": _RESTARTS})

    def placed_in(count: int) -> tuple[Grouping, np.ndarray]:
        placed = nearest(vectors, fit_centroids(vectors, count, cluster, seed), cluster.spherical, np.zeros(count))
        return Grouping(count, float(np.bincount(placed, sizes, minlength=count).min() / sizes.sum())), placed

    if distinct < (wanted or 2):
        return None
    if wanted is not None:
        return placed_in(wanted)[0]
    scored: list[tuple[float, Grouping]] = []
    for count in (count for count in _COUNTS if count <= min(most, distinct)):
        grouping, placed = placed_in(count)
        if grouping.smallest * count >= _UNEVEN and len(np.unique(placed[:_COMPARED])) > 1:
            score = silhouette_score(vectors[:_COMPARED], placed[:_COMPARED], metric="cosine")
            scored.append((float(score), grouping))
    return max(scored, key=lambda each: each[0])[1] if scored else placed_in(2)[0]
