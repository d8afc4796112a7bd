"""Columns of numbers in a table, and the rows in them that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.forms.schedule import SCHEDULE
from splitray.units import parse_count, some_of

_FRACTIONS = ("loss", "weight", "epochs", "pretrain_epochs", *SCHEDULE)  # columns of numbers that have no thousands
_SHOWN = 10  # bad rows listed in one message


def numbers_of(table: pa.Table, name: str, where: str) -> Array:
    """A column as finite doubles [rows]; raises UserError naming the rows that are not, in the table `where`."""
    column = table[name]
    try:
        values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        given = column.to_pylist()
        values = np.array([_number(value) for value in given])
        shown = np.array([repr(v) for v in given])
        refuse(where, name, np.isnan(values), shown, "must be a number")
        if name in _FRACTIONS:  # 3,142 is 3.142 to whoever writes a decimal comma, and 3142 by our rule
            commas = np.array(["," in str(value) for value in given])
            refuse(where, name, commas, shown, "must be a number without a comma")
    refuse(where, name, ~np.isfinite(values), values, "must be a finite number")
    return values


def refuse(where: str, name: str, bad: Any, values: Any, rule: str) -> None:
    """Raise UserError if any of `bad` [rows]: the first of them and their values, and the rule that they break."""
    rows = np.flatnonzero(bad)
    if rows.size:
        shown = some_of(rows.tolist(), _SHOWN, lambda row: f"row {row + 1} ({values[row]})")
        raise UserError(f"{where}: {name} {rule}: {shown}; mend or remove these rows")


def _number(value: Any) -> float:
    try:
        return float(parse_count(value)) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, UserError):
        return float("nan")
