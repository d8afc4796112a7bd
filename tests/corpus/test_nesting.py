"""Coarser domains from finer ones."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from splitray.corpus.nesting import group_losses, group_names, nested
from splitray.errors import UserError


def test_equal_weights_are_the_wards_of_scipy() -> None:
    points = np.random.default_rng(1).normal(size=(24, 5))
    tree = linkage(points, "ward")
    for count in (1, 2, 5, 12, 24):
        expected = fcluster(tree, count, "maxclust")
        assert adjusted_rand_score(expected, nested(points, np.ones(24), count)) == 1.0


def test_heavy_domains_are_merged_last_and_their_middle_is_theirs() -> None:
    """Three on a line: 0 and 1 are nearer, but both are heavy; a light one at 2.2 costs less to join."""
    points = np.array([[0.0], [1.0], [2.2]])
    assert nested(points, np.array([100.0, 100.0, 1.0]), 2).tolist() == [0, 1, 1]
    assert nested(points, np.ones(3), 2).tolist() == [0, 0, 1]


def test_every_cut_is_nested_in_the_finer_ones() -> None:
    random = np.random.default_rng(3)
    points, weights = random.normal(size=(16, 8)), random.uniform(0.1, 5, 16)
    finer = np.arange(16)
    for count in range(16, 0, -1):
        cut = nested(points, weights, count)
        assert np.unique(cut).tolist() == list(range(count)) and cut[0] == 0
        for group in np.unique(finer):
            assert len(set(cut[finer == group])) == 1
        finer = cut


def test_the_loss_of_all_text_is_the_same_at_every_cut() -> None:
    random = np.random.default_rng(4)
    names = list("abcdef")
    losses, weights = dict(zip(names, random.uniform(2, 4, 6))), dict(zip(names, random.dirichlet(np.ones(6))))
    whole = sum(weights[d] * losses[d] for d in names)
    for count in (1, 2, 4, 6):
        members = group_names(names, nested(random.normal(size=(6, 3)), np.ones(6), count))
        assert sorted(d for each in members.values() for d in each) == names
        found = group_losses(losses, weights, members)
        mean = sum(sum(weights[d] for d in members[g]) * loss for g, loss in found.items())
        assert mean == pytest.approx(whole)
    assert group_names(["a", "b", "c"], np.array([0, 1, 0])) == {"a+c": ["a", "c"], "b": ["b"]}


def test_a_cut_into_more_than_there_are_is_refused() -> None:
    for count in (0, 5):
        with pytest.raises(UserError, match="give 1 to 4"):
            nested(np.eye(4), np.ones(4), count)
