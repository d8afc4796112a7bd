"""A base on two nodes loses one of them, on a real cluster: it drains, with notice, or it is killed without."""

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
from splitray.storage.store import Store
from splitray.training.data import Order
from splitray.training.loop import train
from splitray.training.tree import grow
from tests.support import ROOT, lost_nodes, tiny

pytestmark = pytest.mark.ray


def words(domain: str, count: int) -> list[str]:
    letters = {"a": "abcd", "b": "stuv"}[domain]
    return [" ".join(letters[(i * j) % 4] * (1 + (i + j) % 5) for j in range(60)) for i in range(1, count)]


def write(root: Path) -> tuple[Store, str]:
    store, made = Store(root), {d: {"train": words(d, 60), "validation": words(d, 8)} for d in ("a", "b")}
    return store, tiny.write_corpus(store, made)


def told(root: Path, key: str, part: str) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    env["RAY_worker_niceness"] = "0"  # by default 15, and a machine that does something else starves Ray's workers
    command = [sys.executable, "-m", lost_nodes.__name__, str(root), key, part]
    ended = subprocess.run(command, env=env, text=True, capture_output=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return dict(json.loads((root / "said.json").read_text()))


@pytest.mark.parametrize("part", ["drain", "kill"])
def test_a_base_that_loses_a_node_ends_with_one_worker(part: str, tmp_path: Path) -> None:
    store, key = write(tmp_path / "store")
    check(told(tmp_path / "store", key, part), store, Corpus.open(store, key), tmp_path / "alone", part)


def check(said: dict[str, Any], store: Store, corpus: Corpus, beside: Path, part: str) -> None:
    found = store.find(said["key"])
    assert found is not None
    meta = found.meta
    (change,) = meta["resharded"]
    assert (change["from"]["world"], change["to"]["world"], meta["world"]) == (2, 1, 1)
    assert [d for d in said["devices"] if d] == [2.0, 1.0], "what is held follows the workers that there are"
    assert any("1 instead of 2, as nodes are missing" in line for line in said["said"])
    if part == "drain":
        assert said["seconds"] < lost_nodes.GRACE / 2, "the checkpoint came too late"
        assert change["tokens"] >= said["noticed"], "what was trained before the notice is lost"
        assert said["failures"] == 0, "a preemption is no failure"
    torch.set_num_threads(1)
    order = Order({d: corpus.tokens(d, "train") for d in corpus.domains}, tiny.WEIGHTS, 16, 0)
    undisturbed = Store(beside)
    for segment in grow([lost_nodes.target(corpus)], lambda line: []):
        alone = train(segment, order, undisturbed, lost_nodes.SETTINGS)
    assert (alone.key, alone.meta["resharded"]) == (said["key"], [])
    loss = measure(undisturbed, corpus, alone.key, ["a"], 500, "cpu")["a"]["loss"]
    assert abs(loss - said["loss"]) < 1e-5
    assert abs(alone.meta["train_loss"] - meta["train_loss"]) < 1e-5
