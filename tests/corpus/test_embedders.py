"""The seam for embedders: one class, known by its name from the config to the router."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import adjusted_rand_score

from splitray.config import Config, dump, load, parse
from splitray.corpus import Corpus, CorpusSettings, Router, build_corpus
from splitray.corpus.build import corpus_key
from splitray.corpus.embedders import Embedder, load_embedder, register_embedder, registry, unit
from splitray.corpus.router import check_router
from splitray.errors import UserError
from splitray.runtime import plugins
from splitray.settings import Settings, operational
from splitray.storage.checksum import fingerprint
from splitray.storage.store import Store
from tests.support import CONFIGS, ROOT, STUDIES
from tests.support.configs import PLAIN
from tests.support.planted import documents, write_jsonl

EXAMPLE = "tests.support.letters"  # what docs/extending.md shows


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers goes with it."""
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of a user, not yet imported."""
    monkeypatch.delitem(sys.modules, EXAMPLE, raising=False)
    return EXAMPLE


def config(**corpus: Any) -> dict[str, Any]:
    return {**PLAIN, "corpus": {**PLAIN["corpus"], **corpus}}


def parsed(values: dict[str, Any]) -> Config:
    return parse(yaml.safe_dump(values).encode(), "config t")


def test_keys_of_corpora_are_what_they_were() -> None:
    """Identity of the shipped configs' corpora in the first release: sections of all embedders, used or not."""
    identities = {p.name: fingerprint(load(p).corpus.identity()) for p in set(CONFIGS.glob("*.yaml")) - set(STUDIES)}
    assert (
        identities.items()
        >= {
            "demo.yaml": "3085e65c22621f86fa3c",
            "equal_compute.yaml": "7cf507d01555aa2e8c23",
            "equal_compute_quick.yaml": "14e9bcb0faf5381b807e",
            "shared.yaml": "8f6f26fcd45bea3b3000",
        }.items()
    )


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        (
            {"embedder": "sentense"},
            ["corpus.embedder", "'sentense' is not known", "choose sentence-transformers, tfidf", "plugins"],
        ),
        ({"embedder": 3}, ["corpus.embedder", "text is needed"]),
        ({"letters": {"alphabet": "ab"}}, ["unknown key corpus.letters"]),
        ({"tfidf": {"dimension": 8}}, ["unknown key corpus.tfidf.dimension"]),
    ],
)
def test_a_wrong_name_is_refused_when_the_config_is_loaded(corpus: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parsed(config(**corpus))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_plugin_brings_its_embedder_and_its_section(plugin: str) -> None:
    named = {"plugins": [plugin], **config(embedder="letters")}
    loaded = parsed(named)
    assert loaded.corpus.identity()["letters"] == {"alphabet": "abcdefghijklmnopqrstuvwxyz"}, "defaults are resolved"
    assert parse(dump(loaded).encode(), "again") == loaded, "what a run folder holds is read back"
    other = parsed(named | config(embedder="letters", letters={"alphabet": "xyz"}))
    assert corpus_key(other.corpus, 0, []) != corpus_key(loaded.corpus, 0, [])
    assert "plugins" not in loaded.identity() and "letters" not in parsed(config()).corpus.identity()
    for section, words in (
        ({"alphabe": "x"}, "unknown key corpus.letters.alphabe"),
        ({"alphabet": 1}, "corpus.letters.alphabet: "),
    ):
        with pytest.raises(UserError, match=words):
            parsed(named | config(embedder="letters", letters=section))


@pytest.mark.parametrize(
    ("name", "words"), [("no_such_module", "no_such_module cannot be imported"), ("a b", "no name")]
)
def test_a_plugin_that_cannot_be_imported(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parsed({"plugins": [name], **config()})


def test_an_installed_package_offers_its_embedder(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point, without a word in the config beside the name."""
    offered = EntryPoint("letters", f"{plugin}:Letters", registry.GROUP)
    monkeypatch.setattr(
        plugins, "entry_points", lambda group, name=None: [offered] if name in (None, "letters") else []
    )
    with pytest.raises(UserError, match="choose sentence-transformers, tfidf, letters"):
        parsed(config(embedder="nothing"))
    assert parsed(config(embedder="letters")).corpus.embedder == "letters"


def test_two_embedders_of_one_name(plugin: str) -> None:
    parsed({"plugins": [plugin], **config()})

    class Other(Embedder):
        name = "letters"

        def embed(self, texts: list[str]) -> np.ndarray:
            return np.zeros((len(texts), 1), np.float32)

    with pytest.raises(UserError, match="two embedders are named 'letters'"):
        register_embedder(Other)


def test_an_artifact_of_an_embedder_that_is_not_here(plugin: str, tmp_path: Path) -> None:
    loaded = parsed({"plugins": [plugin], **config(embedder="letters")})
    letters = registry.find_embedder("letters")
    letters(loaded.corpus.embedder_settings).save(tmp_path / "saved")
    again = load_embedder(tmp_path / "saved")
    assert type(again) is letters and again.settings == loaded.corpus.embedder_settings
    del registry.REGISTRY["letters"]
    with pytest.raises(UserError, match="embedder 'letters' is not known: choose sentence-transformers, tfidf"):
        load_embedder(tmp_path / "saved")


class NeedySettings(Settings):
    device: str = operational("none", "where it runs")


def test_the_embedder_says_what_the_router_needs() -> None:
    @register_embedder
    class Needy(Embedder):
        name = "needy"
        settings_class = NeedySettings

        def embed(self, texts: list[str]) -> np.ndarray:
            return np.zeros((len(texts), 1), np.float32)

        @classmethod
        def check(cls, settings: NeedySettings) -> None:
            raise UserError(f"corpus.needy.device: {settings.device} is not here")

    with pytest.raises(UserError, match=r"corpus\.needy\.device: gpu is not here"):
        check_router(CorpusSettings(sources=["x"], domains=2, embedder="needy", needy={"device": "gpu"}))
    check_router(CorpusSettings(sources=["x"], domains=2))


def test_core_installs_can_load_a_config() -> None:
    """Without the engines: the registry imports none of them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('sklearn', 'threadpoolctl', 'torch', 'ray', 'faiss')));"
        "from splitray.config import load; print(load('configs/demo.yaml').corpus.embedder)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "tfidf"


@pytest.mark.ray
def test_ten_lines_build_a_corpus_and_route(plugin: str, tmp_path: Path, ray_cluster: None) -> None:
    """The workers get the class with their work: nobody registers it there."""
    rows = documents(domains=2, each=100)
    for row in rows:  # two kinds of text that letters alone tell apart
        row["text"] = (
            row["text"].translate(str.maketrans("abcdefghijklm", "nopqrstuvwxyz")) if row["domain"] else row["text"]
        )
    source = write_jsonl(tmp_path / "d.jsonl", rows)
    named = config(
        sources=[str(source)],
        embedder="letters",
        id_column="id",
        group_column="group",
        validation_share=0.2,
        tokenizer={"vocabulary": 300},
    )
    corpus: Corpus = build_corpus(parsed({"plugins": [plugin], **named}).corpus, 0, Store(tmp_path / "store"))
    found = {i: k for k in range(2) for s in ("train", "validation") for i in corpus.documents(k, s)["id"].to_pylist()}
    assert len(found) == 200 and adjusted_rand_score([r["domain"] for r in rows], [found[r["id"]] for r in rows]) == 1
    router = corpus.router()
    assert router.route([row["text"] for row in rows]).tolist() == [found[row["id"]] for row in rows]
    router.save(tmp_path / "router")
    assert Router.load(tmp_path / "router").route([rows[0]["text"]]) == [found[rows[0]["id"]]]
    # what stands in the docs is this: the vectors are those of a count by hand
    text = "A bag, a cab."
    vector = router.embedder.embed([text])[0]
    counts = np.array([sum(c == letter for c in text.lower()) for letter in "abcdefghijklmnopqrstuvwxyz"], float)
    np.testing.assert_allclose(vector, counts / np.linalg.norm(counts), rtol=1e-6)
    assert unit(counts[None]).shape == (1, 26)
