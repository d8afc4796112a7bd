"""The table of runs: what is accepted, and that whatever is wrong is named by column, row and value."""

import bz2
import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from splitray.errors import UserError
from splitray.law import fit
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
    for name, start, told in (
        ("a.xlsx", b"PK\x03\x04...", "Excel workbook"),
        ("a.jsonl", b'{"params": 1}\n', "but JSON"),
    ):
        (tmp_path / name).write_bytes(start)
        with pytest.raises(UserError, match=told):
            read_runs(tmp_path / name)
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


def spelled(*names):
    return table(domain=list(names))


def test_one_domain_has_one_spelling():
    """Blanks around a name, and the two ways to write é, are no other domain: each would be fitted on half the rows."""
    runs = read_runs(spelled("caf\u00e9", " cafe\u0301 ", "law ", "\tlaw"))
    assert runs.domains == ("caf\u00e9", "law") and runs.group.tolist() == [0, 0, 1, 1]
    assert runs.warnings == () and runs.table["domain"].to_pylist() == ["caf\u00e9"] * 2 + ["law"] * 2
    headed = table().rename_columns([f" {name} " for name in GOOD])
    assert read_runs(headed).domains == ("code", "law")


@pytest.mark.parametrize("other", ["Law", "LAW", "l-a-w", "ｌａｗ", "láw", "la\u200bw"])
def test_names_that_differ_by_little_are_warned_of(other):
    runs = read_runs(spelled("law", other, "code", "code"))
    assert len(runs.domains) == 3
    (warning,) = runs.warnings
    assert warning.code == "names_alike" and repr(other) in str(warning) and "'law'" in str(warning)


def test_an_empty_trunk_is_the_row_itself():
    """Were all empty rows one trunk, a table whose column is half filled would have one huge tree."""
    some = read_runs(table(trunk=["t", "", "t", None]))
    assert len(set(some.trunk.tolist())) == 3 and some.clustered
    by_row = dict(zip(some.order.tolist(), some.trunk.tolist()))
    assert by_row[0] == by_row[2] != by_row[1] != by_row[3]
    by_run = read_runs(table(trunk=["t", "", "", None], run=["a", "b", "b", ""]))
    of = dict(zip(by_run.order.tolist(), by_run.trunk.tolist()))
    assert of[1] == of[2] and len(set(of.values())) == 3, "an empty trunk falls back on the run"
    nothing = read_runs(table(trunk=["", " ", None, ""]))
    assert len(set(nothing.trunk.tolist())) == 4 and not nothing.clustered


def ladder_table(scale=1.0, convert=lambda loss: loss):
    """Three sizes by four token counts of one domain, with the losses of a plausible law."""
    rows = [(n, d) for n in (1e6, 4e6, 1.6e7) for d in (1e7, 4e7, 1.6e8, 6.4e8)]
    n, d = np.array(rows).T
    loss = 1.7 + 400 * n**-0.34 + 400 * d**-0.28
    return pa.table(
        {
            "params": n * scale,
            "pretrain_tokens": d * scale,
            "specialize_tokens": 0 * d,
            "domain": ["all"] * len(d),
            "loss": convert(loss),
        }
    )


def test_values_of_another_unit_are_warned_of():
    assert read_runs(ladder_table()).warnings == ()
    assert [w.code for w in read_runs(ladder_table(convert=np.exp)).warnings] == ["loss_unit"]
    assert [w.code for w in read_runs(ladder_table(scale=1e-6)).warnings] == ["count_unit", "count_unit"]
    law = fit(ladder_table(convert=np.exp), form="chinchilla")
    assert "perplexities" in str(law.warnings[0]) and "ln(perplexity)" in str(law.warnings[0])


CSV = pd.DataFrame(GOOD).to_csv(index=False)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_what_spreadsheets_write_is_read(tmp_path, delimiter, encoding):
    (tmp_path / "runs.csv").write_bytes(CSV.replace(",", delimiter).encode(encoding))
    runs = read_runs(tmp_path / "runs.csv")
    assert runs.domains == ("code", "law") and runs.loss.tolist() == [2.9, 2.7, 3.0, 2.5]


def test_numbers_are_read_as_people_write_them(tmp_path):
    text = "params;pretrain_tokens;specialize_tokens;domain;loss\n125M;2.5B;0;law;3.1\n1.3B;26B;1,000,000;law;2.5\n"
    (tmp_path / "runs.csv").write_text(text)
    runs = read_runs(tmp_path / "runs.csv")
    assert runs.params.tolist() == [125e6, 1.3e9] and runs.specialize_tokens.tolist() == [0, 1e6]
    (tmp_path / "runs.csv").write_text(text.replace("2.5\n", "2,5\n"))
    with pytest.raises(UserError, match=r"loss must be a number: row 2 \('2,5'\)"):
        read_runs(tmp_path / "runs.csv")


def test_another_encoding_or_heading_is_named(tmp_path):
    (tmp_path / "runs.csv").write_bytes(CSV.replace("law", "caf\u00e9").encode("latin-1"))
    with pytest.raises(UserError, match=r"not UTF-8 in line 2 .*Latin-1.*save it as UTF-8"):
        read_runs(tmp_path / "runs.csv")
    with pytest.raises(UserError, match=r"missing columns: loss \(did you mean Loss\?\)"):
        read_runs(table().rename_columns([*list(GOOD)[:4], "Loss"]))


HEADER = "params,pretrain_tokens,specialize_tokens,domain,loss"


@pytest.mark.parametrize(
    ("names", "count"),
    [(("01", "1"), 2), (("1e3", "1000"), 2), (("1.0", "1"), 2), (("true", "True"), 2), (("2024-01-01", "20240101"), 2)],
)
def test_names_that_look_like_numbers_stay_names(tmp_path: Path, names: tuple[str, str], count: int) -> None:
    """A CSV reader that guesses types makes one domain, or one trunk, of two."""
    rows = [f"{size},1e9,0,{name},3.1,{name}" for size, name in zip(("1e6", "2e6"), names, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([HEADER + ",trunk ", *rows]) + "\n")
    runs = read_runs(tmp_path / "t.csv")
    assert len(runs.domains) == count and len(set(runs.trunk)) == count


@pytest.mark.parametrize("missing", ["", "NA", "nan", "NULL", "None", "none", "-", "<NA>", "?"])
def test_trunks_that_are_missing_are_shared_by_no_rows(tmp_path: Path, missing: str) -> None:
    rows = [f"{size}e6,1e9,0,a,3.1,{trunk}" for size, trunk in ((1, missing), (2, missing), (3, "t"), (4, "t"))]
    (tmp_path / "t.csv").write_text("\n".join([HEADER + ",trunk", *rows]) + "\n")
    assert len(set(read_runs(tmp_path / "t.csv").trunk)) == 3


def test_a_decimal_comma_is_not_read_as_thousands(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER.replace(",", ";") + "\n1,300,000;1e9;0;a;3,142\n")
    with pytest.raises(UserError, match=r"loss must be a number without a comma: row 1 \('3,142'\)"):
        read_runs(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(HEADER.replace(",", ";") + "\n1,300,000;1e9;0;a;3.142\n")
    assert read_runs(tmp_path / "t.csv").params[0] == 1_300_000


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, zstandard.compress])
def test_a_compressed_table_is_told_by_its_content(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    for name in ("runs.csv", "runs.csv.gz"):
        (tmp_path / name).write_bytes(packed(CSV.encode()))
        assert read_runs(tmp_path / name).loss.tolist() == [2.9, 2.7, 3.0, 2.5]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + CSV.replace(",", ";"),
        '\ufeff"sep=,"\r\n' + CSV,
        "".join(f",{n},{line}\n" for n, line in enumerate(CSV.splitlines())).replace(",0,", ",,", 1),
    ],
    ids=["sep", "sep with a mark", "two columns of row numbers"],
)
def test_what_programs_write_around_a_table_is_none_of_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    assert read_runs(tmp_path / "runs.csv").loss.tolist() == [2.9, 2.7, 3.0, 2.5]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<html><table>", "HTML or XML"),
        (b"\x93NUMPY\1\0" + bytes(80), "a numpy array"),
        (pickle.dumps(GOOD), "a pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(UserError, match=f"not a CSV or Parquet table but {told}"):
        read_runs(tmp_path / "t.csv")


def test_a_decimal_comma_behind_a_zero_is_no_thousand(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER.replace(",", ";") + "\n0,125B;1e9;0;a;3.1\n")
    with pytest.raises(UserError, match=r"params must be a number: row 1 \('0,125B'\)"):
        read_runs(tmp_path / "t.csv")


def test_perplexities_of_good_models_are_warned_of(tmp_path: Path) -> None:
    """They lie below ln(vocabulary): 8 to 12 is a model of 100M parameters and more after billions of tokens."""
    assert warned("1e8,2e9,0,a,12.1\n3e8,8e9,0,a,9.8\n1e9,3e10,0,a,8.2\n", tmp_path) == ["loss_unit"]
    assert warned("1e8,2e9,0,a,3.4\n3e8,8e9,0,a,3.0\n1e9,3e10,0,a,2.7\n", tmp_path) == []
    assert warned("1e5,2e5,0,a,8.1\n3e5,8e5,0,a,7.9\n", tmp_path) == [], "small models after few tokens are so bad"


def test_tokens_of_another_unit_than_the_rest_are_warned_of(tmp_path: Path) -> None:
    assert warned("125e6,2000,0,a,3.1\n350e6,8000,500,a,3.0\n", tmp_path) == ["count_unit"], "millions of tokens"
    assert warned("125e6,2e9,2,a,3.1\n350e6,2e9,0.5,a,3.0\n", tmp_path) == ["count_unit"], "billions for D' alone"


def warned(table: str, tmp_path: Path) -> list[str]:
    (tmp_path / "t.csv").write_text(f"{HEADER}\n{table}")
    return [warning.code for warning in read_runs(tmp_path / "t.csv").warnings]


def test_rows_given_twice_are_warned_of(tmp_path: Path) -> None:
    """A table that was appended to itself has noise 0; equal losses of three digits are chance."""
    assert warned("1e6,1e9,0,a,3.10718\n2e6,1e9,0,a,3.0123\n" * 2, tmp_path) == ["rows_repeated"]
    assert warned("1e6,1e9,0,a,3.107\n1e6,1e9,0,a,3.107\n", tmp_path) == []
    assert warned("1e6,1e9,0,a,3.10718\n2e6,1e9,0,a,3.10718\n1e6,1e9,0,b,3.10718\n", tmp_path) == []


def test_rows_of_another_unit_than_the_rest_are_warned_of(tmp_path: Path) -> None:
    assert warned("125,2e9,0,a,3.1\n350000000,5e9,0,a,3.0\n", tmp_path) == ["count_unit"]


def test_letters_of_another_alphabet_are_warned_of(tmp_path: Path) -> None:
    assert warned("1e6,1e9,0,law,3.1\n1e6,1e9,0,l\u0430w,3.0\n", tmp_path) == ["names_alike"]
