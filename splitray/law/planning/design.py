"""The ladder that a target asks for, what it costs, and the interval of the split that it may be expected to reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from splitray.errors import UserError
from splitray.law import forms
from splitray.law.arrays import Array
from splitray.law.fitting.objective import Objective
from splitray.law.fitting.regression import guesses, predict, set_noise, state_problem
from splitray.law.forms import Form
from splitray.law.forms.schedule import CONSTANT_RATE, SCHEDULE, RateSchedule
from splitray.law.law import Component, Law
from splitray.law.planning.line import Line
from splitray.law.planning.question import Limits, Question, positive
from splitray.law.planning.size import FLOPS_PER_TOKEN
from splitray.law.runs import read_runs

NOISE = 0.003  # of a run's log loss; small runs repeat to about that
_STEP = 1.8  # between sizes: five of them span a factor of 10
_TOKENS = np.array([1 / 27, 1 / 9, 1 / 3, 1.0])  # of the largest D; four identify B and beta
_SPECIAL = np.array([1 / 32, 1 / 10, 1 / 3, 1.0])  # of the largest D', and span 30x
_SEEDS = 3  # trunks of the smallest size: it costs least, and noise is much alike at all sizes
_TRUTHS = 2  # of every form that an interval is simulated from
_INNER = (0.1, 0.9)  # split fractions of such a truth
_DRAWS = 200
_OUTSIDE = 1.5  # what errors outside a table are to their draws, in folds of eight tables


@dataclass(frozen=True)
class Expected:
    """What the ladder would make of a world in which a form is true: its best split, and the plan's interval."""

    form: str
    split_fraction: float
    low: float
    high: float


@dataclass(frozen=True)
class Design:
    """A ladder: every size x D x (D' = 0, or D' in each of `domains`), further trunk seeds at the smallest size.

    params, pretrain_tokens, specialize_tokens: ascending, in units of 1. flops: 6 N a token, shared trunks once.
    share: of the target's own FLOPs. expected: by form, each for some constants under which a split pays.
    """

    params: tuple[float, ...]
    pretrain_tokens: tuple[float, ...]
    specialize_tokens: tuple[float, ...]
    domains: int
    seeds: int
    flops: float
    share: float
    leaves: int
    expected: tuple[Expected, ...]

    @property
    def width(self) -> float:
        """The median width of the expected intervals, as a part of the budget; nan where no form splits inside."""
        return float(np.median([e.high - e.low for e in self.expected])) if self.expected else float("nan")


def design(
    question: Question, share: float = 0.1, sizes: int = 5, domains: int = 3, level: float = 0.8, noise: float = NOISE
) -> Design:
    """The ladder whose largest size has the target's tokens per parameter, as large as its compute allows.

    Args:
        question: the target. Its schedule is the ladder's; None for a constant rate.
        share: FLOPs of the ladder over those of the target's budget.
        sizes: how many; five identify E, A and alpha.
        domains: that have D' leaves.
        noise: standard deviation of a run's log loss.

    Raises:
        UserError: a number is out of range.
    """
    if not 0 < positive("share", share) <= 10:
        raise UserError(f"share={share:g}: the ladder's compute over the target's, above 0 and at most 10")
    if sizes < 3 or domains < 1:
        raise UserError(f"sizes={sizes}, domains={domains}: at least 3 sizes and 1 domain")
    schedule = question.schedule or CONSTANT_RATE
    whole = FLOPS_PER_TOKEN * question.params * question.budget
    # D' of the target at one half, and at most a third of D: a longer one tells of training from scratch
    special = min(1 / 3, 0.5 / _count(question))

    def ladder(scale: float) -> tuple[Array, Array, Array]:
        params: Array = question.params * scale * _STEP ** -np.arange(sizes, dtype=np.float64)[::-1]
        return params, question.budget * scale * _TOKENS, question.budget * scale * special * _SPECIAL

    unit = _cost(*ladder(1.0), domains, schedule)
    params, tokens, after = ladder(float(np.sqrt(share * whole / unit)))  # the cost is quadratic in the scale
    rows = list(_rows(params, tokens, after, schedule))
    flops = _cost(params, tokens, after, domains, schedule)
    leaves = (sizes + _SEEDS - 1) * len(tokens) * (1 + domains * len(after))
    expected = tuple(_expect(question, pa.Table.from_pylist(rows), level, noise / np.sqrt(domains)))
    sizes_, bases, specials = (tuple(map(float, values)) for values in (params, tokens, after))
    return Design(sizes_, bases, specials, domains, _SEEDS, flops, flops / whole, leaves, expected)


def _count(question: Question) -> int:
    return question.domains if isinstance(question.domains, int) else len(question.domains)


def _rows(params: Array, tokens: Array, after: Array, schedule: RateSchedule) -> Iterator[dict[str, float | str]]:
    under = dict(zip(SCHEDULE, schedule.plain()))
    for size in params:
        for seed in range(_SEEDS if size == params[0] else 1):
            for base in tokens:
                for special in (0.0, *after):
                    row: dict[str, float | str] = {"trunk": f"{size}/{seed}", "domain": "domain", "loss": 1.0}
                    yield row | {"params": size, "pretrain_tokens": base, "specialize_tokens": special} | under


def _cost(params: Array, tokens: Array, after: Array, domains: int, schedule: RateSchedule) -> float:
    """FLOPs of the tree: a trunk to the largest D once, every leaf's own decay, every domain's plateau once."""
    decay = float(schedule.decay_fraction)
    own = tokens.max() + decay * tokens.sum()
    for base in tokens:
        ends = decay * (base + after)
        own += domains * (max(0.0, float((after - ends).max())) + np.minimum(after, ends).sum())
        own += np.maximum(ends - after, 0.0).sum()  # the mixture's part of a decay is shared by the domains
    trunks = np.ones(len(params))
    trunks[0] = _SEEDS
    return float(FLOPS_PER_TOKEN * own * (params * trunks).sum())


def _expect(question: Question, table: pa.Table, level: float, noise: float) -> Iterator[Expected]:
    for form in forms.REGISTRY.values():
        if form.splits:
            yield from _of_form(form, question, table, level, noise)


def _of_form(form: Form, question: Question, table: pa.Table, level: float, noise: float) -> Iterator[Expected]:
    """Intervals of a form's plan for truths of its own, by the curvature of the fit there (delta method)."""
    runs = read_runs(table)
    problem = set_noise(state_problem(form, runs, Objective(), False), Objective(), noise)
    truths = guesses(form, 0)
    for name in form.linear:  # guesses leave them at 1: at what is typical the terms are not all alike
        typical = next(constant.typical for constant in form.constants if constant.name == name)
        truths[:, form.names.index(name)] = np.log(typical).mean()
    line = _line(question, _law(form, problem.constants(truths)[:, 0], problem.constants(truths[:1])[0]))
    best = (line.divide(line.best()[0][:, None])[0][:, 0] / question.budget)[1:]
    random = np.random.default_rng(0)
    for place in np.flatnonzero((best > _INNER[0]) & (best < _INNER[1]))[:_TRUTHS]:
        vector = truths[place]
        known = replace(problem, target=predict(problem, vector[None])[0])
        curvature = known.normal(vector[None])[2][0]
        scale = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
        values, axes = np.linalg.eigh(np.linalg.pinv(curvature / np.outer(scale, scale), hermitian=True))
        root = noise * _OUTSIDE * (axes * np.sqrt(np.maximum(values, 0.0))) / scale[:, None]
        drawn = np.clip(vector + random.standard_normal((_DRAWS, vector.size)) @ root.T, problem.low, problem.high)
        line = _line(question, _law(form, problem.constants(drawn)[:, 0], problem.constants(vector[None])[0]))
        splits = line.divide(line.best()[0][:, None])[0][:, 0] / question.budget
        low, high = np.quantile(splits[1:], [(1 - level) / 2, (1 + level) / 2])
        yield Expected(form.name, float(splits[0]), float(low), float(high))


def _line(question: Question, law: Law) -> Line:
    """The target's budget line under a law of one domain, which stands for each of the K."""
    any_domain = replace(question, domains=_count(question), weights=None, allocation="uniform", limits=Limits())
    return any_domain.line(any_domain.surface(law))


def _law(form: Form, draws: Array, fitted: Array) -> Law:
    """A law of one domain with these constants [draws, constants] as draws and [1, constants] as fit."""
    return Law((Component(form.name, 1.0, fitted, draws[:, None]),), ("domain",))
