"""Share a pool of specialisation tokens among domains: a separable convex problem, solved by water-filling.

Minimise sum_k w_k L_k(N, D, x_k) over x_k >= 0 with sum_k x_k = R and x_k <= cap_k. At the optimum every domain
that is neither at 0 nor at its cap has the same gain per token, -w_k dL_k/dD'(x_k) = price (Karush, Kuhn and
Tucker; Boyd and Vandenberghe, Convex Optimization, example 5.2). At a constant rate gains fall in x_k, because every
form is convex in D'. Where the rate decays the first tokens gain little, and the loss is replaced by its convex hull:
up to the tokens where the mean gain from 0 on is largest, every token gains that mean.
"""

from collections.abc import Callable

import numpy as np

from splitray.law.arrays import Array
from splitray.law.solve import bisect

_FIRST = np.concatenate([[0.0], np.logspace(-9, 0, 32)])
# Two zooms with 16 nodes each leave 1e-4 of a share between nodes; the loss is flat to second order there.
_ZOOM = np.linspace(0.0, 1.0, 16)


def allocate(gain: Callable[[Array], Array], total: Array, caps: Array) -> Array:
    """The optimal shares x [..., domains] of `total` [...] tokens, each at most `caps` [domains] (inf: no limit).

    `gain` maps tokens [..., domains, nodes] to the fall of the weighted loss per token there, same shape. The caps
    must leave room for the total.
    """
    upper = np.minimum(caps, total[..., None])
    assert np.all(upper.sum(-1) >= total * (1 - 1e-9)), "the caps must leave room for the total"
    nodes = upper[..., None] * _FIRST
    shares = np.zeros_like(upper)
    tangent, mean = _hull(nodes, gain(nodes))
    for zoom in range(3):
        hull = np.where(nodes <= tangent[..., None], mean[..., None], np.minimum(gain(nodes), mean[..., None]))
        gains = np.log(np.maximum(np.minimum.accumulate(hull, axis=-1), 1e-300))
        price = bisect(
            lambda p, n=nodes, g=gains: _demand(n, g, p)[0].sum(-1) <= total,  # type: ignore[misc]
            gains[..., -1].min(-1) - 1e-9,
            gains[..., 0].max(-1) + 1e-9,
            # log gains span 30 or so: 1e-6 of that tells the node, 1e-10 the shares
            steps=40 if zoom == 2 else 25,
        )
        shares, index = _demand(nodes, gains, price)
        if zoom < 2:
            # One node of slack on either side: the price of a coarse level is a little off.
            low = np.take_along_axis(nodes, np.maximum(index - 2, 0), -1)
            high = np.take_along_axis(nodes, np.minimum(index + 1, nodes.shape[-1] - 1), -1)
            nodes = low + (high - low) * _ZOOM
    # What the last bisection leaves (or a plateau of equal gains, where any sharing is optimal) fills the room left.
    room = upper - shares
    left = total - shares.sum(-1)
    filled: Array = np.clip(shares + room * (left / np.maximum(room.sum(-1), 1e-300))[..., None], 0.0, upper)
    return filled


def _hull(nodes: Array, gains: Array) -> tuple[Array, Array]:
    """Where the mean gain from 0 on is largest, and that mean, each [..., domains]; where gains fall, at 0."""
    gained = np.cumsum(0.5 * (gains[..., 1:] + gains[..., :-1]) * np.diff(nodes, axis=-1), axis=-1)
    means = np.concatenate([gains[..., :1], gained / np.maximum(nodes[..., 1:], 1e-300)], axis=-1)
    best = means.argmax(axis=-1)[..., None]
    return np.take_along_axis(nodes, best, -1)[..., 0], np.take_along_axis(means, best, -1)[..., 0]


def _demand(nodes: Array, gains: Array, price: Array) -> tuple[Array, Array]:
    """Tokens [..., domains] at which each log gain falls to the log `price` [...], and the node after it [..., 1]."""
    index = (gains > price[..., None, None]).sum(-1, keepdims=True)
    after, before = np.minimum(index, nodes.shape[-1] - 1), np.maximum(index - 1, 0)
    at_after, at_before = np.take_along_axis(gains, after, -1), np.take_along_axis(gains, before, -1)
    fall = at_before - at_after
    part = np.where(fall > 0, (at_before - price[..., None, None]) / np.where(fall > 0, fall, 1.0), 0.0)
    x_after, x_before = np.take_along_axis(nodes, after, -1), np.take_along_axis(nodes, before, -1)
    return (x_before + np.clip(part, 0, 1) * (x_after - x_before))[..., 0], index
