"""A run folder as one model."""

from pathlib import Path

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.evaluate.mixture import OPEN, alone, load_mixture
from tests.support.ensemble import write_run
from tests.support.planted import documents


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


def test_the_prompt_decides_where_the_weights_start(run: Path) -> None:
    mixture = load_mixture(run)
    assert mixture.names == ("0_first", "1_second", "base")
    texts = {row["domain"]: row["text"] for row in documents(domains=2, each=60, seed=0)}
    start = np.exp(mixture.prior.log_weights([texts[0], texts[1]]))
    np.testing.assert_allclose(start.sum(axis=1), 1)
    np.testing.assert_allclose(start[:, 2], 1 / 3, atol=1e-9)
    assert start[0].argmax() == 0 and start[1].argmax() == 1
    uniform = load_mixture(run, prior="uniform")
    np.testing.assert_allclose(np.exp(uniform.prior.log_weights(["a"])), 1 / 3)


def test_each_model_alone_is_the_folder_that_has_its_name(run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    mixture = load_mixture(run, gate=OPEN)
    for name, single in alone(mixture).items():
        place = run / ("base" if name == "base" else f"specialists/{name}")
        model, tokens = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
        text = "two words here"
        ids = tokens(f"{tokens.eos_token}{text}{tokens.eos_token}", return_tensors="pt")["input_ids"]
        loss = model(input_ids=ids, labels=ids).loss.item()
        assert single.score([text])[0].nats.mean() == pytest.approx(loss, abs=1e-3)


def test_what_is_no_finished_run_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UserError, match="no specialists"):
        load_mixture(tmp_path)
    other = write_run(tmp_path / "other")
    (other / "specialists/0_first").rename(other / "specialists/0_last")
    with pytest.raises(UserError, match="not those of its router"):
        load_mixture(other)


def test_the_plugins_of_a_run_are_imported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose router has an embedder of the user's own, in a process that has not heard of it."""
    place = write_run(tmp_path / "run")
    source = (
        "from splitray.corpus.embedders.registry import register_embedder\n"
        "from splitray.corpus.embedders.tfidf import TfidfEmbedder\n\n\n"
        "@register_embedder\n"
        "class Mine(TfidfEmbedder):\n"
        '    name = "mine_of_the_run"\n'
    )
    file = place / "router/embedder/embedder.json"
    file.write_text(file.read_text().replace('"tfidf"', '"mine_of_the_run"'))
    with pytest.raises(UserError, match="mine_of_the_run"):
        load_mixture(place)
    (place / "config.yaml").write_text("name: run\nplugins: [my_embedder_of_the_run]\n")
    with pytest.raises(UserError, match="my_embedder_of_the_run cannot be imported"):
        load_mixture(place)
    (tmp_path / "my_embedder_of_the_run.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_mixture(place).score(["word"])[0].nats.size
