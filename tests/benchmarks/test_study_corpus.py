"""The topic of a study's corpus has the share it is asked for."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.study_corpus import thin


def _tables(folder: Path) -> None:
    folder.mkdir()
    for name, count in (("topic", 60), ("other", 90), ("more", 100)):
        rows = {"text": [f"{name} {n}" for n in range(count)], "doc_id": [f"{n}" for n in range(count)]}
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")


def test_a_topic_is_thinned_to_its_share_and_the_same_documents_stay(tmp_path: Path) -> None:
    _tables(tmp_path / "data")
    assert thin(tmp_path / "data", ["topic"], 0.05, tmp_path / "out") == {"topic": 10}
    found = {p.stem: pq.read_table(p)["text"].to_pylist() for p in (tmp_path / "out").glob("*.parquet")}
    assert {name: len(texts) for name, texts in found.items()} == {"topic": 10, "other": 90, "more": 100}
    assert set(found["topic"]) < {f"topic {n}" for n in range(60)}
    thin(tmp_path / "data", ["topic"], 0.1, tmp_path / "more")
    assert set(found["topic"]) < set(pq.read_table(tmp_path / "more" / "topic.parquet")["text"].to_pylist())
    thin(tmp_path / "data", ["topic"], 0.05, tmp_path / "out")  # over an earlier one
    assert pq.read_table(tmp_path / "out" / "topic.parquet")["text"].to_pylist() == found["topic"]
    assert pq.read_metadata(tmp_path / "data" / "topic.parquet").num_rows == 60, "the data is as it was"


def test_a_share_that_the_topic_does_not_have_is_refused(tmp_path: Path) -> None:
    _tables(tmp_path / "data")
    with pytest.raises(SystemExit, match=r"topic has 0\.240 of the documents, less than 0\.3"):
        thin(tmp_path / "data", ["topic"], 0.3, tmp_path / "out")
    assert not (tmp_path / "out").exists()
