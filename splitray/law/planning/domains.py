"""How many domains to plan for: a law and a plan for every number of them that a table has runs of.

Domains of one number cover other text than those of another where a ladder trains some of them only. So numbers are
compared by what their splits gain over the unsplit model on the same domains, not by their losses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.law import Law
from splitray.law.planning.plan import SMALL_LOSS, Plan
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Question
from splitray.law.runs import load_table
from splitray.law.tables.names import normalised

CLUSTERING = "clustering"  # column: of how many domains a row's domain is one


@dataclass(frozen=True)
class Candidate:
    """One number of domains: its law, its question and plan, and the part of draws in which its split gains most."""

    domains: int
    law: Law
    question: Question
    plan: Plan
    best_in: float | None


@dataclass(frozen=True)
class DomainsChoice:
    """The candidates by ascending number of domains."""

    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        """The fewest domains whose gain is within 0.003 nats of the largest: fewer models to serve, more text each."""
        most = max(candidate.plan.gain.value for candidate in self.candidates)
        return next(c for c in self.candidates if c.plan.gain.value >= most - SMALL_LOSS)


def choose_domains(
    runs: str | Path | Any,
    counts: Sequence[int],
    question: Question,
    fitted: Callable[[pa.Table], Law],
    text: float | None = None,
    level: float = 0.8,
) -> DomainsChoice:
    """Plans for each of several numbers of domains.

    Args:
        runs: a table with a column `clustering` beside the usual ones; see `rows_of`.
        counts: the numbers of domains to compare.
        question: what is asked; its number of domains is replaced.
        fitted: gives the law of a table.
        text: tokens of all training text, of which K domains have a Kth each; None for enough of it.
        level: mass of the intervals.

    Raises:
        UserError: the table has no such column, or no rows of a number; or the question names its domains.
    """
    if not isinstance(question.domains, int):
        raise UserError("several numbers of domains are compared as numbers: name no domains")
    table, _ = load_table(runs)
    made, gains = list[tuple[int, Law, Question, Plan]](), list[Array]()
    for count in sorted(set(counts)):
        limits = question.limits if text is None else replace(question.limits, available=text / count)
        mine = replace(question, domains=count, limits=limits)
        law = fitted(rows_of(table, count))
        made.append((count, law, mine, answer(law, mine, level)))
        gains.append(_gain(law, mine))
    return DomainsChoice(tuple(Candidate(*each, share) for each, share in zip(made, _shares(gains), strict=True)))


def rows_of(table: pa.Table, count: int) -> pa.Table:
    """The rows whose column `clustering` has this number of domains.

    Raises:
        UserError: there are none, or no such column.
    """
    column = next((name for name in table.column_names if normalised(name) == CLUSTERING), None)
    if column is None:
        raise UserError(
            f"the table has no column {CLUSTERING}, the number of domains that each row's domain is one of: add it to "
            "compare several, or give --domains one number"
        )
    numbers = pc.cast(table[column], pa.float64())
    mine = table.filter(pc.equal(numbers, float(count)))
    if not mine.num_rows:
        known = ", ".join(f"{n:g}" for n in sorted(set(numbers.to_pylist()) - {None}))
        raise UserError(f"no row has {CLUSTERING} = {count}; the table has {known or 'none'}")
    return mine


def _gain(law: Law, question: Question) -> Array:
    """What the best split gains [1 + draws], in nats per token."""
    surface = question.surface(law)
    _, loss = question.line(surface).best()
    gain: Array = surface.unsplit(question.params, np.array([[question.budget]]))[:, 0] - loss
    return gain


def _shares(gains: Sequence[Array]) -> list[float | None]:
    """The part of draws in which each gains most: draws of one law say nothing of another's, so all pairs count."""
    drawn = [np.sort(gain[1:][np.isfinite(gain[1:])]) for gain in gains]
    if not all(draws.size for draws in drawn):
        return [None] * len(gains)
    # the probability that all others lie below, averaged over the own draws
    shares = [
        float(np.mean(np.prod([np.searchsorted(o, mine) / o.size for j, o in enumerate(drawn) if j != i], axis=0)))
        for i, mine in enumerate(drawn)
    ]
    total = sum(shares) or 1.0
    return [share / total for share in shares]
