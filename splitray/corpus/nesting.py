"""Coarser domains from finer ones: a tree over the domains, so that K and fewer of them are nested.

Nested domains can be compared. A group's text is the text of its members, so its loss is the weighted mean of theirs.
A mean over all of the text is the same number whatever the cut.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from splitray.errors import UserError


def nested(centroids: np.ndarray, weights: np.ndarray, groups: int) -> np.ndarray:
    """The group of each domain, int64 of shape (domains,), when the nearest are merged until `groups` are left.

    Ward's criterion (1963): the two are merged whose merger adds least to the sum of squared distances, w_a w_b /
    (w_a + w_b) |c_a - c_b|^2. So a cut into fewer groups never parts what a finer one has joined. Groups are numbered
    in the order of their first members; of equal mergers the first is made.

    Args:
        centroids: (domains, dimensions).
        weights: (domains,), how much text each has.

    Raises:
        UserError: there are not so many domains.
    """
    count = len(centroids)
    if not 1 <= groups <= count:
        raise UserError(f"{groups} groups of {count} domains: give 1 to {count}")
    places, mass = centroids.astype(np.float64).copy(), np.asarray(weights, dtype=np.float64).copy()
    member = np.arange(count)
    for _ in range(count - groups):
        alive = np.unique(member)
        squares = ((places[alive, None] - places[None, alive]) ** 2).sum(axis=2)
        shared = mass[alive, None] * mass[None, alive] / (mass[alive, None] + mass[None, alive])
        cost = np.where(np.tri(len(alive), dtype=bool), np.inf, squares * shared)
        first, second = (alive[i] for i in np.unravel_index(int(cost.argmin()), cost.shape))
        places[first] = np.average(places[[first, second]], axis=0, weights=mass[[first, second]])
        mass[first] += mass[second]
        member[member == second] = first
    return np.unique(member, return_inverse=True)[1].astype(np.int64)


def group_names(domains: Sequence[str], groups: np.ndarray) -> dict[str, list[str]]:
    """The members of every group by its name, which joins theirs: a+b."""
    found: dict[int, list[str]] = {}
    for name, group in zip(domains, groups.tolist(), strict=True):
        found.setdefault(group, []).append(name)
    return {"+".join(names): names for _, names in sorted(found.items())}


def group_losses(
    losses: Mapping[str, float], weights: Mapping[str, float], members: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """The loss of one model on each group, from its losses by domain and their shares of the text."""
    return {
        group: sum(weights[d] * losses[d] for d in names) / sum(weights[d] for d in names)
        for group, names in members.items()
    }
