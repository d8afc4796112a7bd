"""The fits: tasks that run once, on samples of the training documents.

Each returns the files that it wrote and a result.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from splitray.corpus.embedders import Embedder
from splitray.corpus.kmeans import (
    domain_names,
    fit_centroids,
    fit_offsets,
    nearest,
    nearest_on_gpu,
    projection_plane,
    scores,
    top_terms,
)
from splitray.corpus.passes import Files, upload
from splitray.corpus.router import Placement
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.shards import read_table
from splitray.corpus.tokenizer import fit_tokenizer
from splitray.errors import UserError
from splitray.settings import Settings
from splitray.storage.folder import Folder

_PROJECTED = 5000
_TERM_SAMPLE = 4000  # documents whose words are ranked: counting those of 4,000 takes a second


@dataclass(frozen=True)
class Places:
    """Where a fit works: `scratch` holds the blocks, `target` takes the files that it writes."""

    scratch: Folder
    target: Folder


def gather(scratch: Folder, picks: dict[str, np.ndarray]) -> list[str]:
    """The texts of some rows of some blocks, sorted by the hash of the id: independent of files and blocks."""
    found: list[tuple[int, int, str]] = []
    for block, rows in picks.items():
        table = read_table(scratch, f"clean/{block}.parquet", ["order", "content", "text"]).take(rows)
        found += zip(*(table[c].to_pylist() for c in table.column_names), strict=True)
    return [text for _, _, text in sorted(found)]


def fit_embedder(
    places: Places, picks: dict[str, np.ndarray], embedder: type[Embedder], settings: Settings, seed: int
) -> tuple[Files, None]:
    """Fit the embedder on the sample, which is read only if it wants it."""
    texts = gather(places.scratch, picks) if embedder.needs_sample else []
    with tempfile.TemporaryDirectory() as local:
        embedder.fit(texts, settings, seed).save(Path(local))
        return upload(Path(local), places.target), None


def fit_tokens(places: Places, picks: dict[str, np.ndarray], settings: CorpusSettings) -> tuple[Files, None]:
    """Train the tokenizer on the picked documents, or load it."""
    with tempfile.TemporaryDirectory() as local:
        fit_tokenizer(gather(places.scratch, picks), settings.tokenizer, Path(local))
        return upload(Path(local), places.target), None


def fit_domains(
    places: Places,
    vectors: np.ndarray,
    picks: dict[str, np.ndarray],
    settings: CorpusSettings,
    seed: int,
) -> tuple[Files, tuple[dict[str, Any], pa.Table]]:
    """Find the domains on the sample, whose `vectors` stand in the order in which `gather` returns `picks`.

    The result is the domains (names, terms) and the table of their picture.
    """
    texts, vectors, _ = _placeable(places, picks, vectors)
    distinct = len(np.unique(vectors, axis=0))
    if distinct < settings.domains:
        raise UserError(
            f"corpus.domains is {settings.domains}, but only {distinct} training documents of the sample differ for "
            f"the embedder {settings.embedder!r}; lower it or give more text"
        )
    gpu = settings.cluster.gpus > 0
    centroids = fit_centroids(vectors, settings.domains, settings.cluster, seed, gpu)
    offsets = np.zeros(len(centroids))
    if settings.cluster.balanced:
        weights = np.array([len(text.encode()) for text in texts], dtype=np.float64)
        fits = scores(vectors, centroids, settings.cluster.spherical, offsets)
        offsets = fit_offsets(fits, weights, settings.cluster.tolerance)
    placed = (nearest_on_gpu if gpu else nearest)(vectors, centroids, settings.cluster.spherical, offsets)
    # Largest first: the order in which k-means found them means nothing.
    rank = np.argsort(-np.bincount(placed, minlength=len(centroids)), kind="stable")
    centroids, offsets = centroids[rank], offsets[rank]
    placed = np.argsort(rank)[placed]
    terms = top_terms(texts[:_TERM_SAMPLE], placed[:_TERM_SAMPLE], settings.domains)
    placement = Placement(centroids, offsets, settings.cluster.spherical, domain_names(terms))
    return _written(places, placement, terms, vectors, placed)


def fit_given(
    places: Places,
    vectors: np.ndarray,
    picks: dict[str, np.ndarray],
    settings: CorpusSettings,
    names: list[str],
    index: np.ndarray,
) -> tuple[Files, tuple[dict[str, Any], pa.Table]]:
    """Where given domains lie: each at the mean of its sample's vectors. Arguments and result as of `fit_domains`.

    Args:
        names: of the domains. index: that of each document of the sample, in the order of `vectors`.
    """
    texts, vectors, kept = _placeable(places, picks, vectors)
    index = index[kept].astype(np.int64)
    counts = np.bincount(index, minlength=len(names))
    if not counts.all():
        raise UserError(
            f"domain {names[counts.argmin()]}: no sampled document of it has a word that the embedder "
            f"{settings.embedder!r} knows, so no router could tell it; give more text of it, or another embedder"
        )
    centroids = np.stack([vectors[index == k].mean(axis=0) for k in range(len(names))])
    if settings.cluster.spherical:
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    terms = top_terms(texts[:_TERM_SAMPLE], index[:_TERM_SAMPLE], len(names))
    placement = Placement(centroids.astype(np.float32), np.zeros(len(names)), settings.cluster.spherical, names)
    return _written(places, placement, terms, vectors, index)


def _placeable(
    places: Places, picks: dict[str, np.ndarray], vectors: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The texts and vectors of a sample that have a word which the embedder knows, and their places in it."""
    texts = gather(places.scratch, picks)
    kept = np.flatnonzero(vectors.any(axis=1))
    return [texts[i] for i in kept], vectors[kept], kept


def _written(
    places: Places, placement: Placement, terms: list[list[str]], vectors: np.ndarray, placed: np.ndarray
) -> tuple[Files, tuple[dict[str, Any], pa.Table]]:
    """Save where the domains lie; names, terms and the table of their picture beside the files."""
    domains = placement.domains
    with tempfile.TemporaryDirectory() as local:
        placement.save(Path(local))
        files = upload(Path(local), places.target)
    plane = vectors[:_PROJECTED] @ projection_plane(vectors, placement.centroids)
    picture = pa.table({"x": plane[:, 0], "y": plane[:, 1], "domain": [domains[k] for k in placed[:_PROJECTED]]})
    return files, ({"names": domains, "terms": terms}, picture)
