"""Which run to train next: how much each candidate would shrink the interval of the planned split, per token."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.law import Law
from splitray.law.planning.question import Question
from splitray.law.runs import load_table
from splitray.law.tables.numbers import numbers_of, refuse

# Seed-to-seed noise of a loss where the law does not know its own: small runs repeat to about 0.3 %.
NOISE = 0.003
# Each draw stands for this many outcomes of a run; their noise is spread evenly over its distribution.
_OUTCOMES = 16
_DEGREE = 3
_PLACE = ("params", "pretrain_tokens", "specialize_tokens")


@dataclass(frozen=True)
class Candidate:
    """A run that could be trained: its place, what it costs, and what it would tell.

    tokens: what the run costs (D + D' unless the table says otherwise: a branch of a trunk that exists costs D').
    shrinkage: the part of the split's interval that is expected to vanish, 0 to 1. per_token: shrinkage / tokens.
    row: the row of the candidates' table, counted from 1.
    """

    row: int
    params: float
    pretrain_tokens: float
    specialize_tokens: float
    domain: str | None
    tokens: float
    shrinkage: float
    per_token: float

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def next_run(law: Law, question: Question, candidates: str | Path | Any, noise: float | None = None) -> list[Candidate]:
    """The candidates, the most informative per token first.

    Args:
        law: fitted with bootstrap draws; they are the belief that a run would sharpen.
        candidates: path of a CSV or Parquet file, pyarrow Table or pandas DataFrame with the columns params,
            pretrain_tokens, specialize_tokens, and optionally domain (else the mean loss of all domains is observed)
            and tokens (the cost). They are trained under the question's schedule.
        noise: standard deviation of a run's log loss; default the law's own, else 0.003.

    A run's value is the expected fall of Var(s*), the variance over draws of each draw's own optimal split: with the
    outcome y = log loss + noise, E Var(s* | y) = Var(s*) - Var(E[s* | y]), and E[s* | y] is a cubic regression over
    draws (regression-based value of sample information: Strong, Oakley, Brennan and Breeze 2015). The interval is
    taken to shrink as the standard deviation does.

    Raises UserError for a table that cannot be used and for a law with fewer than 30 draws.
    """
    if law.draws < 30:
        raise UserError(
            f"ranking runs needs the spread of the law, which has {law.draws} draws: fit it with bootstrap=200"
        )
    columns, domains = _read(candidates, law)
    line = question.line(question.surface(law))
    fractions = (line.divide(line.best()[0][:, None])[0][:, 0] / question.budget)[1:]
    deviation = noise if noise is not None else law.noise or NOISE
    params, shared, special = (columns[name] for name in _PLACE)
    shrinkage = np.empty(len(domains))
    for domain in set(domains):
        mine = np.flatnonzero([name == domain for name in domains])
        losses = law.predict_draws(params[mine], shared[mine], special[mine], domain, question.schedule)
        shrinkage[mine] = [_shrinkage(fractions, np.log(column), deviation) for column in losses.T]
    per_token = shrinkage / columns["tokens"]
    # Ties, such as runs that tell nothing, go to the cheaper one.
    ranked = np.lexsort((columns["tokens"], -per_token))
    return [
        Candidate(
            row=int(i) + 1,
            domain=domains[i],
            shrinkage=float(shrinkage[i]),
            per_token=float(per_token[i]),
            **{name: float(values[i]) for name, values in columns.items()},
        )
        for i in ranked
    ]


def _shrinkage(target: Array, expected: Array, noise: float) -> float:
    """1 - sd(target | outcome) / sd(target), from draws of the target and of the expected outcome, each [draws]."""
    spread = target.std()
    if spread <= 1e-12 or expected.std() + noise <= 0:
        return 0.0
    draws = target.size
    # Every draw gets the same outcomes' noise: quantiles of the normal distribution instead of random numbers.
    quantiles = ndtri((np.arange(_OUTCOMES) + 0.5) / _OUTCOMES)
    outcome = (expected[:, None] + noise * quantiles / quantiles.std()).ravel()
    scaled = (outcome - outcome.mean()) / outcome.std()
    basis = np.polynomial.hermite_e.hermevander(scaled, _DEGREE)
    wanted = np.repeat(target, _OUTCOMES)
    fitted = basis @ np.linalg.lstsq(basis, wanted, rcond=None)[0]
    explained = 1 - np.mean((wanted - fitted) ** 2) / spread**2
    # A cubic through noise explains 3 of every `draws` - 1 parts of it.
    explained = 1 - (1 - explained) * (draws - 1) / (draws - 1 - _DEGREE)
    return float(1 - np.sqrt(1 - np.clip(explained, 0, 1)))


def _read(source: Any, law: Law) -> tuple[dict[str, Array], list[str | None]]:
    table, where = load_table(source)
    missing = [name for name in _PLACE if name not in table.column_names]
    if missing or not len(table):
        raise UserError(
            f"{where}: candidates need rows and the columns {', '.join(_PLACE)}; missing: {missing or 'rows'}"
        )
    columns = {name: numbers_of(table, name, where) for name in (*_PLACE, "tokens") if name in table.column_names}
    columns.setdefault("tokens", columns["pretrain_tokens"] + columns["specialize_tokens"])
    for name, values in columns.items():
        above = name in ("params", "tokens")
        rule = "must be above 0" if above else "must be at least 0"
        refuse(where, name, (values < 0) | (above & (values == 0)), values, rule)
    given = table["domain"].to_pylist() if "domain" in table.column_names else [None] * len(table)
    names = [None if name in (None, "") else str(name) for name in given]
    unknown = np.array([name is not None and name not in law.domains for name in names])
    refuse(where, "domain", unknown, names, f"must be one of the law's, {', '.join(map(repr, law.domains))}")
    return columns, names
