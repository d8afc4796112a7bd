"""The main job on domains that a column gives, with weights by domain and replay, on Ray from text to report."""

from pathlib import Path

import pytest

import splitray
from splitray.config import Config
from splitray.corpus import Corpus
from splitray.pipeline.verify import verify
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import config, write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.slow]
WEIGHTS = {"sea": 0.5, "kitchen": 0.25, "court": 0.25}


def test_from_text_to_report(tmp_path: Path, ray_cluster: None) -> None:
    write_corpus(tmp_path / "corpus")
    values = config(tmp_path / "corpus")
    values["corpus"] |= {"domain_column": "kind", "group_column": "source"}
    values["training"] |= {"replay_share": 0.25}
    values["ladder"] |= {"domains": 3}
    values["law"] |= {"form": "release"}  # the only forms that can plan a split are of two stages
    values |= {"search": {"at": "off"}, "plan": {"min_pretrain_tokens": 24576}, "weights": WEIGHTS}
    values |= {"run_dir": str(tmp_path / "run"), "store": str(tmp_path / "store")}
    values["evaluate"] |= {"baselines": [1.0]}
    summary = splitray.run(Config(**values)).summary
    assert {d.name: d.weight for d in summary.domains} == WEIGHTS
    corpus = Corpus.open(Store(tmp_path / "store"), summary.corpus.key)
    for domain in corpus.domains:
        groups = {g for side in ("train", "validation") for g in corpus.groups(domain, side)}
        assert {group.partition("-")[0] for group in groups} == {domain}
    assert summary.evaluation is not None and summary.evaluation.routed.agreement > 0.9
    assert summary.ladder is not None and {row["replay_share"] for row in summary.ladder.table} == {0.25}
    assert summary.specialists is not None and summary.final_plan is not None
    own = {s.domain: s.tokens for s in summary.specialists}
    assert [f.domain for f in summary.evaluation.forgetting] == [d for d in corpus.domains if own[d]]
    assert {part.domain: part.weight for part in summary.final_plan.per_domain} == pytest.approx(WEIGHTS)
    assert any(own.values()), "nothing was split, so nothing was replayed after the plan"
    assert not verify(Folder(tmp_path / "run")).faults
    assert "What the specialists forgot" in (tmp_path / "run/report/index.html").read_text()
