"""Fitting one form: starts by variable projection, batched Levenberg-Marquardt from the best of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import qmc

from splitray.law.arrays import Array, Ints
from splitray.law.fitting.marquardt import Problem, minimise, refine
from splitray.law.fitting.objective import Objective
from splitray.law.forms import Form
from splitray.law.runs import Runs

PUBLISHED_DELTA = 1e-3  # Huber threshold of Hoffmann et al. 2022, kept where their form is fitted by name
_HUBER = 1.345  # times the noise: 95 % of the efficiency of least squares under Gaussian noise (Huber 1964)
_GUESS = 256  # quasi-random draws of the nonlinear constants
_STARTS = 24  # of which this many are refined
_JOINT = 4  # starts for domains that share exponents
_START_ROWS = 512  # rows per domain that starts are refined on; the best one is then polished on all
_FIRST_NOISE = 0.01  # noise of log loss assumed until residuals are there
_MIN_NOISE = 1e-7  # of log loss; noise-free tables must not divide by zero
_SHARE_BELOW = 6  # rows per constant and domain below which domains share their exponents


@dataclass(frozen=True)
class Fitted:
    """A form fitted to rows. vector: searched vector [P]; noise: standard deviation of the log residuals."""

    problem: Problem
    vector: Array
    noise: float

    @property
    def form(self) -> Form:
        return self.problem.form

    @property
    def constants(self) -> Array:
        """Uncentred constants [domains, constants]."""
        constants: Array = self.problem.constants(self.vector[None])[0]
        return constants

    @property
    def objective(self) -> float:
        return float(self.problem.objective(self.vector[None])[0])

    def residuals(self) -> Array:
        """log predicted - log observed [rows]."""
        residuals: Array = np.log(predict(self.problem, self.vector[None])[0]) - np.log(self.problem.target)
        return residuals

    def slopes(self) -> Array:
        """Derivatives of log loss [rows, P] by the searched vector."""
        problem, constants = self.problem, self.constants
        result = np.zeros((problem.N.size, self.vector.size))
        for domain, rows in problem.blocks(1):
            loss, slopes = problem.form.jacobian(constants[domain][None], *problem.points(rows))
            place = np.ix_(np.arange(rows.start, rows.stop), problem.index[domain])
            result[place] = (problem.shift.T @ slopes[0] / loss).T
        return result


def predict(problem: Problem, vectors: Array) -> Array:
    """Loss [batch, rows] of searched vectors at the problem's rows."""
    constants = problem.constants(vectors)
    parts = [
        problem.form.value(constants[:, domain], *problem.points(rows)) for domain, rows in problem.blocks(len(vectors))
    ]
    return np.concatenate(parts, axis=1)


def fit_form(form: Form, runs: Runs, objective: Objective, seed: int, share: bool | None = None) -> Fitted:
    """Fit one form to all rows; deterministic for a seed.

    share: whether domains share their exponents; None shares where a domain has few rows per constant.
    """
    if share is None:
        smallest = np.bincount(runs.group).min()
        share = len(runs.domains) > 1 and smallest < _SHARE_BELOW * len(form.constants)
    problem = state_problem(form, runs, objective, share)
    noise = _FIRST_NOISE
    problem = set_noise(problem, objective, noise)
    vector = search(problem, seed)
    for steps in (10, 40):  # the first is to learn the noise
        noise = spread(Fitted(problem, vector, noise).residuals(), runs.weight, vector.size)
        problem = set_noise(problem, objective, noise)
        vector = minimise(problem, vector[None], iterations=steps, tolerance=1e-12)[0][0]
    return Fitted(problem, vector, noise)


def spread(residuals: Array, weight: Array, constants: int) -> float:
    """Robust standard deviation of residuals of a fit with so many constants (median absolute deviation)."""
    used = np.abs(residuals[weight > 0])
    free = max(1, used.size - constants)
    # The scale of the (n - p) free residuals: the median over n of which p are fitted away.
    return max(_MIN_NOISE, float(1.4826 * np.median(used) * np.sqrt(used.size / free)))


def state_problem(form: Form, runs: Runs, objective: Objective, share: bool) -> Problem:
    """The fit as a batched problem in coordinates centred on the data."""
    shift, offset = centre(form, runs)
    index = _index(form, len(runs.domains), share)
    low, high = (
        np.array([getattr(c, side) if c.exponent else np.log(getattr(c, side)) for c in form.constants])
        for side in ("low", "high")
    )
    return Problem(
        form=form,
        N=runs.params,
        D=runs.pretrain_tokens,
        S=runs.specialize_tokens,
        schedule=runs.schedule,
        group=runs.group,
        target=runs.loss,
        weight=runs.weight,
        delta=None if objective.squared else objective.delta,
        index=index,
        shift=shift,
        offset=offset,
        low=_spread_over(index, low),
        high=_spread_over(index, high),
        mean=np.zeros(int(index.max()) + 1),
        precision=np.zeros(int(index.max()) + 1),
    )


def set_noise(problem: Problem, objective: Objective, noise: float) -> Problem:
    """Huber threshold and prior strength for a noise level of log loss."""
    form = problem.form
    priors = [c.prior for c in form.constants]
    mean = _spread_over(problem.index, np.array([p[0] if p else 0.0 for p in priors]))
    # One row at a distance of one noise weighs as much as a constant at one spread from its prior.
    unit = noise * float(np.mean(problem.target)) if objective.squared else noise
    precision = _spread_over(problem.index, np.array([unit**2 / p[1] ** 2 if p else 0.0 for p in priors]))
    if objective.squared:
        return replace(problem, mean=mean, precision=precision)
    return replace(problem, mean=mean, precision=precision, delta=objective.delta or _HUBER * noise)


def centre(form: Form, runs: Runs) -> tuple[Array, Array]:
    """(shift, offset): uncentred constants are shift @ centred + offset, with coefficients taken at mean log N, D."""
    tokens = np.where(runs.pretrain_tokens > 0, runs.pretrain_tokens, runs.specialize_tokens)
    middle = {"params": np.log(runs.params).mean(), "tokens": np.log(tokens).mean()}
    shift, offset = np.eye(len(form.constants)), np.zeros(len(form.constants))
    for row, constant in enumerate(form.constants):
        for axis, power, sign in constant.powers():
            if isinstance(power, str):
                shift[row, form.names.index(power)] += sign * middle[axis]
            else:
                offset[row] += sign * power * middle[axis]
    return shift, offset


def search(problem: Problem, seed: int) -> Array:
    """The best local optimum [P] from many starts."""
    rows = problem.group.size
    few = problem
    if rows > _START_ROWS * len(problem.index):
        kept = np.random.default_rng(seed).choice(rows, _START_ROWS * len(problem.index), replace=False)
        few = thin(problem, np.sort(kept))
    best = refine(few, candidates(few, seed, _STARTS))
    vector: Array = (best if few is problem else minimise(problem, best, iterations=20, tolerance=1e-7)[0])[0]
    return vector


def candidates(problem: Problem, seed: int, count: int) -> Array:
    """Up to `count` starts [starts, P]: the best of many quasi-random ones.

    Domains that share exponents start from optima of the largest domain alone: searching all at once costs the number
    of domains times as much, and found nothing better.
    """
    if len(problem.index) == 1:
        starts = project(problem, guesses(problem.form, seed))
        return starts[_order(problem.objective(starts, prior=True))[:count]]
    if problem.separable:
        starts = np.empty((count, problem.low.size))
        for domain, index in enumerate(problem.index):
            starts[:, index] = candidates(problem.domain(domain), seed, count)
        return starts
    lead = problem.domain(int(np.bincount(problem.group).argmax()))
    vectors, worth = minimise(lead, candidates(lead, seed, count), iterations=30, tolerance=1e-6)
    return project(problem, vectors[_order(worth)[:_JOINT]])


def _order(worth: Array) -> Ints:
    return np.argsort(np.where(np.isfinite(worth), worth, np.inf), kind="stable")


def guesses(form: Form, seed: int) -> Array:
    """Centred constants [guesses, constants] spread evenly over what is typical; linear coefficients at 1."""
    low, high = np.array([c.typical if c.exponent else np.log(c.typical) for c in form.constants]).T
    guess = low + qmc.Sobol(len(form.constants), seed=seed).random(_GUESS) * (high - low)
    guess[:, [form.names.index(name) for name in form.linear]] = 0.0
    return np.asarray(guess)


def thin(problem: Problem, rows: Array) -> Problem:
    """The problem on some of its rows."""
    names = ("N", "D", "S", "group")
    kept = {name: getattr(problem, name)[rows] for name in names}
    target, weight = problem.target[..., rows], problem.weight[..., rows]
    return replace(problem, **kept, schedule=problem.schedule.take(rows), target=target, weight=weight)


def project(problem: Problem, guess: Array) -> Array:
    """Searched vectors [batch, P] from centred constants [batch, constants]: linear coefficients solved by domain.

    Variable projection (Golub & Pereyra 1973): given the nonlinear constants, the loss is linear in the rest, and
    relative residuals are minimised exactly over every set of positive ones.
    """
    form = problem.form
    linear = [form.names.index(name) for name in form.linear]
    unit = guess.copy()
    unit[:, linear] = 0.0
    constants = unit @ problem.shift.T + problem.offset
    result = np.empty((len(guess), problem.low.size))
    floor = 1e-4 * float(np.mean(problem.target))
    edges = np.searchsorted(problem.group, np.arange(len(problem.index) + 1))
    with np.errstate(all="ignore"):
        for index, (start, stop) in zip(problem.index, itertools.pairwise(edges)):
            rows = slice(start, stop)
            _, slopes = form.jacobian(constants, *problem.points(rows))
            unit[:, linear] = np.log(
                _nonnegative(slopes[:, linear] / problem.target[rows], problem.weight[rows], floor)
            )
            result[:, index] = unit
    return result


def _nonnegative(design: Array, weight: Array, floor: float) -> Array:
    """Coefficients [batch, k] at least `floor` with design^T coefficients near 1, by trying every active set."""
    batch, size, _ = design.shape
    gram = (design * weight) @ np.swapaxes(design, 1, 2)
    goal = (design * weight).sum(axis=-1)
    best, worth = np.full((batch, size), floor), np.full(batch, np.inf)
    for count in range(1, size + 1):
        for chosen in itertools.combinations(range(size), count):
            pick = np.ix_(range(batch), chosen, chosen)
            part = gram[pick] + 1e-12 * np.eye(count) * np.trace(gram, axis1=1, axis2=2)[:, None, None]
            part = np.where(np.isfinite(part), part, 0.0) + 1e-300 * np.eye(count)
            solved = np.zeros((batch, size))
            solved[:, chosen] = np.linalg.solve(part, np.nan_to_num(goal[:, chosen])[..., None])[..., 0]
            value = np.einsum("bi,bij,bj->b", solved, gram, solved) - 2 * (goal * solved).sum(axis=1)
            better = (solved >= 0).all(axis=1) & (value < worth)
            best[better], worth[better] = solved[better], value[better]
    solution: Array = np.maximum(best, floor)
    return solution


def _index(form: Form, domains: int, share: bool) -> Ints:
    """[domains, constants]: positions in the searched vector; shared exponents have one position for all."""
    index = np.empty((domains, len(form.constants)), dtype=np.int64)
    position = 0
    for column, constant in enumerate(form.constants):
        width = 1 if share and constant.exponent else domains
        index[:, column] = position + (np.arange(domains) if width > 1 else 0)
        position += width
    return index


def _spread_over(index: Ints, values: Array) -> Array:
    result = np.zeros(int(index.max()) + 1)
    for row in index:
        result[row] = values
    return result
