"""The survey of a folder: its counts against what was written, the column of the text, and samples of large ones."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splitray.corpus import survey as module
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.survey import survey
from splitray.errors import UserError
from tests.support.planted_text import documents


def of(folder: Path, text_column: str | None = None) -> module.Survey:
    return survey(CorpusSettings(sources=[str(folder)], domains=1), text_column)


def test_counts_are_those_of_what_was_written(tmp_path: Path) -> None:
    law, food, sea = (list(documents(subject, 30)) for subject in ("law", "food", "sea"))
    (tmp_path / "deep").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in law)
    (tmp_path / "deep" / "law.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.table({"text": food, "number": range(30)}), tmp_path / "food.parquet", row_group_size=7)
    with (tmp_path / "more.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["id", "text"], ["1", law[0]], ["2", "short"], ["3", food[3] + " more"]])
    for number, text in enumerate(sea):
        (tmp_path / f"{number}.txt").write_text(text)
    (tmp_path / "picture.bin").write_bytes(b"\0\1" * 600)

    found = of(tmp_path)

    kept = [*law, *food, *sea, food[3] + " more"]  # law[0] is there twice
    assert found.whole and found.documents == found.rows == len(found.texts) == len(kept) == 91
    assert found.text_bytes == sum(len(text.encode()) for text in kept)
    assert sorted(found.texts) == sorted(kept)
    assert found.repeated == pytest.approx(1 / 92)
    assert found.files == {"jsonl": 1, "parquet": 1, "csv": 1, "text": 31}
    assert found.passed == {"too short": 1, "binary file": 1}
    assert found.columns is not None and found.columns.text == "text"


def test_a_large_source_is_estimated_from_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 1 << 19)
    monkeypatch.setattr(module, "_LEAST", 1 << 16)
    texts = list(documents("law", 4000))
    pq.write_table(pa.table({"text": texts[:2500]}), tmp_path / "a.parquet", row_group_size=250, compression="none")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[2500:]))

    found = of(tmp_path)

    assert not found.whole and len(found.texts) < 3000  # a stream is read ahead by 1 MiB
    assert found.documents == pytest.approx(4000, rel=0.05)
    assert found.text_bytes == pytest.approx(sum(map(len, texts)), rel=0.05)


def test_long_text_files_are_documents_in_pieces(tmp_path: Path) -> None:
    text = "\n".join(documents("sea", 50))
    (tmp_path / "book.txt").write_text(text)
    found = of(tmp_path)
    assert found.rows == 1 and found.documents == len(found.texts) > len(text) / 10_000
    assert found.columns is None


def _jsonl(path: Path, *columns: str) -> None:
    rows = [{name: text if name != "label" else "law" for name in columns} for text in documents("law", 5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_only_column_of_long_text_is_found(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", "label", "body")
    columns = of(tmp_path).columns
    assert columns is not None and (columns.text, columns.others) == ("body", ("label",))


def test_a_column_named_text_goes_before_others(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", "summary", "text")
    columns = of(tmp_path).columns
    assert columns is not None and columns.text == "text"
    columns = of(tmp_path, "summary").columns
    assert columns is not None and columns.text == "summary"


@pytest.mark.parametrize(
    ("files", "wanted", "told"),
    [
        ({"a": ["title", "body"]}, None, r"several columns may hold the text: 'title' \(\d+ .*'body' .*--text-column"),
        ({"a": ["label"]}, None, r"no column of the tables holds text of 100 characters .*\(columns: 'label'\)"),
        ({"a": ["body"], "b": ["content"]}, None, r"the tables share no column: .* has 'body', .* has 'content'"),
        ({"a": ["body"], "b": ["content"]}, "body", r"b\.jsonl has no column 'body'; its columns are 'content'"),
        ({"a": ["text"]}, "txt", r"a\.jsonl has no column 'txt'; its columns are 'text'"),
    ],
)
def test_an_unclear_column_is_the_users_to_name(
    tmp_path: Path, files: dict[str, list[str]], wanted: str | None, told: str
) -> None:
    for name, columns in files.items():
        _jsonl(tmp_path / f"{name}.jsonl", *columns)
    with pytest.raises(UserError, match=told):
        of(tmp_path, wanted)


def test_stray_json_beside_texts_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"name": "x", "version": "1"}))
    (tmp_path / "a.txt").write_text(next(documents("food", 1)))
    found = of(tmp_path)
    assert found.documents == 1 and found.columns is None and found.passed == {"no field 'text'": 1}


def test_a_folder_without_text_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0" * 500)
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 and so on")
    with pytest.raises(UserError, match=r"holds no text that can be read in 2 files: .*binary file \(1\)") as error:
        of(tmp_path)
    assert "PDF (extract its text) (1)" in str(error.value)
