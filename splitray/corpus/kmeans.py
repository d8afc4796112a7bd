"""Domains: k-means on a sample, capacity offsets that balance them if asked, and the words that tell them apart."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from splitray.corpus.settings import ClusterSettings
from splitray.errors import UserError
from splitray.runtime.compat import row_by_row

_TERMS = 12
_CLOSE = 2e-3  # of the largest product of norms: a GPU's TF32 has 10 bits of a factor, so an error of 1e-3


def scores(vectors: np.ndarray, centroids: np.ndarray, spherical: bool, offsets: np.ndarray) -> np.ndarray:
    """How well each centroid fits each vector less its offset, float32 of shape (vectors, domains); higher is nearer.

    Cosine similarity, or minus the squared distance where not spherical.
    """
    columns = []
    for centroid, offset in zip(centroids, offsets, strict=True):
        if spherical:
            fit = (vectors * centroid).sum(axis=1)
        else:
            fit = -((vectors - centroid) ** 2).sum(axis=1)
        columns.append(fit - offset)
    return np.stack(columns, axis=1).astype(np.float32)


def nearest(vectors: np.ndarray, centroids: np.ndarray, spherical: bool, offsets: np.ndarray) -> np.ndarray:
    """The centroid of the highest score for each vector, int64 of shape (vectors,); the first of equals.

    A vector's answer does not depend on the batch it comes in, so the router repeats what the build decided: faiss is
    told to go row by row, where a matrix product may round a row differently among others. That costs nothing: a
    million vectors of 256 dimensions take 0.14 s of one core for 8 centroids and 1.1 s for 64, by BLAS 0.20 and 1.2.
    """
    flat, rows = _as_products(vectors, centroids, spherical, offsets)
    return _by_rows(flat, rows)


def nearest_on_gpu(vectors: np.ndarray, centroids: np.ndarray, spherical: bool, offsets: np.ndarray) -> np.ndarray:
    """As `nearest`, by a GPU of faiss. What it finds close is decided on the CPU, so that the answer is the same.

    Raises:
        UserError: faiss sees no GPU.
    """
    check_faiss_gpu()
    import faiss

    resources = faiss.StandardGpuResources()
    return nearest_by(lambda index: faiss.index_cpu_to_gpu(resources, 0, index), vectors, centroids, spherical, offsets)


def nearest_by(
    move: Callable[[Any], Any], vectors: np.ndarray, centroids: np.ndarray, spherical: bool, offsets: np.ndarray
) -> np.ndarray:
    """As `nearest`, by an index that computes in its own way, and row by row where its two best are close.

    Args:
        move: gives the index that searches, of a flat one of faiss.
    """
    flat, rows = _as_products(vectors, centroids, spherical, offsets)
    if len(centroids) == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    best, found = move(flat).search(rows, 2)
    scale = np.linalg.norm(rows, axis=1) * np.linalg.norm(flat.reconstruct_n(0, flat.ntotal), axis=1).max()
    close = np.flatnonzero(best[:, 0] - best[:, 1] <= _CLOSE * scale)
    placed: np.ndarray = found[:, 0].astype(np.int64)
    placed[close] = _by_rows(flat, rows[close])
    return placed


def _as_products(
    vectors: np.ndarray, centroids: np.ndarray, spherical: bool, offsets: np.ndarray
) -> tuple[Any, np.ndarray]:
    """An index whose largest product with a row is the nearest centroid, and the rows."""
    import faiss

    bias = -offsets if spherical else -offsets - (centroids.astype(np.float64) ** 2).sum(axis=1)
    centroids = centroids if spherical else 2 * centroids
    if bias.any():  # the score is a product with one more dimension
        centroids = np.column_stack([centroids, bias])
        vectors = np.column_stack([vectors, np.ones(len(vectors), np.float32)])
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    return index, np.ascontiguousarray(vectors, dtype=np.float32)


def _by_rows(index: Any, vectors: np.ndarray) -> np.ndarray:
    found = np.empty(len(vectors), dtype=np.int64)
    with row_by_row() as rows:
        for begin in range(0, len(vectors), rows):
            found[begin : begin + rows] = index.search(vectors[begin : begin + rows], 1)[1][:, 0]
    return found


def check_faiss_gpu() -> None:
    """Refuse to cluster on a GPU that faiss does not see.

    Raises:
        UserError: it says what to install.
    """
    import faiss

    if not getattr(faiss, "get_num_gpus", int)():
        raise UserError(
            "corpus.cluster.gpus asks for a GPU, and faiss sees none: on the GPU nodes replace faiss-cpu by "
            "faiss-gpu-cu12 (pip install 'splitray[gpu]' into a fresh environment), or set corpus.cluster.gpus to 0"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """faiss on one thread: sums in one order, whatever the machine has. The setting is the whole process's."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def fit_centroids(
    vectors: np.ndarray, domains: int, settings: ClusterSettings, seed: int, gpu: bool = False
) -> np.ndarray:
    """k-means (faiss) with restarts, the best objective wins: float32 of shape (domains, dimensions).

    Args:
        gpu: whether faiss uses this process's GPU. Starts are drawn on the CPU either way, by the seed.

    Raises:
        UserError: `gpu`, and faiss sees none.
    """
    import faiss

    if gpu:
        check_faiss_gpu()

    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        domains,
        niter=settings.iterations,
        nredo=settings.restarts,
        spherical=settings.spherical,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
        gpu=1 if gpu else False,  # one: `True` means all that the process sees
    )
    with _one_thread():
        kmeans.train(vectors)
    return np.asarray(kmeans.centroids, dtype=np.float32).copy()


def fit_offsets(fits: np.ndarray, weights: np.ndarray, tolerance: float, sweeps: int = 500) -> np.ndarray:
    """An offset for each domain such that `argmax(fits - offsets)` gives every domain its equal share of `weights`.

    These are the dual variables of the transport problem "assign every document once, each domain holds at most its
    share, the sum of fits is largest", so no exchange of documents under the same loads would fit better. Solved by
    coordinate ascent: a domain's offset is set to the quantile of the margins at which it holds its share exactly.

    Args:
        fits: float32 (documents, domains) without offsets. weights: (documents,), bytes of text.
        tolerance: stop once no load is off its share by more than this part of it.
    Returns:
        float64 (domains,), the smallest is 0. Documents that weigh more than a share may leave it unmet.
    """
    count = fits.shape[1]
    share = weights.sum() / count
    offsets = np.zeros(count)
    for _ in range(sweeps):
        loads = np.bincount((fits - offsets).argmax(axis=1), weights=weights, minlength=count)
        off = np.abs(loads - share)
        if count == 1 or off.max() <= tolerance * share:
            break
        k = int(off.argmax())
        net = fits - offsets
        net[:, k] = -np.inf
        margin = fits[:, k] - net.max(axis=1)  # the offset at which a document would leave k
        order = np.argsort(-margin, kind="stable")
        last = int(np.searchsorted(np.cumsum(weights[order]), share))
        edge = order[min(last, len(order) - 1)], order[min(last + 1, len(order) - 1)]
        offsets[k] = (margin[edge[0]] + margin[edge[1]]) / 2
    offset: np.ndarray = offsets - offsets.min()
    return offset


def top_terms(texts: list[str], domains: np.ndarray, count: int) -> list[list[str]]:
    """The most telling words of each domain, without a list of stop words in any language.

    Ours: -p log p times log(p / q), where p is the share of the domain's documents that have the word, and q that of
    the others. The second factor asks for words that others lack. The first one, largest at p = 1/e, leaves out words
    that stand in nearly every document of the domain: on 13 sources class-based TF-IDF named statutes in Portuguese
    "que, para" and fiction "said, man", and this "qualquer, parágrafo" and "dear, door".
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        token_pattern=r"(?u)\b[^\W\d_]{3,}\b", min_df=min(3, len(texts)), binary=True, dtype=np.float32
    )
    try:
        counted = vectorizer.fit_transform(text[:2000] for text in texts)
    except ValueError:  # no word at all, or none often enough
        return [[] for _ in range(count)]
    words = vectorizer.get_feature_names_out()
    having = np.stack([np.asarray(counted[domains == k].sum(axis=0)).ravel() for k in range(count)])
    documents = np.bincount(domains, minlength=count)[:, None]
    # Half a document more with the word and half a one without: no share is 0 or 1.
    own = (having + 0.5) / (documents + 1)
    others = (having.sum(axis=0) - having + 0.5) / (len(texts) - documents + 1)
    weight = -own * np.log(own) * np.log(own / others)
    weight[having == 0] = 0
    ranked = np.argsort(-weight, axis=1, kind="stable")[:, :_TERMS]
    return [[str(words[i]) for i in row if weight[k, i] > 0] for k, row in enumerate(ranked)]


def domain_names(terms: list[list[str]]) -> list[str]:
    """A name for each domain, safe for files and actors: its index and its two most telling words in ASCII."""

    def plain(word: str) -> str:
        return re.sub("[^a-z0-9]", "", unicodedata.normalize("NFKD", word.lower()))[:16]

    names = []
    for index, words in enumerate(terms):
        telling = [p for p in map(plain, words) if p][:2]
        names.append("_".join([str(index), *(telling or ["domain"])]))
    return names


def projection_plane(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(dimensions, 2): the plane in which the centroids lie furthest apart (their principal axes); with fewer than
    three centroids the vectors' own axes fill it."""
    axes = np.linalg.svd(centroids - centroids.mean(axis=0), full_matrices=False)[2][: max(0, len(centroids) - 1)]
    rest = vectors - vectors.mean(axis=0)
    rest = rest - (rest @ axes.T) @ axes
    plane = np.concatenate([axes, np.linalg.svd(rest[:2000], full_matrices=False)[2]])[:2]
    # The sign of an axis is arbitrary: its largest entry is made positive.
    largest = np.abs(plane).argmax(axis=1)
    plane = plane * np.sign(plane[np.arange(len(plane)), largest])[:, None]
    return np.pad(plane, ((0, 2 - len(plane)), (0, 0))).T.astype(np.float32)
