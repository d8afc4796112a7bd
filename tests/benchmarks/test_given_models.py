"""The benchmark of given models with tiny folders: both loops start from the same loss, and every number is there."""

import json
from pathlib import Path

import pytest

from benchmarks.given_models import Batch, compare, make


@pytest.mark.parametrize("name", ["gemma-50k"])
def test_both_loops_train_the_same(name: str, tmp_path: Path) -> None:
    folder = make(name, tmp_path / name, None, tiny=True)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 512
    told = compare(folder, Batch(4, 2, 32), threads=1, laps=2)
    assert told["ours"]["first_loss"] == pytest.approx(told["plain"]["first_loss"], abs=5e-3)
    assert len(told["speed_ratio"]["laps"]) == 2 and told["speed_ratio"]["median"] > 0
    assert min(told[name]["peak_bytes"] for name in ("ours", "plain")) > 1e8
