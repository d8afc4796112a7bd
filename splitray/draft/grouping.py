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


def group(texts: Sequence[str], settings: CorpusSettings, seed: int, wanted: int | None, most: int) -> Grouping:
    """The domains that a sample suggests: the number with the best silhouette (Rousseeuw 1987), by cosine distance.

    On files of the benchmark corpus it finds 3 for three sources and 6 for six.

    Args:
        settings: how documents are embedded and clustered.
        wanted: take this many domains.
        most: domains at most.
    """
    from sklearn.metrics import silhouette_score

    texts = texts[:_SEEN]
    embedder = find_embedder(settings.embedder).fit(list(texts), settings.embedder_settings, seed)
    vectors = embedder.embed(list(texts))
    placeable = vectors.any(axis=1)
    vectors, sizes = vectors[placeable], np.array([len(text.encode()) for text in texts])[placeable]
    distinct = len(np.unique(vectors, axis=0))
    cluster = settings.cluster.model_copy(update={"restarts": _RESTARTS})
    best, best_score = Grouping(1, 1.0), -np.inf
    for count in (wanted,) if wanted is not None else _COUNTS:
        if count > distinct or (wanted is None and count > most):
            continue
        placed = nearest(vectors, fit_centroids(vectors, count, cluster, seed), cluster.spherical, np.zeros(count))
        share = float(np.bincount(placed, sizes, minlength=count).min() / sizes.sum())
        if wanted is not None:
            return Grouping(count, share)
        if share * count < _UNEVEN or len(np.unique(placed[:_COMPARED])) < 2:
            continue
        score = silhouette_score(vectors[:_COMPARED], placed[:_COMPARED], metric="cosine")
        if score > best_score:
            best, best_score = Grouping(count, share), score
    return best
