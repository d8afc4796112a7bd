"""The table of runs that a law is fitted on: read, checked row by row, never silently thinned."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from splitray.errors import UserError
from splitray.law.arrays import Array, Ints

REQUIRED = ("params", "pretrain_tokens", "specialize_tokens", "domain", "loss")
OPTIONAL = ("weight", "seed", "run", "trunk", "branch", "flops")
_SHOWN = 10  # bad rows listed in one message


@dataclass(frozen=True)
class Runs:
    """Rows sorted by domain; every array is [rows].

    params, pretrain_tokens, specialize_tokens: N, D, D' in units of 1. loss: nats per token.
    group: index into `domains`. weight: relative weight in the objective, 1 where not given.
    trunk, branch: integer names of what rows share; `clustered` says whether any column gave them.
    cell: integer name of (params, pretrain_tokens, specialize_tokens, domain), equal for replicated runs.
    order: the row of the given table that each row came from, counted from 0.
    table: the given table, extra columns included.
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

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: Any) -> Runs:
        """The runs at these row positions (ascending)."""
        arrays = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **arrays)

    @property
    def largest(self) -> dict[str, float]:
        """The largest N, D and D' among the rows, by name."""
        return {name: float(getattr(self, name).max()) for name in REQUIRED[:3]}

    @property
    def replicated(self) -> bool:
        """Whether some point was trained on more than one trunk."""
        pairs = np.unique(np.stack([self.cell, self.trunk]), axis=1)
        return bool(np.bincount(pairs[0]).max(initial=0) > 1)


def read_runs(source: str | Path | pa.Table | Any) -> Runs:
    """Check and order a table of runs: the path of a CSV or Parquet file, a pyarrow Table or a pandas DataFrame.

    Raises UserError that names the missing columns, or the bad rows (counted from 1, without the header) and
    their values: `params` and `loss` must be finite and above 0, tokens finite and at least 0 with one of the two
    above 0, `weight` finite and at least 0, `domain` not empty.
    """
    table, where = load_table(source)
    doubled = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if doubled:
        raise UserError(f"{where}: columns given twice: {', '.join(doubled)}; keep one of each")
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise UserError(
            f"{where}: missing columns: {', '.join(missing)}; a table of runs has {', '.join(REQUIRED)}"
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
    if not numbers["weight"].any():
        raise UserError(f"{where}: weight is 0 in every row; give some rows a weight above 0")
    names = table["domain"].cast(pa.string())
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(names), ""), True).to_numpy(zero_copy_only=False)
    refuse(where, "domain", empty, np.full(len(table), ""), "must not be empty")
    domains, group = _named(names)
    order = np.argsort(group, kind="stable")
    trunk, branch, clustered = _tree(table)
    cell = group
    for name in REQUIRED[:3]:
        cell = _pairs(cell, np.unique(numbers[name], return_inverse=True)[1])
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
    )


def load_table(source: Any) -> tuple[pa.Table, str]:
    """A table from the path of a CSV or Parquet file, a pyarrow Table or a pandas DataFrame, and its name in messages.

    Raises UserError for a file that cannot be read and for anything else.
    """
    if isinstance(source, pa.Table):
        return source, "table of runs"
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            with path.open("rb") as stream:
                parquet = stream.read(4) == b"PAR1"
            if not parquet:
                return pa.csv.read_csv(path), str(path)
            return pa.parquet.read_table(path, page_checksum_verification=True), str(path)
        except OSError as error:  # a Parquet file whose pages do not match their checksums is one, too
            raise UserError(f"{path}: cannot be read ({error}); give a CSV or Parquet file of runs") from error
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: not a CSV or Parquet table ({error}); mend the file") from error
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        try:
            return pa.Table.from_pandas(source, preserve_index=False), "table of runs"
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"table of runs: a column mixes types ({error}); make it one type") from error
    raise UserError(f"runs: a path, a pyarrow Table or a pandas DataFrame is needed, not {type(source).__name__}")


def numbers_of(table: pa.Table, name: str, where: str) -> Array:
    """A column as finite doubles [rows]; raises UserError naming the rows that are not, in the table `where`."""
    column = table[name]
    try:
        values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        given = column.to_pylist()
        values = np.array([_number(value) for value in given])
        refuse(where, name, np.isnan(values), np.array([repr(v) for v in given]), "must be a number")
    refuse(where, name, ~np.isfinite(values), values, "must be a finite number")
    return values


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def refuse(where: str, name: str, bad: Any, values: Any, rule: str) -> None:
    """Raise UserError if any of `bad` [rows]: the first of them and their values, and the rule that they break."""
    rows = np.flatnonzero(bad)
    if rows.size:
        shown = ", ".join(f"row {row + 1} ({values[row]})" for row in rows[:_SHOWN])
        more = f" and {rows.size - _SHOWN} more" if rows.size > _SHOWN else ""
        raise UserError(f"{where}: {name} {rule}: {shown}{more}; mend or remove these rows")


def _tree(table: pa.Table) -> tuple[Any, Any, bool]:
    """Codes of trunk and branch; a missing one falls back on `run`, then on the row itself."""
    own = np.arange(len(table))
    run = _codes(table, "run", own)
    trunk = _codes(table, "trunk", run)
    branch = _codes(table, "branch", run if "run" in table.column_names else own)
    # A branch lies on one trunk: equal branch names on two trunks are two branches.
    return trunk, _pairs(trunk, branch), bool({"run", "trunk", "branch"} & set(table.column_names))


def _codes(table: pa.Table, name: str, default: Any) -> Any:
    if name not in table.column_names:
        return default
    return _named(pc.fill_null(table[name].cast(pa.string()), ""))[1]


def _named(names: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    """Distinct names in order, and the place of each row's name among them."""
    coded = names.combine_chunks().dictionary_encode()
    given = np.asarray(coded.dictionary.to_pylist(), dtype=str)
    order = np.argsort(given)
    return tuple(map(str, given[order])), np.argsort(order)[coded.indices.to_numpy(zero_copy_only=False)]


def _pairs(left: Ints, right: Ints) -> Ints:
    """Codes of pairs of codes."""
    return np.unique(left * (right.max() + 1) + right, return_inverse=True)[1]
