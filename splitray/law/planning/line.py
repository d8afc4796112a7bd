"""The budget line: every way to divide D_T tokens between one base and its K specialists, searched globally.

The position on the line is x = log(s / (1 - s)), so that D near 0 and D' near 0 are both resolved to 1e-8 of the
budget and the corners are x = -inf (split at once) and x = inf (do not split).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from splitray.law.arrays import Array, Flags, Ints
from splitray.law.planning.allocation import allocate
from splitray.law.planning.surface import Surface
from splitray.law.solve import minimise

# L need not be convex in s: 0.15 in x moves D, or D' near the other end, by 15 %.
FINE = np.concatenate([[-np.inf], np.linspace(-18, 18, 241), [np.inf]])
COARSE = np.concatenate([[-np.inf], np.linspace(-15, 15, 31), [np.inf]])
TWICE = np.concatenate([[-np.inf], np.linspace(-15, 15, 61), [np.inf]])  # as fine as COARSE twice over
# The bottom of the bowl is flat: a split has to gain more than rounding, relative to the loss, to be one.
ROUNDING = 1e-13
_RISE = 1e-10
_FINE_ROWS = 300
_ASKED = 8  # positions of a row that are asked one by one whether the law rises there, before all are


@dataclass(frozen=True)
class Line:
    """Budgets D_T (a number or [rows, 1]) for `params` (likewise), with s between `least` and `most`.

    allocate: divide D' among the domains optimally, each within its `caps` [domains], instead of by their weights.
    exchange: tokens after the split that cost as much as one before it; the budget counts tokens before it. At another
    number than 1 the position on the line is the share of the budget, and not of the tokens.
    """

    surface: Surface
    params: float | Array
    budget: float | Array
    least: float | Array = 0.0
    most: float | Array = 1.0
    allocate: bool = False
    caps: Array | None = None
    exchange: float = 1.0

    def divide(self, x: Array) -> tuple[Array, Array]:
        """(D, sum of D'_k) at positions x, both exact near their own end of the line."""
        span = self.most - self.least
        return (
            self.budget * (self.least + span * expit(x)),
            self.exchange * self.budget * ((1.0 - self.most) + span * expit(-x)),
        )

    def shares(self, x: Array) -> Array:
        """D'_k [rows, points, domains] at positions x [1 or rows, points]."""
        shared, special = self.divide(x)
        if not self.allocate:
            tokens: Array = special[..., None] * self.surface.shares
            return tokens
        rows = self.surface.rows
        shared, special = (np.broadcast_to(a, (rows, x.shape[-1])) for a in (shared, special))
        caps = np.full(self.surface.shares.shape, np.inf) if self.caps is None else self.caps
        result = np.empty((*shared.shape, self.surface.shares.size))
        for point in range(x.shape[-1]):  # one point at a time bounds the memory at rows * domains * 33 numbers
            at = shared[:, point]
            result[:, point] = allocate(
                lambda tokens, at=at: self.surface.gains(self.params, at, tokens),  # type: ignore[misc]
                special[:, point],
                caps,
            )
        return result

    def loss(self, x: Array) -> Array:
        """Weighted mean loss [rows, points] at positions x [1 or rows, points]."""
        return self.surface.loss(self.params, self.divide(x)[0], self.shares(x))

    def scan(self, grid: Array) -> Array:
        """`loss` on an ascending grid [points]; for a fitted law inf where more tokens would raise it.

        A form that fits well inside the data may turn up outside (release with p gamma > beta promises the floor to a
        model that was never pretrained). There a fitted law is no guide: at every position its loss must not rise when
        D grows to that of the next one with D' kept, nor when D' grows to that of the one before with D kept. Every
        optimum inside the line passes; a law from given constants is taken as it is. Both are asked at a constant rate:
        a longer base moves the decay forward over a short D', which is the schedule's doing and no fault of the form.

        Only the lowest position of each row is asked, then the next, until one passes; after some all are.
        """
        loss = self.loss(grid[None, :])
        out = ~np.isfinite(loss)
        out[:, -1] = False  # not splitting is always possible
        loss = np.where(out, np.inf, loss)
        if not self.surface.fitted:
            return loss
        rows = np.arange(len(loss))
        for _ in range(_ASKED):
            lowest = loss.argmin(axis=1)
            rises = self._rises(grid, lowest[:, None])[:, 0] & (lowest < grid.size - 1)
            if not rises.any():
                return loss
            loss[rows[rises], lowest[rises]] = np.inf
        every = self._rises(grid, np.arange(grid.size)[None, :])
        every[:, -1] = False
        return np.where(every, np.inf, loss)

    def from_scratch(self) -> Array:
        """Loss [rows] at s = 0, where there is no base; inf where limits or, as for `scan`, the law forbid it."""
        loss = self.loss(np.array([[-np.inf]]))[:, 0]
        forbidden = ~np.isfinite(loss) | (np.max(self.least) > 0)
        if self.surface.fitted:
            forbidden |= self._rises(COARSE, np.zeros((1, 1), dtype=int))[:, 0]
        return np.where(forbidden, np.inf, loss)

    def _rises(self, grid: Array, place: Ints) -> Flags:
        """Whether more tokens raise the loss at places [1 or rows, points] of the grid, at a constant rate."""
        surface = self.surface.at_constant_rate()
        shared, special = self.divide(grid[place])
        tokens = special[..., None] * surface.shares
        tolerated = surface.loss(self.params, shared, tokens) * (1 + _RISE)
        more = self.divide(grid[np.minimum(place + 1, grid.size - 1)])[0]
        rises: Flags = surface.loss(self.params, more, tokens) > tolerated
        more = self.divide(grid[np.maximum(place - 1, 0)])[1][..., None] * surface.shares
        return rises | (surface.loss(self.params, shared, more) > tolerated)

    def best(self, grid: Array | None = None) -> tuple[Array, Array]:
        """The optimal positions x and losses, each [rows]; inf where no split gains more than rounding."""
        # An allocation costs a hundred times a loss, and smooths the line.
        if grid is None:
            # of 1000 draws the fine grid takes 0.9 s of a plan; both are polished between neighbours
            grid = COARSE if self.allocate else FINE if self.surface.rows <= _FINE_ROWS else TWICE
        x, loss = minimise(self.loss, grid, self.scan(grid), steps=30 if self.allocate else 45)
        last = self.loss(np.array([[np.inf]]))[:, 0]
        stay = last - loss <= ROUNDING * last
        return np.where(stay, np.inf, x), np.where(stay, last, loss)
