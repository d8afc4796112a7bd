"""The filter's passes over files: every document scored once, arms cut by score, exams left out, nothing done twice."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from splitray.corpus import CorpusSettings
from splitray.corpus.clean import clean_documents
from splitray.corpus.holdout import ROW, decide, narrow
from splitray.corpus.read import read_file
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.storage.folder import Folder
from splitray.study import DomainFilter, FilterSettings, passes
from splitray.study.apply import Filtered, apply_filter
from splitray.study.quality import quality
from tests.study.planted import exam_of, examples
from tests.support.inline import InlineEngine
from tests.support.planted import write_jsonl

GIVEN = examples(900, seed=11)
ROWS: list[dict[str, Any]] = [
    {"id": f"d{n}", "text": text, "book": f"b{n // 3}", "topic": bool(label)}
    for n, (text, label) in enumerate(zip(GIVEN.texts, GIVEN.labels, strict=True))
]


@pytest.fixture(scope="module")
def topic() -> DomainFilter:
    return DomainFilter.fit(examples(1500, seed=1), FilterSettings(options={"options": {"dimensions": 32}}))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> CorpusSettings:
    folder = tmp_path_factory.mktemp("texts") / "data"
    folder.mkdir()
    for part in range(3):
        write_jsonl(folder / f"{part}.jsonl", ROWS[300 * part : 300 * (part + 1)])
    return CorpusSettings(sources=[str(folder)], domains=1, id_column="id", group_column="book", min_characters=50)


class Counting(InlineEngine):
    items = 0

    def over(self, name: str, work: Any, items: list[dict[str, Any]]) -> Any:
        self.items += len(items)
        return super().over(name, work, items)


def read(folder: Path, arm: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for path in (folder / arm).glob("*.parquet") for row in pq.read_table(path).to_pylist()}


def test_arms_hold_what_scores_high_enough(topic: DomainFilter, sources: CorpusSettings, tmp_path: Path) -> None:
    engine = Counting(sources)
    found = apply_filter(topic, sources, Folder(tmp_path), engine=engine)
    scored, texts = read(tmp_path, "scored"), {row["id"]: row["text"] for row in ROWS}
    assert scored.keys() == texts.keys() and found.documents == 900 == sum(1 for _ in scored)
    probability = dict(zip(texts, topic.probability(list(texts.values())), strict=True))
    np.testing.assert_allclose([scored[i]["score"] for i in texts], list(probability.values()), rtol=1e-6)
    np.testing.assert_allclose([scored[i]["quality"] for i in texts], quality(list(texts.values())), rtol=1e-6)
    kept = read(tmp_path, "filtered")
    assert set(kept) == {i for i, p in probability.items() if np.float32(p) >= np.float32(topic.threshold)}
    assert all(kept[i]["text"] == texts[i] and kept[i]["group"] == ROWS[int(i[1:])]["book"] for i in kept)
    assert np.mean([ROWS[int(i[1:])]["topic"] for i in kept]) > 0.75
    assert (found.arms["filtered"].documents, found.arms["filtered"].bytes) == (
        len(kept),
        sum(len(row["text"].encode()) for row in kept.values()),
    )
    assert found.mean == pytest.approx(np.mean(list(probability.values())), rel=1e-5)
    control = read(tmp_path, "quality")
    assert min(row["quality"] for row in control.values()) >= max(
        [row["quality"] for i, row in scored.items() if i not in control], default=0
    ), "quality alone decides"
    assert (
        0 <= found.arms["quality"].bytes - found.arms["filtered"].bytes < max(len(t.encode()) for t in texts.values())
    )
    before = engine.items
    assert apply_filter(topic, sources, Folder(tmp_path), engine=engine) == found and engine.items == before


def test_an_arm_is_a_source_of_the_corpus(topic: DomainFilter, sources: CorpusSettings, tmp_path: Path) -> None:
    apply_filter(topic, sources, Folder(tmp_path), engine=InlineEngine(sources))
    files, passed = list_sources(CorpusSettings(sources=[str(tmp_path / "filtered")], domains=2))
    assert files and {file.kind for file in files} == {"parquet"} and not passed


@pytest.mark.parametrize("grouped", [False, True])
def test_pieces_of_a_document_stay_on_one_side(topic: DomainFilter, tmp_path: Path, grouped: bool) -> None:
    """Books of many pieces, read again from an arm: few rows a file, so that groups are too large to go as a whole."""
    rows = [
        {"id": f"book#{n}", "text": "\n".join(text for text in GIVEN.texts[40 * n : 40 * (n + 1)]), "shelf": "one"}
        for n in range(12)
    ]
    (tmp_path / "books").mkdir()
    write_jsonl(tmp_path / "books" / "all.jsonl", rows)
    fields = {"domains": 1, "max_characters": 2000, "id_column": "id", "group_column": "shelf" if grouped else None}
    settings = CorpusSettings(sources=[str(tmp_path / "books")], **fields)
    apply_filter(topic, settings, Folder(tmp_path / "out"), wanted_bytes=100_000, engine=InlineEngine(settings))
    scored = read(tmp_path / "out", "scored")
    assert len(scored) > 60 and {row["document"] for row in scored.values()} == {row["id"] for row in rows}
    again = CorpusSettings(
        sources=[str(tmp_path / "out" / "filtered")],
        domains=1,
        id_column="document",
        group_column="group",
        validation_share=0.4,
        max_characters=2000,
    )
    files, _ = list_sources(again)
    pieces = list(clean_documents((raw for f in files for raw in read_file(f, again, Counter())), 1, 2000, Counter()))
    side = decide(np.array([narrow(d) for d in pieces], dtype=ROW), again, seed=0).side
    sides = {
        name: {int(s) for d, s in zip(pieces, side, strict=True) if d.id == name} for name in {d.id for d in pieces}
    }
    assert len(sides) == 12 < len(pieces) and all(len(found) == 1 for found in sides.values()), sides
    assert len(set().union(*sides.values())) == 2


def test_exams_are_left_out_of_every_arm(topic: DomainFilter, sources: CorpusSettings, tmp_path: Path) -> None:
    leaks = [row for row in ROWS if row["topic"]][:9]
    exam = exam_of([row["text"] for row in leaks])
    found = apply_filter(topic, sources, Folder(tmp_path), [exam], engine=InlineEngine(sources))
    assert found.contaminated == {"13-grams": 9, "near-duplicates": 9, "documents": 9} and found.documents == 891
    for arm in ("scored", "filtered", "quality"):
        assert not {row["id"] for row in leaks} & read(tmp_path, arm).keys(), arm


def test_bytes_wanted_decide_the_threshold(topic: DomainFilter, sources: CorpusSettings, tmp_path: Path) -> None:
    results: list[Filtered] = []
    for wanted in (5_000, 100_000):
        found = apply_filter(topic, sources, Folder(tmp_path), wanted_bytes=wanted, engine=InlineEngine(sources))
        assert wanted <= found.arms["filtered"].bytes < wanted + 1000
        results.append(found)
    assert results[0].key != results[1].key and read(tmp_path, "filtered").keys() != read(tmp_path, "scored").keys()
    with pytest.raises(UserError, match="are wanted, and all documents together have"):
        apply_filter(topic, sources, Folder(tmp_path), wanted_bytes=1e9, engine=InlineEngine(sources))
    assert not (tmp_path / "filtered.json").exists(), "a call that failed leaves nothing that counts"


class Saturated:
    """A filter that is sure of every document, as float32 holds it."""

    def __init__(self, topic: DomainFilter) -> None:
        self.topic = topic

    def __getattr__(self, name: str) -> Any:
        return getattr(self.topic, name)

    def probability(self, texts: list[str]) -> np.ndarray:
        return 1 - 1e-12 * np.arange(1, len(texts) + 1)


def test_arms_have_one_size_where_scores_are_equal(
    topic: DomainFilter, sources: CorpusSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quality is 1.0 for most good text, and probabilities are 1.0 in float32."""
    monkeypatch.setattr(passes, "quality", lambda texts: np.ones(len(texts)))
    longest = max(len(row["text"].encode()) for row in ROWS)
    found = apply_filter(topic, sources, Folder(tmp_path / "quality"), engine=InlineEngine(sources))
    assert 0 <= found.arms["quality"].bytes - found.arms["filtered"].bytes < longest
    books = {row["group"] for row in read(tmp_path / "quality", "quality").values()}
    assert {n // 100 for n in range(300) if f"b{n}" in books} == {0, 1, 2}, "of all files alike"
    monkeypatch.setattr(passes, "_filter", lambda address: Saturated(topic))
    found = apply_filter(topic, sources, Folder(tmp_path / "both"), wanted_bytes=20_000, engine=InlineEngine(sources))
    for arm in found.arms.values():
        assert 20_000 <= arm.bytes < 20_000 + longest and arm.threshold == 1
    assert read(tmp_path / "both", "filtered").keys() == read(tmp_path / "both", "quality").keys()


@pytest.mark.parametrize("name", ["quality/mine.jsonl", "scored/mine.txt", "filtered.json", f"model-{'0' * 20}/mine"])
def test_what_no_filter_has_written_is_not_deleted(
    topic: DomainFilter, sources: CorpusSettings, tmp_path: Path, name: str
) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=rf"holds {name.split('/')[0]}, which no filter has written: give an empty"):
        apply_filter(topic, sources, Folder(tmp_path), engine=InlineEngine(sources))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine] and mine.read_text() == "mine"


def test_a_model_beside_our_folders_stays(topic: DomainFilter, sources: CorpusSettings, tmp_path: Path) -> None:
    (tmp_path / "model-bert").mkdir()
    for wanted in (5_000, 6_000):
        apply_filter(topic, sources, Folder(tmp_path), wanted_bytes=wanted, engine=InlineEngine(sources))
    assert (tmp_path / "model-bert").exists()


def test_sources_and_target_lie_apart(topic: DomainFilter, sources: CorpusSettings, tmp_path: Path) -> None:
    out, engine = tmp_path / "out", InlineEngine(sources)
    apply_filter(topic, sources, Folder(out), engine=engine)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "linked").symlink_to(out)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.parquet").symlink_to(next((out / "scored").iterdir()))
    for source in (out / "filtered", f"{tmp_path}/linked/scored/*.parquet", out / "scored", tmp_path / "files"):
        settings = CorpusSettings(sources=[str(source)], domains=1)
        with pytest.raises(
            UserError, match=r"the source .*parquet lies below .*out, where a filter writes and deletes"
        ):
            apply_filter(topic, settings, Folder(out), wanted_bytes=500, engine=engine)
    with pytest.raises(UserError, match=r"data/inside lies below the source .*data, which would read it"):
        apply_filter(topic, sources, Folder(f"{sources.sources[0]}/inside"), engine=engine)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("harm", ["folder", "file", "cut"])
def test_a_result_without_its_files_is_made_again(
    topic: DomainFilter, sources: CorpusSettings, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = apply_filter(topic, sources, Folder(tmp_path), engine=InlineEngine(sources))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    victim = next((tmp_path / "filtered").iterdir())
    if harm == "folder":
        shutil.rmtree(tmp_path / "filtered")
    elif harm == "file":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    assert apply_filter(topic, sources, Folder(tmp_path), engine=InlineEngine(sources)) == found
    assert "is gone or has another size" in caplog.text
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}


def test_another_filter_in_the_same_process_is_not_mistaken(
    topic: DomainFilter, sources: CorpusSettings, tmp_path: Path
) -> None:
    other = DomainFilter.fit(examples(1500, seed=2, share=0.3), FilterSettings(options={"options": {"dimensions": 8}}))
    first = apply_filter(topic, sources, Folder(tmp_path), engine=InlineEngine(sources))
    second = apply_filter(other, sources, Folder(tmp_path), engine=InlineEngine(sources))
    assert first.key != second.key and first.mean != second.mean
    texts = [row["text"] for row in ROWS[:20]]
    scored = read(tmp_path, "scored")
    np.testing.assert_allclose([scored[f"d{n}"]["score"] for n in range(20)], other.probability(texts), rtol=1e-6)
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("model-")]) == 1


def test_sources_without_a_document_say_why(topic: DomainFilter, tmp_path: Path) -> None:
    (tmp_path / "short.jsonl").write_text(json.dumps({"text": "too short"}) + "\n")
    settings = CorpusSettings(sources=[str(tmp_path / "short.jsonl")], domains=1)
    with pytest.raises(UserError, match=r"no document to score is left: too short \(1\)"):
        apply_filter(topic, settings, Folder(tmp_path / "out"), engine=InlineEngine(settings))
