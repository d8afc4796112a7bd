"""Domains that are given by a column or by the names of sources: every document in its own, and clear refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from splitray.corpus import Corpus, CorpusSettings
from splitray.corpus.build import corpus_key
from splitray.corpus.given import domain_name
from splitray.corpus.settings import RESERVED
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.results.evaluation import UNSPLIT
from splitray.results.folders import BASE
from splitray.storage.store import Store
from splitray.training.tree import MIXTURE
from tests.support.inline import build_inline
from tests.support.planted import documents, write_jsonl

NAMES = {"0": "law", "1": "medicine", "2": "Py/Code é"}  # the last is no file name
ROWS = [row | {"kind": NAMES[str(row["domain"])]} for row in documents(domains=3, each=120)]
SAFE = {"law": "law", "medicine": "medicine", "Py/Code é": "Py_Code_e"}
PLAIN: dict[str, Any] = {
    "domains": 3,
    "id_column": "id",
    "group_column": "group",
    "validation_share": 0.2,
    "tfidf": {"dimensions": 16},
    "tokenizer": {"vocabulary": 512},
    "shard_tokens": 8192,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows as JSON lines, as Parquet, and as a file for each domain."""
    root = tmp_path_factory.mktemp("given")
    write_jsonl(root / "all.jsonl", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), root / "all.parquet", row_group_size=100)
    for value in NAMES.values():
        own = [row for row in ROWS if row["kind"] == value]
        write_jsonl(root / f"{SAFE[value]}.jsonl", own)
    return root


def by_column(folder: Path, name: str = "all.jsonl", **fields: Any) -> CorpusSettings:
    return CorpusSettings(**PLAIN | {"sources": [str(folder / name)], "domain_column": "kind"} | fields)


def by_source(folder: Path, **fields: Any) -> CorpusSettings:
    sources = {name: str(folder / f"{name}.jsonl") for name in SAFE.values()}
    return CorpusSettings(**{k: v for k, v in PLAIN.items() if k != "domains"} | {"sources": sources} | fields)


def homes(corpus: Corpus) -> dict[str, str]:
    return {
        i: d for d in corpus.domains for s in ("train", "validation") for i in corpus.documents(d, s)["id"].to_pylist()
    }


def test_every_document_is_in_the_domain_that_it_is_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By column of JSON lines and of Parquet, and by source: the same domains and the same tokens."""
    expected = {row["id"]: SAFE[row["kind"]] for row in ROWS}
    built = []
    for number, settings in enumerate((by_column(folder), by_column(folder, "all.parquet"), by_source(folder))):
        corpus = build_inline(settings, 1, Store(tmp_path / str(number)), monkeypatch)
        assert corpus.domains == ["Py_Code_e", "law", "medicine"] and homes(corpus) == expected
        groups = [{g for d in corpus.domains for g in corpus.groups(d, s)} for s in ("train", "validation")]
        assert all(groups) and not groups[0] & groups[1], "whole groups are held out"
        assert set(corpus.projection()["domain"].to_pylist()) == set(corpus.domains)
        built.append(corpus)
    assert len({corpus.content_hash for corpus in built}) == 1
    assert len({corpus.key for corpus in built}) == 3


def test_the_router_tells_given_domains_by_their_nearest_centroid(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words tell these domains apart, and each centroid is the mean of its documents' vectors, written anew here."""
    corpus = build_inline(by_column(folder), 1, Store(tmp_path), monkeypatch)
    router, home = corpus.router(), homes(corpus)
    texts, right = zip(*((row["text"], corpus.domains.index(home[row["id"]])) for row in ROWS), strict=True)
    assert (router.route(list(texts)) == np.array(right)).mean() > 0.98
    training = {i for d in corpus.domains for i in corpus.documents(d, "train")["id"].to_pylist()}
    for k, domain in enumerate(corpus.domains):
        own = [row["text"] for row in ROWS if row["id"] in training and home[row["id"]] == domain]
        mean = router.embedder.embed(own).mean(axis=0)
        np.testing.assert_allclose(router.placement.centroids[k], mean / np.linalg.norm(mean), atol=1e-5)
    assert all(domain["terms"] for domain in corpus.statistics["domains"].values())


def test_a_small_domain_has_a_centroid_though_a_plain_sample_would_miss_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [row for row in ROWS if row["kind"] != "law"] + [row for row in ROWS if row["kind"] == "law"][:10]
    write_jsonl(tmp_path / "all.jsonl", few)
    settings = by_column(tmp_path, validation_share=0.3, cluster={"sample": 30}, tfidf={"dimensions": 8})
    corpus = build_inline(settings, 2, Store(tmp_path / "store"), monkeypatch)
    law = [row["text"] for row in few if row["kind"] == "law"]
    assert (np.array(corpus.router().names(law)) == "law").mean() > 0.8


@pytest.mark.parametrize(
    ("row", "fields", "told"),
    [
        ({}, {"domains": 2}, r"domains is 2, but column 'kind' .* has text of 3 \(Py_Code_e, law, medicine; none"),
        ({}, {"domain_column": "text"}, r"domain_column|corpus.domains is 3, but column 'text'"),
        ({"kind": "LAW"}, {"domains": 4}, r"the value 'law' and 'LAW' would be one domain, law: rename one"),
        ({"kind": "mixture"}, {"domains": 4}, r"no domain can be called 'mixture': that is all domains together"),
        ({"kind": "Base"}, {"domains": 4}, r"no domain can be called 'Base': that is the model before the split"),
        ({"kind": "tiny"}, {"domains": 4}, r"domain tiny has no (training|validation) document \(.*tiny 0.*raise"),
        ({}, {"domain_column": "label"}, r"no row of all.jsonl has a value in 'label'; name another"),
    ],
)
def test_what_makes_no_corpus_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    row: dict[str, str],
    fields: dict[str, Any],
    told: str,
) -> None:
    more = [ROWS[0] | {"id": "more", "text": "another text of its own " * 9} | row] if row else []
    write_jsonl(tmp_path / "all.jsonl", [*ROWS, *more])
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match=told):
        build_inline(by_column(tmp_path, **fields), 1, store, monkeypatch)
    assert not store.keys() and not list(store.orphaned_attempts())


def test_a_source_without_the_column_is_refused_before_it_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"text": ["a"], "id": ["1"], "group": ["g"]}), tmp_path / "bare.parquet")
    (tmp_path / "plain.txt").write_text("Plain text has no columns at all. " * 20)
    for name, told in (("bare.parquet", "bare.parquet has no column 'kind'"), ("plain.txt", "is plain text, which")):
        settings = by_column(tmp_path, name)
        with pytest.raises(UserError, match=told):
            build_inline(settings, 1, Store(tmp_path / "store"), monkeypatch)


def test_rows_without_a_domain_are_counted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [row | {"kind": value, "id": f"lost-{n}"} for n, (row, value) in enumerate(zip(ROWS, (None, " ")))]
    write_jsonl(tmp_path / "all.jsonl", [*ROWS, *lost])
    corpus = build_inline(by_column(tmp_path), 1, Store(tmp_path / "store"), monkeypatch)
    assert corpus.statistics["dropped"] == {"no domain in column 'kind'": 2}
    assert len(homes(corpus)) == len(ROWS)


def test_row_groups_without_a_domain_are_left_out_and_their_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row group is a piece of its own, as those of large files are; the first says no domain in any row."""
    monkeypatch.setattr("splitray.corpus.units._UNIT_BYTES", (1, 1))
    bare = [row | {"kind": "", "id": f"bare-{n}"} for n, row in enumerate(ROWS[:100])]
    pq.write_table(pa.Table.from_pylist([*bare, *ROWS]), tmp_path / "all.parquet", row_group_size=100)
    corpus = build_inline(by_column(tmp_path, "all.parquet"), 1, Store(tmp_path / "store"), monkeypatch)
    assert corpus.statistics["dropped"] == {"no domain in column 'kind'": 100}
    assert len(homes(corpus)) == len(ROWS)

    pq.write_table(pa.Table.from_pylist(bare), tmp_path / "bare.parquet", row_group_size=30)
    settings = by_column(tmp_path, sources=[str(tmp_path / name) for name in ("all.parquet", "bare.parquet")])
    with pytest.raises(UserError, match=r"no row of bare.parquet has a value in 'kind'"):
        build_inline(settings, 1, Store(tmp_path / "store"), monkeypatch)


def test_names_are_part_of_the_key_and_their_order_is_not(folder: Path) -> None:
    def key(settings: CorpusSettings) -> str:
        return corpus_key(settings, 0, list_sources(settings)[0])

    first = by_source(folder)
    turned = by_source(folder, sources=dict(reversed([(n, str(folder / f"{n}.jsonl")) for n in SAFE.values()])))
    renamed = by_source(folder, sources={n.upper(): str(folder / f"{n}.jsonl") for n in SAFE.values()})
    found = CorpusSettings(**PLAIN | {"sources": first.sources})
    assert len({key(first), key(renamed), key(found), key(by_column(folder))}) == 4
    assert first.identity()["sources"] != turned.identity()["sources"] and key(first) == key(turned)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"sources": {"law": "a", "../x": "b"}}, "'../x' cannot be a domain's name"),
        ({"sources": {"law": "a", "Mixture": "b"}}, "no domain can be called Mixture"),
        ({"sources": {"law": "a", "auto": "b"}}, "no domain can be called auto"),
        ({"sources": {"law": "a", "Law": "b"}}, "law and Law differ in case alone"),
        ({"sources": {"law": "a", "code": "b"}, "domains": 3}, "domains is 3, but sources names 2 .code, law."),
        ({"sources": {"law": "a"}, "domain_column": "kind"}, "from domain_column or from the names of sources"),
        ({"sources": ["a", "b"], "source_domains": ["x"], "domains": 1}, "source_domains names 1 sources of 2"),
        ({"sources": {"a": "b"}, "source_domains": ["x"]}, "named already"),
        ({"sources": ["a"], "domains": 2, "domain_column": "k", "cluster": {"balanced": True}}, "balanced"),
        ({"sources": {}}, "sources"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        CorpusSettings(**fields)


def test_a_file_in_two_domains_is_refused(folder: Path) -> None:
    settings = by_source(folder, sources={"law": str(folder / "law.jsonl"), "all": str(folder / "*.jsonl")})
    with pytest.raises(UserError, match=r"law.jsonl is in two domains, law and all; give it to one"):
        list_sources(settings)


def test_a_folder_inside_another_is_not_read_twice(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "law.jsonl").rename(folder / "inner/law.jsonl")
    outer, inner = str(folder), f"{folder}/inner/"
    with pytest.raises(UserError, match=r"law.jsonl is in two domains, all and law; give it to one"):
        list_sources(CorpusSettings(sources={"all": outer, "law": inner}))
    files, _ = list_sources(CorpusSettings(sources=[outer, inner], domains=2))
    assert len(files) == len({file.name for file in files}) == sum(path.is_file() for path in folder.rglob("*"))


def test_named_sources_come_back_from_what_was_written(folder: Path) -> None:
    settings = by_source(folder)
    assert settings.domains == 3 and settings.given_names == sorted(SAFE.values())
    again = CorpusSettings(**json.loads(json.dumps(settings.model_dump(mode="json"))))
    assert again == settings and again.identity() == settings.identity()


@pytest.mark.parametrize(
    ("value", "name"),
    [("law", "law"), ("Pile-CC", "Pile-CC"), ("PubMed Central", "PubMed_Central"), ("a/b", "a_b"), ("../..", None)],
)
def test_values_become_names_that_are_fit_for_files(value: str, name: str | None) -> None:
    found = domain_name(value)
    assert found == (name or found) and CorpusSettings(sources={found: "x"}).given_names == [found]
    assert domain_name("法律") != domain_name("医学"), "values without a Latin letter have names of their own"


def test_no_domain_has_a_name_that_stands_beside_domains() -> None:
    endpoints = pytest.importorskip("splitray.serve.endpoints")
    assert set(RESERVED) == {MIXTURE, BASE, UNSPLIT, endpoints.AUTO}
