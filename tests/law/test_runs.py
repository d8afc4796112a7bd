"""The table of runs: what is accepted, and that whatever is wrong is named by column, row and value."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splitray.errors import UserError
from splitray.law.runs import read_runs

GOOD = {
    "params": [1e8, 1e8, 2e8, 2e8],
    "pretrain_tokens": [1e9, 2e9, 1e9, 0.0],
    "specialize_tokens": [0, 0, 5e8, 1e8],
    "domain": ["law", "code", "law", "code"],
    "loss": [3.0, 2.9, 2.5, 2.7],
}


def table(**changes):
    return pa.table(GOOD | changes)


def test_csv_parquet_and_dataframe_give_the_same_rows(tmp_path):
    frame = pd.DataFrame(GOOD)
    frame.to_csv(tmp_path / "runs.csv", index=False)
    pq.write_table(pa.table(GOOD), tmp_path / "runs.pq")
    for source in (tmp_path / "runs.csv", str(tmp_path / "runs.pq"), frame, pa.table(GOOD)):
        runs = read_runs(source)
        assert runs.domains == ("code", "law")
        assert runs.group.tolist() == [0, 0, 1, 1]
        assert runs.order.tolist() == [1, 3, 0, 2]
        assert runs.loss.tolist() == [2.9, 2.7, 3.0, 2.5]
        assert runs.weight.tolist() == [1, 1, 1, 1]


def test_extra_columns_are_carried_along():
    runs = read_runs(table(width=[1, 2, 3, 4]))
    assert runs.table["width"].to_pylist() == [1, 2, 3, 4]
    assert len(runs) == 4


def test_missing_columns_are_named():
    with pytest.raises(UserError, match="missing columns: specialize_tokens, loss"):
        read_runs(table().drop_columns(["loss", "specialize_tokens"]))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("loss", [3.0, None, 2.5, float("nan")], r"loss must be a finite number: row 2 \(nan\), row 4 \(nan\)"),
        ("loss", [3.0, 0.0, 2.5, -1.0], r"loss must be above 0: row 2 \(0.0\), row 4 \(-1.0\)"),
        ("loss", [3.0, float("inf"), 2.5, 2.0], r"loss must be a finite number: row 2 \(inf\)"),
        ("params", [0, 1e8, 1e8, 1e8], r"params must be above 0: row 1 \(0.0\)"),
        ("pretrain_tokens", [1e9, -5.0, 1e9, 0], r"pretrain_tokens must be at least 0: row 2 \(-5.0\)"),
        ("specialize_tokens", [0, 0, 0, 0.0], r"pretrain_tokens \+ specialize_tokens must be above 0.*row 4"),
        ("domain", ["law", "", None, "code"], r"domain must not be empty: row 2 \(\), row 3 \(\)"),
        ("loss", ["3.0", "low", "2.5", "2.4"], r"loss must be a number: row 2 \('low'\)"),
    ],
)
def test_bad_rows_are_named(column, values, message):
    with pytest.raises(UserError, match=message):
        read_runs(table(**{column: values}))


def test_many_bad_rows_are_counted_not_listed():
    many = {key: values * 10 for key, values in GOOD.items()} | {"loss": [-1.0] * 40}
    with pytest.raises(UserError, match="and 30 more"):
        read_runs(pa.table(many))


def test_weights_are_checked():
    with pytest.raises(UserError, match=r"weight must be at least 0: row 3"):
        read_runs(table(weight=[1, 1, -1, 1]))
    with pytest.raises(UserError, match="weight is 0 in every row"):
        read_runs(table(weight=[0, 0, 0, 0]))


def test_empty_and_unreadable_sources(tmp_path):
    with pytest.raises(UserError, match="no rows"):
        read_runs(pa.table(GOOD).slice(0, 0))
    with pytest.raises(UserError, match=r"nothing\.csv"):
        read_runs(tmp_path / "nothing.csv")
    (tmp_path / "ragged.csv").write_text("params,loss\n1,2\n3\n")
    with pytest.raises(UserError, match=r"ragged.csv: not a CSV"):
        read_runs(tmp_path / "ragged.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty.csv"):
        read_runs(tmp_path / "empty.csv")
    with pytest.raises(UserError, match="not list"):
        read_runs([1, 2])


def test_doubled_columns_are_refused():
    doubled = pa.Table.from_arrays([*table().columns, table()["loss"]], names=[*GOOD, "loss"])
    with pytest.raises(UserError, match="given twice: loss"):
        read_runs(doubled)


def test_rows_share_what_the_columns_say():
    alone = read_runs(table())
    assert np.unique(alone.trunk).size == 4 and not alone.clustered
    by_run = read_runs(table(run=["a", "a", "b", "b"]))
    assert (by_run.trunk[[0, 2]] == by_run.trunk[0]).all() and by_run.clustered
    assert (by_run.branch == by_run.trunk).all()
    tree = read_runs(table(run=["a", "b", "c", "d"], trunk=["t", "t", "u", "u"], branch=["x", "x", "x", "x"]))
    assert np.unique(tree.trunk).size == 2
    assert np.unique(tree.branch).size == 2, "branches of equal name on two trunks are two"


def test_replicates_are_points_on_two_trunks():
    twice = {key: values * 2 for key, values in GOOD.items()}
    assert not read_runs(pa.table(twice | {"trunk": ["t"] * 8})).replicated
    assert read_runs(pa.table(twice | {"trunk": ["t"] * 4 + ["u"] * 4})).replicated
