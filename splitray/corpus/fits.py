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
    texts = gather(places.scratch, picks)
    placeable = np.flatnonzero(vectors.any(axis=1))
    vectors, texts = vectors[placeable], [texts[i] for i in placeable]
    distinct = len(np.unique(vectors, axis=0))
    if distinct < settings.domains:
        raise UserError(
            f"corpus.domains is {settings.domains}, but only {distinct} training documents of the sample differ for "
            f"the embedder {settings.embedder!r}; lower it or give more text"
        )
    centroids = fit_centroids(vectors, settings.domains, settings.cluster, seed)
    offsets = np.zeros(len(centroids))
    if settings.cluster.balanced:
        weights = np.array([len(text.encode()) for text in texts], dtype=np.float64)
        fits = scores(vectors, centroids, settings.cluster.spherical, offsets)
        offsets = fit_offsets(fits, weights, settings.cluster.tolerance)
    placed = nearest(vectors, centroids, settings.cluster.spherical, offsets)
    # Largest first: the order in which k-means found them means nothing.
    rank = np.argsort(-np.bincount(placed, minlength=len(centroids)), kind="stable")
    centroids, offsets = centroids[rank], offsets[rank]
    placed = np.argsort(rank)[placed]
    terms = top_terms(texts[:_TERM_SAMPLE], placed[:_TERM_SAMPLE], settings.domains)
    domains = domain_names(terms)
    with tempfile.TemporaryDirectory() as local:
        Placement(centroids, offsets, settings.cluster.spherical, domains).save(Path(local))
        files = upload(Path(local), places.target)
    plane = vectors[:_PROJECTED] @ projection_plane(vectors, centroids)
    picture = pa.table({"x": plane[:, 0], "y": plane[:, 1], "domain": [domains[k] for k in placed[:_PROJECTED]]})
    return files, ({"names": domains, "terms": terms}, picture)
