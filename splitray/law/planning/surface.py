"""A law bound to the domains of a plan: its weighted loss and slopes, for the fit and all its draws at once.

Row 0 of every result is the law as fitted, rows 1.. are its bootstrap draws. Every row may stand at a place of its
own, so that each draw can be given its own optimum.
"""

from collections.abc import Sequence
from copy import copy

import numpy as np

from splitray.errors import UserError
from splitray.law import forms
from splitray.law.arrays import Array
from splitray.law.forms.schedule import CONSTANT_RATE, RateSchedule
from splitray.law.law import Law
from splitray.law.repetition import slopes as repeated_slopes
from splitray.law.repetition import worth

_LINE = np.linspace(0.1, 1.0, 10)  # split fractions whose mean says how far a line lies outside the table


class Surface:
    """The loss of K specialists under `law`.

    Args:
        domains: K, and the mean over the law's domains stands for each of the K; or the names of the law's domains.
        weights: one number per named domain, positive, adding up to 1; default 1/K each. They weigh the loss and,
            in a uniform plan, the D'_k.
        draws: use at most this many of the law's draws, evenly spaced.
        schedule: learning-rate schedule of the models; None for that of the law's runs.

    Attributes:
        rows: 1 + the number of draws.
        fitted: whether the law comes from runs, not from given constants.
        terms: names of the law's domains whose losses are averaged.
        weights, shares: of each term [terms] its weight in the loss, and its D'_k as a part of sum D'_k.
        text: tokens of D and of D' in which the text of each term is read once, each [terms]; further passes are worth
            what the law's `repetition` says. None where all text is new.
    """

    text: tuple[Array, Array] | None = None

    def __init__(
        self,
        law: Law,
        domains: int | Sequence[str],
        weights: Sequence[float] | None = None,
        draws: int | None = None,
        schedule: RateSchedule | None = None,
    ) -> None:
        self.schedule = schedule or law.schedule
        self.fitted = law.objective is not None
        self.law, self.names = law, () if isinstance(domains, int) else tuple(domains)
        if isinstance(domains, int):
            if domains < 1:
                raise UserError(f"domains={domains!r}: at least 1 is needed")
            if weights is not None:
                raise UserError("weights need named domains: give domains as a list of the law's domains")
            self.count, self.terms = domains, law.domains
            self.weights = np.full(len(law.domains), 1 / len(law.domains))
            self.shares = np.full(len(law.domains), 1 / domains)
        else:
            self.count, self.terms = len(self.names), self.names
            self.weights = self.shares = _weights(self.names, law, weights)
        index = [law.domains.index(term) for term in self.terms]
        self._groups: list[tuple[forms.Form, Array, Array, slice, float]] = []
        kept = law.draws if draws is None else min(draws, law.draws)
        chosen = np.unique(np.linspace(0, law.draws - 1, kept).round().astype(int))
        first, row = 0, 1
        for part in law.components:
            form = forms.find(part.form)
            fitted = part.vectors[None, index]
            self._groups.append((form, fitted, fitted, slice(0, 1), part.share))
            mine = chosen[(chosen >= first) & (chosen < first + len(part.draws))] - first
            if mine.size:
                self._groups.append((form, part.draws[mine][:, index], fitted, slice(row, row + mine.size), 1.0))
            first, row = first + len(part.draws), row + mine.size
        self.rows = row
        self._weight, self._spread, self._common = 0.0, np.zeros((len(self.terms), 1, 1)), np.zeros((row, 1))

    def stretch(self, params: float, budget: float) -> None:
        """Set how the draws are stretched for a plan of this size and budget: by the mean over its line.

        They are stretched alike along the whole line, so that the stretch itself moves no optimum.
        """
        reach = self.law.reach
        if self.rows == 1 or reach.idle:
            return
        shared, special = _LINE * budget, (1 - _LINE) * budget / self.count
        within = self.loss_by_draw(params, shared, special)
        self._weight = float(reach.weight(np.array(params), shared, special).mean())
        self._spread = np.log(within[:, 1:] / within[:, :1]).std(axis=1).mean(axis=1)[:, None, None]
        self._common[1:, 0] = reach.common(self.rows - 1)

    def loss_by_draw(self, params: float, shared: Array, special: Array) -> Array:
        """Losses [terms, rows, points] with the same D' for every term."""
        tokens = np.repeat(special[None, :, None], len(self.terms), axis=2)
        losses: Array = self._each(False, params, shared[None], tokens)[0]
        return losses

    def loss(self, params: float | Array, pretrain_tokens: Array, specialize_tokens: Array) -> Array:
        """Weighted mean loss [rows, points], nats per token.

        params: a number or [rows, 1]; pretrain_tokens: [1 or rows, points]; specialize_tokens: the D'_k of every
        term [1 or rows, points, terms].
        """
        return self._mean(self._each(False, params, pretrain_tokens, specialize_tokens)[0])

    def of_new_text(self) -> "Surface":
        """The same law where no text repeats."""
        other = copy(self)
        other.text = None
        return other

    def at_constant_rate(self) -> "Surface":
        """The same law for models of a constant learning rate and new text: what its forms say of tokens alone."""
        other = self.of_new_text()
        other.schedule = CONSTANT_RATE
        return other

    def by_term(self, params: float | Array, pretrain_tokens: Array, specialize_tokens: Array) -> Array:
        """Loss of every term [rows, points, terms]; arguments as for `loss`."""
        return np.moveaxis(self._each(False, params, pretrain_tokens, specialize_tokens)[0], 0, 2)

    def gains(self, params: float | Array, pretrain_tokens: Array, specialize_tokens: Array) -> Array:
        """-w_k dL_k/dD' at D [rows] and D'_k [rows, terms, nodes], same shape as the latter."""
        tokens = np.moveaxis(specialize_tokens, 1, 2)
        slope = self._each(True, params, pretrain_tokens[:, None], tokens)[1]
        return np.moveaxis(-slope * self.weights[:, None, None], 0, 1)

    def slopes_unsplit(self, params: float | Array, budget: Array) -> tuple[Array, Array]:
        """w_k dL_k/dD and w_k dL_k/dD' [terms, rows, points] of the unsplit model trained on `budget` tokens."""
        nothing = np.zeros((1, 1, len(self.terms)))
        shared, special = self._each(True, params, budget, nothing)
        return shared * self.weights[:, None, None], special * self.weights[:, None, None]

    def unsplit(self, params: float | Array, budget: Array) -> Array:
        """Loss [rows, points] of one model trained on `budget` [1 or rows, points] tokens of the mixture."""
        return self.loss(params, budget, np.zeros((1, 1, len(self.terms))))

    def _mean(self, losses: Array) -> Array:
        mean: Array = np.einsum("trp,t->rp", losses, self.weights)
        return mean

    def _each(self, slopes: bool, params: float | Array, pretrain_tokens: Array, specialize_tokens: Array) -> Array:
        """Losses [1, terms, rows, points], or with `slopes` their slopes by D and by D' [2, terms, rows, points]."""
        terms = len(self.terms)
        points = np.broadcast_shapes(pretrain_tokens.shape[-1:], specialize_tokens.shape[1:2])[0]
        # what is the same for every row is evaluated once for the fit that draws are stretched about
        common = np.ndim(params) == 0 and pretrain_tokens.shape[0] == specialize_tokens.shape[0] == 1
        sizes = np.broadcast_to(np.asarray(params, dtype=float), (self.rows, 1))
        shared = np.broadcast_to(pretrain_tokens, (self.rows, points))
        special = np.broadcast_to(specialize_tokens, (self.rows, points, terms))
        result = np.zeros((2 if slopes else 1, terms, self.rows, points))
        with np.errstate(all="ignore"):
            for form, vectors, fitted, rows, share in self._groups:
                stretched = rows.start > 0 and self._weight > 0
                once = slice(rows.start, rows.start + 1) if common else rows
                for term in range(terms):
                    D, S = self._worth(term, shared, special[..., term])

                    def place(at: slice, D: Array = D, S: Array = S) -> tuple[Array, Array, Array, RateSchedule]:
                        return sizes[at], D[at], S[at], self.schedule

                    values: tuple[Array, ...]
                    drawn, fit = vectors[:, term], fitted[:, term]
                    if not stretched:
                        values = form.gradient(drawn, *place(rows)) if slopes else (form.value(drawn, *place(rows)),)
                    else:
                        losses = form.value(drawn, *place(rows)), form.value(fit, *place(once))
                        loss = self._stretched(*losses, term, rows)
                        values = (loss,)
                        if slopes:
                            pairs = zip(form.gradient(drawn, *place(rows)), form.gradient(fit, *place(once)))
                            values = tuple(loss * self._relative(*losses, *pair) for pair in pairs)
                    if slopes:
                        values = self._chained(term, shared[rows], special[rows, :, term], *values)
                    for part, value in zip(result, values):
                        part[term, rows] += share * value
        return result

    def _worth(self, term: int, shared: Array, special: Array) -> tuple[Array, Array]:
        """D and D' of a term in new tokens."""
        if self.text is None:
            return shared, special
        return worth(self.law.repetition, shared, special, *(tokens[term] for tokens in self.text))

    def _chained(self, term: int, shared: Array, special: Array, by_D: Array, by_S: Array) -> tuple[Array, Array]:
        """Slopes by the tokens that are drawn, from those by new tokens."""
        if self.text is None:
            return by_D, by_S
        first, across, own = repeated_slopes(self.law.repetition, shared, special, *(n[term] for n in self.text))
        return by_D * first + by_S * across, by_S * own

    def _stretched(self, drawn: Array, fitted: Array, term: int, rows: slice) -> Array:
        """Losses of draws, stretched about those of their fit."""
        return self.law.reach.apply(drawn, fitted, np.array(self._weight), self._spread[term], self._common[rows])

    def _relative(self, drawn: Array, fitted: Array, drawn_slope: Array, fitted_slope: Array) -> Array:
        """The slope of a stretched loss over that loss."""
        power = 1.0 + (self.law.reach.shape - 1.0) * self._weight
        return (1 - power) * fitted_slope / fitted + power * drawn_slope / drawn


def _weights(names: tuple[str, ...], law: Law, weights: Sequence[float] | None) -> Array:
    if not names:
        raise UserError("domains is empty: name at least one, or give their number")
    unknown = [name for name in names if name not in law.domains]
    if unknown:
        known = ", ".join(map(repr, law.domains))
        raise UserError(f"domains {', '.join(map(repr, unknown))} are not in the law; it knows {known}")
    if len(set(names)) < len(names):
        raise UserError(f"domains {', '.join(names)}: a name appears twice")
    if weights is None:
        return np.full(len(names), 1 / len(names))
    given = np.asarray(weights, dtype=float)
    if given.shape != (len(names),):
        raise UserError(f"weights: {given.size} numbers for {len(names)} domains; give one for each")
    bad = ~(np.isfinite(given) & (given > 0))
    if bad.any():
        raise UserError(f"weights: {given[bad][0]!r} of domain {names[int(np.argmax(bad))]!r} must be positive")
    if abs(given.sum() - 1) > 1e-6:
        raise UserError(f"weights add up to {given.sum():.6g}, not 1: divide each by that sum")
    shares: Array = given / given.sum()
    return shares
