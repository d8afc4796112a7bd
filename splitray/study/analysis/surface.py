"""The law's view of a study: one surface over sizes, tokens and arms, with its draws.

Fitted by the law's own machinery (Huber on log loss, weak priors, batched Levenberg-Marquardt from many starts). The
form is chosen by what it says of the largest size when that is hidden, and how far its draws missed that size is how
much they are stretched beyond the table.

Draws are parametric: what all snapshots of a size share and what each has alone are drawn with their deviations from
the residuals, and the form is fitted again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitray.law.arrays import Array, Flags, Ints
from splitray.law.fitting.marquardt import Problem, minimise, refine
from splitray.law.fitting.regression import guesses, project, spread
from splitray.law.forms.schedule import CONSTANT_RATE
from splitray.law.reach import Reach, frontier
from splitray.results.study import GENERAL
from splitray.study.analysis.arm_forms import FORMS, ArmForm, effective
from splitray.study.analysis.resampling import Trajectory

DRAWS = 200
_STARTS, _STEPS = 24, 12
_HUBER = 1.345  # times the noise (Huber 1964)
_FIRST_NOISE, _LEAST_NOISE = 0.01, 1e-5  # of log loss
_SHAPE = 3  # constants that follow sizes: E, A, alpha
_LEAST_SIZES = 2  # E, A and alpha then rest on their priors, and the level on a measured loss to start from
_FURTHEST = 1e4  # times the tokens of an arm: where general training is not there yet, it never is


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows sorted by arm; `arm` and `model` are places in their lists. tokens: effective."""

    arms: tuple[str, ...]
    models: tuple[str, ...]
    arm: Ints
    model: Ints
    params: Array
    tokens: Array
    loss: Array
    seed_noise: float

    def take(self, mask: Flags) -> _Rows:
        parts = {n: getattr(self, n)[mask] for n in ("arm", "model", "params", "tokens", "loss")}
        return replace(self, **parts)

    @property
    def middle(self) -> tuple[float, float]:
        """Geometric means of N and of D' above 0."""
        return (
            float(np.exp(np.log(np.unique(self.params)).mean())),
            float(np.exp(np.log(self.tokens[self.tokens > 0]).mean())),
        )


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log loss: what all snapshots of a size share, and a snapshot alone."""

    size: float
    row: float


@dataclass(frozen=True, eq=False)
class Surface:
    """A fitted surface. constants: [1 + draws, arms, constants], the fit first; middle: units of N and D'.

    heldout: by form, the error of log loss at the largest size when that was hidden; empty with few sizes.
    """

    measure: str
    form: ArmForm
    arms: tuple[str, ...]
    middle: tuple[float, float]
    constants: Array
    noise: Noise
    reach: Reach
    rows: int
    sizes: int
    largest: tuple[float, float]
    heldout: dict[str, float]

    def predict(self, params: Array | float, tokens: Array | float, arm: str) -> Array:
        """Loss [1 + draws, points] of finished models; tokens are effective ones (see `effective`)."""
        N, S = (np.atleast_1d(np.asarray(v, float)) for v in np.broadcast_arrays(params, tokens))
        n, s = N / self.middle[0], S / self.middle[1]
        with np.errstate(all="ignore"):
            rows = self.form.value(self.constants[:, self.arms.index(arm)], n, np.zeros_like(n), s)
        if self.reach.idle or len(rows) < 2:
            return rows
        weight = self.reach.weight(N, np.zeros_like(N), S)
        with np.errstate(all="ignore"):
            deviation = np.log(rows[1:] / rows[0]).std(axis=0)
        common = self.reach.common(len(rows) - 1)[:, None]
        return np.concatenate([rows[:1], self.reach.apply(rows[1:], rows[:1], weight, deviation, common)])

    def most(self, params: float) -> float:
        """The most tokens that it says something about: the law has no end."""
        return math.inf

    def beyond(self, params: float, tokens: float) -> bool:
        """Whether a point lies outside the table."""
        return params > 1.001 * self.largest[0] or tokens > 1.001 * self.largest[1]

    def multiplier(self, params: float, tokens: float, arm: str) -> Array:
        """[1 + draws]: general training needs so many times the compute to end at the arm's loss; inf if it never does.

        0 where the arm's loss is above the base's: no general training is needed for that.
        """
        goal = self.predict(params, tokens, arm)[:, 0]
        grid = np.concatenate([[0.0], tokens * np.geomspace(1e-3, _FURTHEST, 300)])
        curves = self.predict(np.full(grid.size, params), grid, GENERAL)
        result = np.empty(goal.size)
        for row, (level, curve) in enumerate(zip(goal, curves)):
            below = np.flatnonzero(curve <= level)
            if not below.size:
                result[row] = math.inf
            elif below[0] == 0:
                result[row] = 0.0
            else:
                place = below[0]
                share = (curve[place - 1] - level) / (curve[place - 1] - curve[place])
                result[row] = (grid[place - 1] + share * (grid[place] - grid[place - 1])) / tokens
        return result


def fit_surface(found: Sequence[Trajectory], draws: int = DRAWS, seed: int = 0) -> Surface | None:
    """The surface of own bases by one measure's trajectories; None with fewer than two sizes or no general arm."""
    rows = _rows(found)
    if rows is None or rows.arms[0] != GENERAL or len(rows.models) < _LEAST_SIZES:
        return None
    top = rows.params == rows.params.max()
    inner = rows.take(~top)
    heldout: dict[str, float] = {}
    factors: dict[str, tuple[float, float]] = {}
    if np.unique(inner.params).size >= _LEAST_SIZES:
        for form in FORMS:
            part = _fit(form, inner, draws, seed, found[0].measure)
            heldout[form.name], factors[form.name] = _missed(part, rows.take(top))
    best = min(FORMS, key=lambda form: heldout.get(form.name, 0.0))
    surface = _fit(best, rows, draws, seed, found[0].measure)
    shape, level = factors.get(best.name, (1.0, 1.0))
    edge = frontier(rows.params, np.zeros_like(rows.params), rows.tokens)
    return replace(surface, reach=Reach(shape, max(shape, level), edge), heldout=heldout)


def _rows(found: Sequence[Trajectory]) -> _Rows | None:
    own = [t for t in found if t.model.root == "own"]
    arms = tuple(dict.fromkeys(t.arm for t in sorted(own, key=lambda t: t.arm != GENERAL)))
    models = tuple(dict.fromkeys(t.model.name for t in own))
    columns: list[tuple[float, ...]] = []
    seeds = []
    started = set()
    for line in own:
        for place, tokens in enumerate(line.tokens):
            if tokens == 0 and line.model.name in started:
                continue  # the model as it was: one row for all arms
            unique = tokens / max(1.0, line.epochs[place])
            arm = 0 if tokens == 0 else arms.index(line.arm)
            row = (arm, models.index(line.model.name), line.model.params, float(effective(tokens, unique)))
            columns.append((*row, float(line.values[0, place])))
            if tokens == 0:
                started.add(line.model.name)
        if len(line.values) > 1:
            seeds.append(float(np.log(line.values[1:] / line.values[0]).mean(axis=1).std()))
    if not columns:
        return None
    arm, model, params, tokens, loss = np.array(sorted(columns)).T
    noise = float(np.sqrt(np.mean(np.square(seeds)))) if seeds else 0.0
    return _Rows(arms, models, arm.astype(int), model.astype(int), params, tokens, loss, noise)


def _problem(form: ArmForm, rows: _Rows, noise: float) -> Problem:
    """The fit as a batched problem; all arms share the constants that `form.general` does not name."""
    names, index = form.names, np.empty((len(rows.arms), len(form.constants)), dtype=np.int64)
    sides: list[tuple[float, float, float, float]] = []
    for column, constant in enumerate(form.constants):
        low, high = (constant.low, constant.high) if constant.exponent else np.log([constant.low, constant.high])
        mean, deviation = constant.prior or (0.0, math.inf)
        free = (float(low), float(high), mean, noise**2 / deviation**2)
        pinned = form.general.get(names[column])
        if pinned is None:
            index[:, column] = len(sides)
            sides.append(free)
            continue
        for arm in range(len(rows.arms)):
            index[arm, column] = len(sides)
            sides.append((pinned, pinned, pinned, 0.0) if arm == 0 else free)
    low_, high_, mean_, precision = np.array(sides).T
    middle = rows.middle
    return Problem(
        form=form,
        N=rows.params / middle[0],
        D=np.zeros_like(rows.params),
        S=rows.tokens / middle[1],
        schedule=CONSTANT_RATE,
        group=rows.arm,
        target=rows.loss,
        weight=np.ones_like(rows.loss),
        delta=_HUBER * noise,
        index=index,
        shift=np.eye(len(names)),
        offset=np.zeros(len(names)),
        low=low_,
        high=high_,
        mean=mean_,
        precision=precision,
    )


def _residuals(problem: Problem, vector: Array) -> Array:
    constants = problem.constants(vector[None])[0]
    parts = [problem.form.value(constants[arm][None], *problem.points(rows))[0] for arm, rows in problem.blocks(1)]
    return np.asarray(np.log(problem.target) - np.log(np.concatenate(parts)))


def _fit(form: ArmForm, rows: _Rows, draws: int, seed: int, measure: str) -> Surface:
    problem = _problem(form, rows, _FIRST_NOISE)
    starts = np.clip(project(problem, guesses(form, seed)), problem.low, problem.high)
    worth = problem.objective(starts, prior=True)
    order = np.argsort(np.where(np.isfinite(worth), worth, np.inf), kind="stable")[:_STARTS]
    vector = refine(problem, starts[order])[0]
    free = int((problem.low < problem.high).sum())
    noise = _FIRST_NOISE
    for _ in range(2):
        noise = max(_LEAST_NOISE, spread(_residuals(problem, vector), problem.weight, min(free, rows.loss.size - 1)))
        problem = _problem(form, rows, noise)
        vector = minimise(problem, vector[None], iterations=40, tolerance=1e-10)[0][0]
    residual = _residuals(problem, vector)
    parts = _noise(residual, rows, free)
    vectors = vector[None]
    if draws:
        random = np.random.default_rng([seed, 3])
        shared = parts.size * _student(len(rows.models), len(rows.models) - 1, draws, random)[:, rows.model]
        alone = parts.row * _student(rows.loss.size, rows.loss.size - free, draws, random)
        fitted = np.exp(np.log(problem.target) - residual)
        again = replace(problem, target=fitted * np.exp(shared + alone))
        drawn, _ = minimise(again, np.tile(vector, (draws, 1)), _STEPS, tolerance=1e-4, damping=1e-4)
        vectors = np.concatenate([vectors, drawn])
    return Surface(
        measure=measure,
        form=form,
        arms=rows.arms,
        middle=rows.middle,
        constants=problem.constants(vectors),
        noise=parts,
        reach=Reach(),
        rows=rows.loss.size,
        sizes=int(np.unique(rows.params).size),
        largest=(float(rows.params.max()), float(rows.tokens.max())),
        heldout={},
    )


def _student(columns: int, free: int, draws: int, random: np.random.Generator) -> Array:
    """[draws, columns] of unit noise whose deviation is as uncertain as so many degrees of freedom leave it."""
    free = max(free, 3)
    scale = np.sqrt(free / random.chisquare(free, size=(draws, 1)))
    return np.asarray(scale * random.standard_normal((draws, columns)))


def _noise(residual: Array, rows: _Rows, free: int) -> Noise:
    """Components from residuals. What sizes share is partly fitted away by the constants of size: made up for.

    What seeds show of it is the least that it can be.
    """
    names, code = np.unique(rows.model, return_inverse=True)
    means = np.bincount(code, residual) / np.bincount(code)
    left = max(1, names.size - min(_SHAPE, names.size - 1))
    row = float(np.sqrt(((residual - means[code]) ** 2).sum() / max(1, residual.size - names.size - free + _SHAPE)))
    size = float(np.sqrt(max(0.0, (means**2).sum() / left - row**2 / (residual.size / names.size))))
    return Noise(max(size, rows.seed_noise), max(row, _LEAST_NOISE))


def _missed(part: Surface, top: _Rows) -> tuple[float, tuple[float, float]]:
    """(error of log loss at a size hidden from `part`, (factor on differences, factor on losses) of its draws)."""
    errors, deviations = [], []
    for arm in range(len(top.arms)):
        mine = top.arm == arm
        if mine.any():
            rows = np.log(part.predict(top.params[mine], top.tokens[mine], top.arms[arm]))
            errors.append(np.log(top.loss[mine]) - rows[0])
            deviations.append(rows[1:] - rows[0])
    error, deviation = np.concatenate(errors), np.concatenate(deviations, axis=1)
    level = _factor(np.array([error.mean()]), deviation.mean(axis=1, keepdims=True), part.noise.size)
    inner, drawn = error - error.mean(), deviation - deviation.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.mean(error**2))), (_factor(inner, drawn, part.noise.row), level)


def _factor(error: Array, drawn: Array, noise: float) -> float:
    """How many times their deviation [points], the noise of a run included, errors [points] are; at least 1."""
    if not drawn.size:
        return 1.0
    expected = np.sqrt(drawn.std(axis=0) ** 2 + noise**2)
    return max(1.0, float(np.sqrt(np.mean((error / expected) ** 2))))
