"""The metrics table: one row for each trained leaf and domain. Committed, so a leaf that stands here is not trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from splitray.ladder.grid import TABLE
from splitray.law.tables.repeats import EPOCHS

SCHEMA = pa.schema(
    [
        *(column for column in TABLE if column.name not in EPOCHS),
        ("shape", pa.string()),
        ("learning_rate", pa.float64()),
        ("tokens", pa.int64()),  # D + D'
        ("epochs", pa.float64()),  # passes over the domain's own training text, (w_k D + D') / its tokens
        ("bits_per_byte", pa.float64()),
        ("began", pa.float64()),  # UTC, seconds since 1970, of the leaf's own last segment
        ("seconds", pa.float64()),  # that this segment took
        ("segment_tokens", pa.int64()),  # trained in it
        ("corpus", pa.string()),
    ]
)


@dataclass
class Table:
    """Rows by (run, domain), kept as a CSV file in that order so that a commit shows what came in."""

    path: Path
    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "Table":
        table = cls(path)
        if path.exists():
            options = pyarrow.csv.ConvertOptions(column_types=SCHEMA)
            table._take(pyarrow.csv.read_csv(path, convert_options=options).to_pylist())
        return table

    def _take(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows |= {(row["run"], row["domain"]): row for row in rows}

    def holds(self, run: str, domains: Iterable[str]) -> bool:
        return all((run, domain) in self.rows for domain in domains)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows in and write the file, whole or not at all."""
        self._take(rows)
        draft = self.path.with_suffix(".draft")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.csv.write_csv(pa.Table.from_pylist(self.sorted(), SCHEMA), draft)
        draft.replace(self.path)

    def sorted(self) -> list[dict[str, Any]]:
        names = ("params", "seed", "learning_rate", "pretrain_tokens", "specialize_tokens", "domain", "run")
        return sorted(self.rows.values(), key=lambda row: tuple(row[name] for name in names))

    def select(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, Any] | None]:
        """The row of each (run, domain), None where it is not trained yet."""
        return [self.rows.get(key) for key in keys]
