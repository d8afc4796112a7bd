"""`fit`: from a table of runs to a `Law`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from splitray.errors import UserError
from splitray.law import forms
from splitray.law.fitting import uncertainty
from splitray.law.fitting.choose import Choice, choose
from splitray.law.fitting.fit_warnings import fit_warnings
from splitray.law.fitting.monotone import rising
from splitray.law.fitting.objective import Objective
from splitray.law.fitting.reach import reach
from splitray.law.fitting.regression import PUBLISHED_DELTA, Fitted, fit_form
from splitray.law.fitting.repetition import enough, fit_repetition
from splitray.law.forms import Form
from splitray.law.gravity import ordered
from splitray.law.law import Component, Law
from splitray.law.reach import Reach
from splitray.law.repetition import Repetition
from splitray.law.runs import Runs, read_runs
from splitray.runtime.progress import Task

_log = logging.getLogger(__name__)

_CONTEST_ROWS = 1024  # rows that forms compete on; a larger table is sampled


def fit(
    runs: str | Path | Any,
    form: str = "auto",
    objective: str = "huber_log",
    seed: int = 0,
    bootstrap: int = 0,
    *,
    share: bool | None = None,
    repetition: float | Literal["auto"] = "auto",
) -> Law:
    """Fit a law to a table of runs. Deterministic for a seed.

    Args:
        runs: path of a CSV or Parquet file, a pyarrow Table or a pandas DataFrame; see `read_runs` for its columns.
        form: a registered form, or "auto" to let them compete on held-out rows and average those within noise. "auto"
            refuses forms that would rise with tokens in the planning range; one that is named is kept, with a warning.
        objective: "huber_log", Huber on log loss with a threshold of 1.345 times the noise (1e-3 for the form
            "chinchilla" named outright, as published); "huber_log:DELTA" for a given threshold; "squared", the
            residual sum of squares of the raw loss.
        seed: of starts, of the contest's sample of rows and of the draws.
        bootstrap: number of draws for intervals; 0 for none, 200 or more for a plan.
        share: whether domains share their exponents; None shares where a domain has few rows per constant.
        repetition: R*, what repeated text is worth where the table has a column `epochs`; "auto" fits it where runs
            read their text three times and more, and else takes the published 15.39.

    Returns:
        The law, with `warnings` of what the table cannot support. Its `objective` is the value at the fit, summed over
        rows, without priors.

    Raises:
        UserError: the table cannot be used or has too few rows for the form, or form or objective are not known.
    """
    table = read_runs(runs)
    goal = Objective.parse(objective)
    if bootstrap < 0 or int(bootstrap) != bootstrap:
        raise UserError(f"bootstrap={bootstrap!r}: give a number of draws, 0 or more")
    if form != "auto" and not forms.find(form).splits and not goal.squared and goal.delta is None:
        goal = Objective(delta=PUBLISHED_DELTA)
    counts = _counts(repetition, table)
    table = table.counted(counts)
    choice, fits = _chosen(form, table, goal, seed, share)
    if repetition == "auto" and enough(table):
        counts = fit_repetition(fits[next(iter(choice.shares))], table)
        table = table.counted(counts)
        choice, fits = _chosen(form, table, goal, seed, share)
    best = fits[next(iter(choice.shares))]
    noises = {
        name: uncertainty.tree_noise(fits[name], table, seed) if table.replicated and bootstrap else None
        for name in choice.shares
    }
    return Law(
        components=tuple(_components(fits, choice, table, bootstrap, seed, noises)),
        domains=table.domains,
        objective=best.objective,
        warnings=ordered((*table.warnings, *fit_warnings(best, table))),
        heldout=choice.table,
        noise=best.noise,
        largest=table.largest,
        reach=reach(fits, choice.shares, table, noises[next(iter(choice.shares))]) if bootstrap else Reach(),
        traits=table.traits,
        repetition=counts,
        schedules=table.schedule.distinct()[0],
        runs=table,
    )


def _counts(repetition: float | Literal["auto"], table: Runs) -> Repetition:
    """How repeated text counts, as far as it is not fitted."""
    if isinstance(repetition, str) and repetition != "auto":
        raise UserError(f"repetition={repetition!r}: give a number above 0, or 'auto'")
    most = max(1.0, table.repeats.most) if table.repeats else 1.0
    if repetition == "auto":
        return Repetition(most=most)
    if not 0 < repetition < math.inf:
        raise UserError(f"repetition={repetition!r}: R* must be a finite number above 0")
    return Repetition(float(repetition), most=most)


def _chosen(form: str, table: Runs, goal: Objective, seed: int, share: bool | None) -> tuple[Choice, dict[str, Fitted]]:
    """The forms of the law, and their fits."""
    if form == "auto":
        return _contest(table, goal, seed, share)
    found = forms.find(form)
    _enough(table, [found])
    return Choice({form: 1.0}, None), {form: fit_form(found, table, goal, seed, share)}


def _contest(table: Runs, goal: Objective, seed: int, share: bool | None) -> tuple[Choice, dict[str, Fitted]]:
    split = bool((table.specialize_tokens > 0).any())
    # under a form of one stage no split can pay: with D' the first of them stands for all
    entrants = [form for form in forms.REGISTRY.values() if form.splits == split or form.name == "chinchilla"]
    _enough(table, [forms.find("chinchilla")])  # fewer points than it has constants say nothing of size and tokens
    entrants = _enough(table, entrants)
    small = table
    if len(table) > _CONTEST_ROWS:
        rows = np.random.default_rng([seed, 3]).choice(len(table), _CONTEST_ROWS, replace=False)
        small = table.take(np.sort(rows))
    task, fits = Task(_log, "comparing forms", 2 * len(entrants), "fits"), dict[str, Fitted]()
    for form in entrants:
        fits[form.name] = fit_form(form, small, goal, seed, share)
        task.update(len(fits))
    choice = choose(fits, small, seed, lambda compared: task.update(len(entrants) + compared))
    if choice is None:
        reasons = "; ".join(f"{name}: {rising(fit, small)}" for name, fit in fits.items())
        raise UserError(f"no form can plan on these runs ({reasons}); check the losses, or add runs")
    if small is not table:
        fits = {name: fit_form(forms.find(name), table, goal, seed, share) for name in choice.shares}
    return choice, fits


def _enough(table: Runs, entrants: Iterable[Form]) -> list[Form]:
    """Those entrants whose constants do not outnumber the distinct points of the poorest domain."""
    points = np.bincount(np.unique(np.stack([table.cell, table.group]), axis=1)[1]).min()
    able = [form for form in entrants if len(form.constants) <= points]
    if not able:
        least = min(entrants, key=lambda form: len(form.constants))
        poor = (
            f"domain {table.domains[int(np.bincount(table.group).argmin())]!r} has"
            if table.domains[1:]
            else "the table has"
        )
        raise UserError(
            f"{poor} {points} distinct (params, pretrain_tokens, specialize_tokens) points;"
            f" form {least.name!r} has {len(least.constants)} constants ({', '.join(least.names)}):"
            f" add runs until there are {len(least.constants)} points or more"
        )
    return able


def _components(
    fits: dict[str, Fitted],
    choice: Choice,
    table: Runs,
    draws: int,
    seed: int,
    noises: dict[str, uncertainty.TreeNoise | None],
) -> Iterable[Component]:
    shares = np.array(list(choice.shares.values()))
    edges = np.round(draws * np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])).astype(int)
    for (name, share), count in zip(choice.shares.items(), np.diff(edges)):
        fitted = fits[name]
        sampled = np.empty((0, *fitted.constants.shape))
        if count:
            sampled = uncertainty.bootstrap(fitted, table, int(count), seed, noises[name])
        yield Component(name, share, fitted.constants, sampled)
