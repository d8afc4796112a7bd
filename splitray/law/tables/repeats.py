"""How often the runs of a table read their text: columns `epochs` and `pretrain_epochs`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from splitray.errors import UserError
from splitray.law.arrays import Array, Ints
from splitray.law.repetition import Repetition
from splitray.law.tables.numbers import numbers_of, refuse

EPOCHS = ("epochs", "pretrain_epochs")  # passes over the domain's own text, in all and until the split
_ALIKE = 0.01  # by so much may passes a token of D differ between runs that have read one text


@dataclass(frozen=True)
class Repeats:
    """What runs have drawn, each [rows]: tokens D and D', passes over the domain's own text in D, and in all."""

    D: Array
    S: Array
    before: Array
    after: Array

    @property
    def most(self) -> float:
        return float(self.after.max())

    def take(self, rows: Ints | Array) -> Repeats:
        return Repeats(self.D[rows], self.S[rows], self.before[rows], self.after[rows])

    def worth(self, how: Repetition) -> tuple[Array, Array]:
        """(D, D') in new tokens."""
        return how.worth(self.D, np.zeros_like(self.D), self.before), how.worth(
            self.S, self.before, self.after - self.before
        )


def read_repeats(table: pa.Table, D: Array, S: Array, domain: Ints, where: str) -> Repeats | None:
    """The passes of every row; None where no row has read a text more than once, or the table does not say.

    A row without `epochs` is one that repeats nothing. Without `pretrain_epochs` the passes in D follow from the rows
    of the same domain with D' = 0.

    Raises:
        UserError: passes that are below 0, fewer in all than in D, or not known to be in D or in D'.
    """
    if EPOCHS[0] not in table.column_names:
        return None
    after = _filled(table, EPOCHS[0], where)
    refuse(where, EPOCHS[0], after < 0, after, "must be at least 0")
    if not (after > 1).any():
        return None
    if EPOCHS[1] in table.column_names:
        before = _filled(table, EPOCHS[1], where)
        refuse(where, EPOCHS[1], before < 0, before, "must be at least 0")
        refuse(where, EPOCHS[1], before > after * (1 + 1e-9), before, "must be at most epochs, which counts all passes")
        before = np.minimum(before, after)
    else:
        before = _until_the_split(D, S, after, domain, where)
    before = np.where(S == 0, after, np.where(D == 0, 0.0, before))
    return Repeats(D, S, before, after)


def _filled(table: pa.Table, name: str, where: str) -> Array:
    column = table[name]
    if pa.types.is_null(column.type):
        return np.zeros(len(table))
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        column = pc.fill_null(column, 0)
    return numbers_of(table.set_column(table.column_names.index(name), name, column), name, where)


def _until_the_split(D: Array, S: Array, after: Array, domain: Ints, where: str) -> Array:
    before = np.zeros_like(after)
    asked = (after > 1) & (D > 0) & (S > 0)
    for name in np.unique(domain):
        mine = domain == name
        known = after[mine & (S == 0) & (after > 0)] / D[mine & (S == 0) & (after > 0)]
        if known.size and np.ptp(known) <= _ALIKE * known.max():
            before[mine] = np.minimum(np.median(known) * D[mine], after[mine])
            asked &= ~mine
    if asked.any():
        rows = ", ".join(str(row + 1) for row in np.flatnonzero(asked)[:3])
        raise UserError(
            f"{where}: epochs is above 1 (rows {rows}), and how many of these passes came before the split is not "
            "known; add the column pretrain_epochs, passes over the domain's own text among pretrain_tokens"
        )
    return before
