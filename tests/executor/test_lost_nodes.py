"""A base whose second node drains, comes back and is killed, on a real cluster of two nodes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from splitray.corpus import Corpus
from splitray.evaluate.measure import measure
from splitray.storage.store import Published, Store
from splitray.training.data import Order
from splitray.training.loop import train
from splitray.training.tree import grow
from tests.support import ROOT, lost_nodes, tiny

pytestmark = pytest.mark.ray


def words(domain: str, count: int) -> list[str]:
    letters = {"a": "abcd", "b": "stuv"}[domain]
    return [" ".join(letters[(i * j) % 4] * (1 + (i + j) % 5) for j in range(60)) for i in range(1, count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Store, Corpus]:
    root = tmp_path_factory.mktemp("nodes") / "store"
    store = Store(root)
    key = tiny.write_corpus(store, {d: {"train": words(d, 60), "validation": words(d, 8)} for d in ("a", "b")})
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    env["RAY_worker_niceness"] = "0"  # by default 15, and a machine that does something else starves Ray's workers
    command = [sys.executable, "-m", lost_nodes.__name__, str(root), key, "drain", "grow", "kill"]
    ended = subprocess.run(command, env=env, text=True, capture_output=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads((root / "said.json").read_text()), store, Corpus.open(store, key)


def published(run: tuple[dict[str, Any], Store, Corpus]) -> Published:
    found = run[1].find(run[0]["key"])
    assert found is not None
    return found


def test_a_draining_node_s_group_checkpoints_in_time(run: Any) -> None:
    said = run[0]
    assert said["seconds"] < lost_nodes.GRACE / 2
    assert published(run).meta["resharded"][0]["tokens"] >= said["noticed"], "nothing was lost"
    assert said["preempted"] == 0, "a preemption is no failure"


def test_it_goes_on_with_the_workers_that_there_are(run: Any) -> None:
    said, meta = run[0], published(run).meta
    changes = [(r["from"]["world"], r["to"]["world"]) for r in meta["resharded"]]
    assert changes == [(2, 1), (1, 2), (2, 1)] and meta["world"] == 1
    drained, grown, killed = (r["tokens"] for r in meta["resharded"])
    assert drained < grown < killed and said["grown"] <= killed
    assert [d for d in said["devices"] if d] == [2.0, 1.0, 2.0, 1.0], "what is held follows the workers that there are"
    assert said["failures"] == 1, "the killed node"
    assert any("2 instead of 1" in line for line in said["said"])


def test_its_loss_is_that_of_an_undisturbed_run(run: Any, tmp_path: Path) -> None:
    said, _, corpus = run
    torch.set_num_threads(1)
    order = Order({d: corpus.tokens(d, "train") for d in corpus.domains}, tiny.WEIGHTS, 16, 0)
    store = Store(tmp_path)
    for segment in grow([lost_nodes.target(corpus)], lambda line: []):
        alone = train(segment, order, store, lost_nodes.SETTINGS)
    assert alone.key == said["key"]
    assert abs(measure(store, corpus, alone.key, ["a"], 500, "cpu")["a"]["loss"] - said["loss"]) < 1e-5
    assert abs(alone.meta["train_loss"] - published(run).meta["train_loss"]) < 1e-5
