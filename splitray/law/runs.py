"""The table of runs that a law is fitted on: read, checked row by row, never silently thinned."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from splitray.errors import UserError, did_you_mean
from splitray.law.arrays import Array, Ints
from splitray.law.forms.schedule import CONSTANT_RATE, SCHEDULE, RateSchedule
from splitray.law.law import LawWarning
from splitray.law.repetition import Repetition
from splitray.law.tables.file import read_table
from splitray.law.tables.names import is_no_name, normalised, spelled_alike
from splitray.law.tables.numbers import numbers_of, refuse
from splitray.law.tables.plausible import implausible, repeated
from splitray.law.tables.repeats import EPOCHS, Repeats, read_repeats

REQUIRED = ("params", "pretrain_tokens", "specialize_tokens", "domain", "loss")
NAMES = ("run", "trunk", "branch")  # of what rows share
SHAPE = ("width", "layers")  # of the models, whose ratio a law cannot tell from their size
REPLAY = "replay_share"  # of what is drawn after the split, the mixture's part
OPTIONAL = ("weight", "seed", *NAMES, "flops", *SCHEDULE, REPLAY, *SHAPE, "learning_rate", *EPOCHS)


@dataclass(frozen=True)
class Runs:
    """Rows sorted by domain; every array is [rows].

    params, pretrain_tokens, specialize_tokens: N, D, D' in units of 1; where text repeats, D and D' in the new tokens
        that they are worth. loss: nats per token.
    group: index into `domains`. weight: relative weight in the objective, 1 where not given.
    trunk, branch: integer names of what rows share; `clustered` says whether any column gave them.
    cell: integer name of (params, pretrain_tokens, specialize_tokens, domain, schedule), equal for replicated runs;
        runs that read their text another number of times are none.
    schedule: the learning-rate schedule of each row; a constant rate where no column gives it.
    order: the row of the given table that each row came from, counted from 0.
    table: the given table, extra columns included, with names normalised.
    warnings: what is doubtful in the table: names that differ by little, values of another unit.
    repeats: the tokens as they were drawn, and passes over the text; None where none repeats.
    """

    params: Array
    pretrain_tokens: Array
    specialize_tokens: Array
    loss: Array
    weight: Array
    group: Ints
    trunk: Ints
    branch: Ints
    cell: Ints
    order: Ints
    domains: tuple[str, ...]
    clustered: bool
    table: pa.Table
    warnings: tuple[LawWarning, ...] = ()
    schedule: RateSchedule = CONSTANT_RATE
    repeats: Repeats | None = None

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: Any) -> Runs:
        """The runs at these row positions (ascending)."""
        arrays = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)
        }
        repeats = self.repeats and self.repeats.take(rows)
        return replace(self, **arrays, schedule=self.schedule.take(rows), repeats=repeats)

    def counted(self, how: Repetition) -> Runs:
        """The same runs with repeated text counted another way."""
        if self.repeats is None:
            return self
        D, S = self.repeats.worth(how)
        return replace(self, pretrain_tokens=D, specialize_tokens=S)

    @property
    def largest(self) -> dict[str, float]:
        """The largest N, D and D' among the rows, by name; tokens as they were drawn."""
        drawn = self.repeats and dict(zip(REQUIRED[1:3], (self.repeats.D, self.repeats.S)))
        return {name: float((drawn or {}).get(name, getattr(self, name)).max()) for name in REQUIRED[:3]}

    @property
    def traits(self) -> dict[str, tuple[float, float]]:
        """The least and the largest width over layers, and peak learning rate, of rows whose columns give them."""
        numbers = {name: _optional(self.table, name) for name in (*SHAPE, "learning_rate")}
        found = {"width_to_depth": numbers["width"] / numbers["layers"], "learning_rate": numbers["learning_rate"]}
        return {name: (float(v.min()), float(v.max())) for name, v in found.items() if v.size and (v > 0).all()}

    @property
    def under(self) -> Ints:
        """The place of each row's schedule among the distinct ones [rows]."""
        return np.zeros(len(self), dtype=np.int64) + self.schedule.distinct()[1]

    @property
    def replicated(self) -> bool:
        """Whether some point was trained on more than one trunk."""
        pairs = np.unique(np.stack([self.cell, self.trunk]), axis=1)
        return bool(np.bincount(pairs[0]).max(initial=0) > 1)


def read_runs(source: str | Path | pa.Table | Any) -> Runs:
    """Check and order a table of runs: the path of a CSV or Parquet file, a pyarrow Table or a pandas DataFrame.

    Names (of columns, domains, runs, trunks and branches) are stripped of blanks and brought to one Unicode form
    (NFC). A row whose trunk, branch or run is empty shares it with no other row. Numbers may be written as
    `parse_count` reads them.

    Raises:
        UserError: names the missing columns, or the bad rows (counted from 1, without the header) and their values:
            `params` and `loss` must be finite and above 0, tokens finite and at least 0 with one of the two above 0,
            `weight` finite and at least 0, `domain` not empty, `decay_fraction` from 0 to below 1, `min_lr_ratio` from
            0 to 1, `specialist_lr_multiplier` above 0, `replay_share` the same in all rows with D', `epochs` at least 0
            and not below `pretrain_epochs`.
    """
    table, where = load_table(source)
    table = table.rename_columns([normalised(name) for name in table.column_names])
    doubled = sorted({name for name in table.column_names if name and table.column_names.count(name) > 1})
    if doubled:
        raise UserError(f"{where}: columns given twice: {', '.join(doubled)}; keep one of each")
    table = table.select([at for at, name in enumerate(table.column_names) if name])  # columns of row numbers
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        near = {name: did_you_mean(name, set(table.column_names) - set(REQUIRED)) for name in missing}
        listed = ", ".join(name + (f" ({hint[2:]})" if (hint := near[name]) else "") for name in missing)
        raise UserError(
            f"{where}: missing columns: {listed}; a table of runs has {', '.join(REQUIRED)}"
            f" and may have {', '.join(OPTIONAL)}; it has {', '.join(table.column_names) or 'none'}"
        )
    if not len(table):
        raise UserError(f"{where}: the table has no rows; give at least one run")
    numbers = {name: numbers_of(table, name, where) for name in REQUIRED if name != "domain"}
    numbers["weight"] = numbers_of(table, "weight", where) if "weight" in table.column_names else np.ones(len(table))
    for name in ("params", "loss"):
        refuse(where, name, ~(numbers[name] > 0), numbers[name], "must be above 0")
    for name in ("pretrain_tokens", "specialize_tokens", "weight"):
        refuse(where, name, ~(numbers[name] >= 0), numbers[name], "must be at least 0")
    tokens = numbers["pretrain_tokens"] + numbers["specialize_tokens"]
    refuse(where, "pretrain_tokens + specialize_tokens", ~(tokens > 0), tokens, "must be above 0: no training, no row")
    _one_replay(table, numbers["specialize_tokens"], where)
    if not numbers["weight"].any():
        raise UserError(f"{where}: weight is 0 in every row; give some rows a weight above 0")
    for name in ("domain", *NAMES):
        if name in table.column_names:
            names = _text(table[name], where, name)
            if name in NAMES:
                given = ["" if is_no_name(text) else text for text in names.to_pylist()]
                names = pa.chunked_array([pa.array(given, pa.string())])
            table = table.set_column(table.column_names.index(name), name, names)
    empty = np.asarray(pc.equal(table["domain"], "").to_numpy(zero_copy_only=False), dtype=bool)
    refuse(where, "domain", empty, np.full(len(table), ""), "must not be empty")
    domains, group = _named(table["domain"])
    order = np.argsort(group, kind="stable")
    trunk, branch, clustered = _tree(table)
    cell = group
    repeats = read_repeats(table, numbers["pretrain_tokens"], numbers["specialize_tokens"], group, where)
    if repeats is not None:
        numbers |= dict(zip(REQUIRED[1:3], repeats.worth(Repetition())))
    for name in REQUIRED[:3]:
        cell = _pairs(cell, np.unique(numbers[name], return_inverse=True)[1])
    schedule = _schedule(table, where)
    if schedule is not CONSTANT_RATE:
        cell = _pairs(cell, schedule.distinct()[1])
    return Runs(
        **{name: numbers[name][order] for name in (*REQUIRED[:3], "loss", "weight")},
        group=group[order],
        trunk=trunk[order],
        branch=branch[order],
        cell=cell[order],
        order=order,
        domains=domains,
        clustered=clustered,
        table=table,
        schedule=schedule.take(order),
        repeats=repeats and repeats.take(order),
        warnings=(*spelled_alike(domains), *implausible(numbers), *repeated(cell, numbers["loss"])),
    )


def load_table(source: Any) -> tuple[pa.Table, str]:
    """A table from the path of a CSV or Parquet file, a pyarrow Table or a pandas DataFrame, and its name in messages.

    Raises UserError for a file that cannot be read and for anything else.
    """
    if isinstance(source, pa.Table):
        return source, "table of runs"
    if isinstance(source, str | Path):
        return read_table(Path(source), ("domain", *NAMES)), str(source)
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        try:
            return pa.Table.from_pandas(source, preserve_index=False), "table of runs"
        except pa.ArrowException as error:
            raise UserError(
                f"table of runs: a column mixes types, or holds what no table has ({error}); make it numbers or text"
            ) from error
    raise UserError(f"runs: a path, a pyarrow Table or a pandas DataFrame is needed, not {type(source).__name__}")


def _optional(table: pa.Table, name: str) -> Array:
    """A column of numbers [rows] that says something beside the runs; empty where it is missing or not filled."""
    try:
        values = np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.empty(0)
    return values if np.isfinite(values).all() else np.empty(0)


def _one_replay(table: pa.Table, after: Array, where: str) -> None:
    """Refuse rows of several shares of replay: a token of D' is worth another loss under each, and no form knows it."""
    share = _optional(table, REPLAY)
    found = sorted(set(share[after > 0].tolist())) if share.size else []
    if len(found) > 1:
        raise UserError(
            f"{where}: {REPLAY} is {', '.join(f'{v:g}' for v in found)} in rows with specialize_tokens above 0; "
            "a law holds for one share of replay: fit the rows of each share apart"
        )


def _schedule(table: pa.Table, where: str) -> RateSchedule:
    """The schedule of every row; a constant rate where the table has no column of it."""
    given = {name: numbers_of(table, name, where) for name in SCHEDULE if name in table.column_names}
    if not given:
        return CONSTANT_RATE
    if ("decay_fraction" in given) != ("min_lr_ratio" in given):
        raise UserError(f"{where}: decay_fraction and min_lr_ratio say together how the rate decays; give both or none")
    ones = np.ones(len(table))
    schedule = RateSchedule(*(given.get(name, default * ones) for name, default in zip(SCHEDULE, CONSTANT_RATE.values)))
    for name, rule, bad in schedule.faults():
        refuse(where, name, bad, given[name], rule)
    return schedule


def _tree(table: pa.Table) -> tuple[Any, Any, bool]:
    """Codes of trunk and branch; a missing or empty one falls back on `run`, then on the row itself."""
    own = np.arange(len(table))
    run = _codes(table, "run", own)
    trunk = _codes(table, "trunk", run)
    branch = _codes(table, "branch", run if "run" in table.column_names else own)
    # A branch lies on one trunk: equal branch names on two trunks are two branches.
    return (
        trunk,
        _pairs(trunk, branch),
        any(_named(table[name])[0] != ("",) for name in NAMES if name in table.column_names),
    )


def _codes(table: pa.Table, name: str, default: Any) -> Any:
    if name not in table.column_names:
        return default
    names, codes = _named(table[name])
    if "" not in names:
        return codes
    # rows without a name are apart from those with one
    return np.unique(np.where(codes == names.index(""), len(names) + default, codes), return_inverse=True)[1]


def _text(column: pa.ChunkedArray, where: str, name: str) -> pa.ChunkedArray:
    """A column of names, normalised, an empty text for what is missing."""
    try:
        given = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{where}: {name} holds {column.type}, not names ({error})") from error
    return pa.chunked_array([pa.array([normalised(text or "") for text in given.to_pylist()], pa.string())])


def _named(names: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    """Distinct names in order, and the place of each row's name among them."""
    coded = names.combine_chunks().dictionary_encode()
    given = np.asarray(coded.dictionary.to_pylist(), dtype=str)
    order = np.argsort(given)
    return tuple(map(str, given[order])), np.argsort(order)[coded.indices.to_numpy(zero_copy_only=False)]


def _pairs(left: Ints, right: Ints) -> Ints:
    """Codes of pairs of codes."""
    return np.unique(left * (right.max() + 1) + right, return_inverse=True)[1]
