"""A run with given domains, weights by domain and replay: what it trains, says and writes beside its models."""

import json
from pathlib import Path
from typing import Any

import pytest

from splitray.pipeline.verify import verify
from splitray.report import write
from splitray.results.folders import README
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.tree import MIXTURE
from tests.support.finished import NAMES, write_finished

WEIGHTS = {"0_sea": 0.5, "1_kitchen": 0.25, "2_court": 0.25}
GIVEN: dict[str, Any] = {
    "corpus": {"sources": {name: f"/home/somebody/private/{name}.jsonl" for name in NAMES.values()}},
    "weights": WEIGHTS,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """By share of replay, in one store."""
    root = tmp_path_factory.mktemp("given")
    return {share: write_finished(root / str(share), **GIVEN, training={"replay_share": share}) for share in (0.0, 0.5)}


def summary(run: Path) -> Summary:
    return Summary.parse(Folder(run).read_checksummed("summary.json"))


def test_weights_decide_the_specialists_tokens_and_the_means(runs: dict[float, Path]) -> None:
    for run in runs.values():
        found = summary(run)
        assert {d.name: d.weight for d in found.domains} == WEIGHTS and found.given
        assert found.specialists is not None and found.evaluation is not None
        own = {s.domain: s.tokens for s in found.specialists}
        after = sum(own.values())
        assert own == {d: pytest.approx(w * after, abs=256) for d, w in WEIGHTS.items()} and after > 0
        _, *rows = found.evaluation.matrix.loss
        own_loss = sum(w * row[place] for place, (w, row) in enumerate(zip(WEIGHTS.values(), rows, strict=True)))
        assert found.evaluation.routed.known_loss == pytest.approx(own_loss)


def test_forgetting_is_the_mixtures_loss_before_and_after(runs: dict[float, Path]) -> None:
    """By the loss matrix; and half of the stretch replayed forgets less on the other domains."""
    elsewhere = {}
    for share, run in runs.items():
        evaluation = summary(run).evaluation
        assert evaluation is not None
        base, *rows = (sum(w * x for w, x in zip(WEIGHTS.values(), row, strict=True)) for row in evaluation.matrix.loss)
        assert [f.domain for f in evaluation.forgetting] == list(WEIGHTS)
        for row, told in zip(rows, evaluation.forgetting, strict=True):
            assert (told.before, told.after) == (pytest.approx(base), pytest.approx(row))
            assert told.difference.value == pytest.approx(row - base)
        elsewhere[share] = [f.elsewhere.value for f in evaluation.forgetting if f.elsewhere is not None]
    assert all(less < more for less, more in zip(elsewhere[0.5], elsewhere[0.0], strict=True))


def test_replay_starts_from_the_same_trunk(runs: dict[float, Path]) -> None:
    records = {s: json.loads((run / "stages/base.json").read_text())["result"]["key"] for s, run in runs.items()}
    assert records[0.0] == records[0.5]
    keys = [{s.key for s in summary(run).specialists or ()} for run in runs.values()]
    assert not keys[0] & keys[1]
    store = Store(runs[0.5].parent / "store")
    for key in keys[1]:
        published = store.find(key)
        assert published is not None
        assert all((p["replay"] == 0.5) == (p["source"] != MIXTURE) for p in published.recorded("phases"))


def test_the_folder_verifies_and_its_documents_say_what_was_given(runs: dict[float, Path]) -> None:
    run = runs[0.5]
    assert not verify(Folder(run)).faults
    card = (run / "specialists/0_sea" / README).read_text()
    assert "Domains and their names are given by the sources." in card and "clusters" not in card
    assert "| after the split | 0_sea, and 0.5 of it replayed from all domains |" in card
    assert "/home/somebody" not in card and "`0_sea.jsonl`" in card
    told = (run / "TRAINING_CONTENT.md").read_text()
    assert "in 3 domains that the sources name" in told and "clustered" not in told


def test_the_page_shows_forgetting_and_weights(runs: dict[float, Path], tmp_path: Path) -> None:
    write(summary(runs[0.5]), None, None, None, Folder(tmp_path))
    page = (tmp_path / "report/index.html").read_text()
    assert "What the specialists forgot" in page and "50\N{NO-BREAK SPACE}% of their tokens were mixture text" in page
    assert "to the domain that they are given" in page and "those that the configuration gives" in page
