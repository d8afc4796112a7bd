"""Embedding, clustering, balancing and naming on planted domains."""

from typing import Any

import faiss
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from splitray.corpus.embedders import TfidfEmbedder, unit
from splitray.corpus.kmeans import (
    domain_names,
    fit_centroids,
    fit_offsets,
    nearest,
    nearest_by,
    nearest_on_gpu,
    projection_plane,
    scores,
    top_terms,
)
from splitray.corpus.router import Placement, Router
from splitray.corpus.settings import ClusterSettings, TfidfSettings
from splitray.errors import UserError
from tests.support.planted import documents


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], np.ndarray, TfidfEmbedder, np.ndarray]:
    rows = documents(domains=5, each=120)
    texts = [row["text"] for row in rows]
    embedder = TfidfEmbedder.fit(texts, TfidfSettings(dimensions=32), seed=1)
    return texts, np.array([row["domain"] for row in rows]), embedder, embedder.embed(texts)


@pytest.mark.parametrize("spherical", [True, False])
def test_planted_domains_are_found(planted, spherical: bool) -> None:
    _, labels, _, vectors = planted
    config = ClusterSettings(spherical=spherical)
    centroids = fit_centroids(vectors, 5, config, seed=1)
    placed = scores(vectors, centroids, spherical, np.zeros(5)).argmax(axis=1)
    assert adjusted_rand_score(labels, placed) > 0.99
    assert (centroids == fit_centroids(vectors, 5, config, seed=1)).all()


def test_an_embedding_does_not_depend_on_its_batch_or_its_neighbours(planted, tmp_path) -> None:
    texts, _, embedder, vectors = planted
    assert (np.concatenate([embedder.embed([t]) for t in texts[:20]]) == vectors[:20]).all()
    centroids = fit_centroids(vectors, 5, ClusterSettings(), seed=1)
    router = Router(embedder, Placement(centroids, np.zeros(5), True, domain_names([[]] * 5)))
    router.save(tmp_path)
    loaded = Router.load(tmp_path)
    assert (loaded.embedder.embed(texts[::-1])[::-1] == vectors).all()
    assert (loaded.route(texts[::-1])[::-1] == router.placement.place(vectors)).all()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix not in (".npy", ".json")]


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize("offsets", [np.zeros(7), np.linspace(0, 0.3, 7)])
def test_nearest_is_the_highest_score_whatever_the_batch(spherical: bool, offsets: np.ndarray) -> None:
    draw = np.random.default_rng(2)
    centroids, vectors = draw.normal(size=(7, 40)), draw.normal(size=(5000, 40))
    vectors[:50] = (centroids[draw.integers(7, size=50)] + centroids[draw.integers(7, size=50)]) / 2  # near ties
    vectors, centroids = unit(vectors.astype(np.float32)), unit(centroids.astype(np.float32))
    whole = nearest(vectors, centroids, spherical, offsets)
    fits = scores(vectors, centroids, spherical, offsets)
    ranked = np.sort(fits, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-5
    assert clear.mean() > 0.98 and (whole == fits.argmax(axis=1))[clear].all()
    for size in (1, 3, 700):
        parts = [nearest(vectors[i : i + size], centroids, spherical, offsets) for i in range(0, 2100, size)]
        assert (np.concatenate(parts) == whole[:2100]).all()


def test_what_says_nothing_becomes_a_zero_vector(planted) -> None:
    embedder = planted[2]
    assert not embedder.embed(["", "!!! ???", "\n"]).any()
    broken = np.array([[np.nan, 1], [np.inf, 1], [0, 0], [3, 4]], dtype=np.float32)
    assert unit(broken).tolist() == [[0, 0], [0, 0], [0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]


def test_prices_solve_the_assignment_problem() -> None:
    """With unit weights the optimum is known: the assignment problem with each domain repeated."""
    draw = np.random.default_rng(0)
    vectors = unit(
        draw.normal(size=(240, 8)) + 2 * np.eye(8)[draw.choice(8, 240, p=[0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])]
    )
    fits = scores(vectors, unit(np.eye(8)[:6] + 0.1), True, np.zeros(6))
    offsets = fit_offsets(fits, np.ones(240), tolerance=0.01)
    placed = (fits - offsets).argmax(axis=1)
    assert np.bincount(placed).tolist() == [40] * 6
    rows, slots = linear_sum_assignment(-np.repeat(fits, 40, axis=1))
    best = fits[rows, slots // 40].sum()
    assert fits[np.arange(240), placed].sum() == pytest.approx(best, rel=1e-5)


def test_prices_balance_bytes() -> None:
    draw = np.random.default_rng(1)
    fits = draw.normal(size=(5000, 7)).astype(np.float32) + np.linspace(0, 2, 7, dtype=np.float32)
    weights = draw.lognormal(7, 1, 5000)
    before = np.bincount(fits.argmax(axis=1), weights=weights, minlength=7)
    loads = np.bincount((fits - fit_offsets(fits, weights, 0.02)).argmax(axis=1), weights=weights, minlength=7)
    assert before.max() / before.min() > 5
    assert np.abs(loads / loads.mean() - 1).max() <= 0.02


def test_names_are_of_content_words_in_any_language() -> None:
    """Planted: function words in nearly every document, some of them in one domain's language only, or far more often
    in one domain; content words in a third of their domain's documents, and now and then in others."""
    draw, texts, domains = np.random.default_rng(0), [], []
    function = [
        {"the": 0.95, "and": 0.9, "said": 0.85},
        {"the": 0.95, "and": 0.9, "said": 0.3},
        {"que": 0.97, "para": 0.95, "dos": 0.9},
    ]
    content = [["trial", "judge", "plea"], ["protein", "blood", "cells"], ["receita", "farinha", "bolo"]]
    for domain, often in enumerate(function):
        for _ in range(300):
            words = [word for word, share in often.items() if draw.random() < share]
            words += [word for word in content[domain] if draw.random() < 0.35]
            words += [word for other in content for word in other if draw.random() < 0.02]
            texts.append(" ".join(draw.permutation(words)))
            domains.append(domain)
    terms = top_terms(texts, np.array(domains), 3)
    for found, planted in zip(terms, content, strict=True):
        assert set(found[:3]) == set(planted), found


def test_names_are_safe() -> None:
    assert domain_names([["École", "日本", "naïve"], [], ["a/b", "..", "x" * 99]]) == [
        "0_ecole_naive",
        "1_domain",
        "2_ab_" + "x" * 16,
    ]
    assert top_terms(["1 2 3"], np.array([0]), 2) == [[], []]


def test_projection_separates_what_is_separate(planted) -> None:
    _, labels, _, vectors = planted
    for domains in (1, 2, 3, 5):
        centroids = unit(np.stack([vectors[labels == k].mean(axis=0) for k in range(domains)]))
        plane = projection_plane(vectors, centroids)
        assert plane.shape == (32, 2) and np.isfinite(plane).all()
        assert plane.T @ plane == pytest.approx(np.eye(2), abs=1e-4)
    points = vectors @ plane
    means = np.stack([points[labels == k].mean(axis=0) for k in range(5)])
    spread = np.mean([points[labels == k].std() for k in range(5)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=-1)
    assert apart.max() > 4 * spread


def test_faiss_is_left_as_it_was() -> None:
    """Its settings are the whole process's, and somebody's own search may go by them."""
    import faiss

    threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(3)
    try:
        vectors = np.random.default_rng(0).standard_normal((200, 8), dtype=np.float32)
        centroids = fit_centroids(vectors, 2, ClusterSettings(restarts=1), 0)
        nearest(vectors, centroids, True, np.zeros(2))
        assert faiss.omp_get_max_threads() == 3
        assert faiss.cvar.distance_compute_blas_threshold == threshold
    finally:
        faiss.omp_set_num_threads(threads)


@pytest.mark.parametrize("spherical", [True, False])
def test_an_index_that_rounds_otherwise_places_the_same(spherical: bool) -> None:
    """A GPU computes with fewer bits. Here vectors lose all but ten of theirs before an index of faiss sees them."""
    draw = np.random.default_rng(3)
    centroids, vectors = draw.normal(size=(9, 48)), draw.normal(size=(4000, 48))
    vectors[:400] = (centroids[draw.integers(9, size=400)] + centroids[draw.integers(9, size=400)]) / 2  # near ties
    vectors, centroids = unit(vectors.astype(np.float32)), unit(centroids.astype(np.float32))

    class Coarse:
        def __init__(self, index: Any) -> None:
            self.index = index

        def search(self, rows: np.ndarray, count: int) -> Any:
            short = (rows.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
            return self.index.search(short, count)

    offsets = np.linspace(0, 0.01, 9)
    exact = nearest(vectors, centroids, spherical, offsets)
    assert (nearest_by(Coarse, vectors, centroids, spherical, offsets) == exact).all()
    # without the second look some are placed otherwise
    index = faiss.IndexFlatIP(48)
    index.add(centroids)
    plain = nearest(vectors, centroids, True, np.zeros(9))
    assert (Coarse(index).search(vectors, 1)[1][:, 0] != plain).any()


def test_a_gpu_that_faiss_does_not_see_is_an_error_that_says_what_to_install() -> None:
    if faiss.get_num_gpus():
        pytest.skip("faiss sees a GPU here")
    vectors = unit(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    with pytest.raises(UserError, match=r"corpus\.cluster\.gpus .* faiss-gpu-cu12"):
        fit_centroids(vectors, 3, ClusterSettings(), 0, gpu=True)


@pytest.mark.gpu
@pytest.mark.parametrize("spherical", [True, False])
def test_a_gpu_finds_and_places_the_domains_of_the_cpu(planted, spherical: bool) -> None:
    _, _, _, vectors = planted
    settings = ClusterSettings(spherical=spherical)
    on_cpu, on_gpu = (fit_centroids(vectors, 5, settings, 1, gpu) for gpu in (False, True))
    assert on_gpu == pytest.approx(on_cpu, abs=1e-3)
    placed = nearest_on_gpu(vectors, on_cpu, spherical, np.zeros(5))
    assert (placed == nearest(vectors, on_cpu, spherical, np.zeros(5))).all()
