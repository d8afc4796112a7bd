"""Same bits on GPUs: what a process sets for it, and the mark of a segment that went on on another GPU."""

import os
from pathlib import Path

import pytest
import torch

from splitray.storage.store import Store
from splitray.training import loop
from splitray.training.engine import Engine
from splitray.training.exact import use_exact
from splitray.training.loop import Interrupted, train
from splitray.training.model import build
from splitray.training.process import join_world
from splitray.training.tree import Leaf
from tests.support import tiny, worlds

SETTINGS = tiny.training()


@pytest.mark.parametrize(("other", "marked"), [("H100", True), ("A100", False)])
def test_a_segment_that_goes_on_on_another_gpu_says_so(
    other: str, marked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (segment, *_) = tiny.segments(tiny.make_recipe(), Leaf(8 * 64))
    store, recorder = Store(tmp_path), worlds.Recorder(stop_before=worlds.STOP_AFTER)
    monkeypatch.setattr(loop, "gpu_software", lambda: {"model": "A100", "driver": "580.1"})
    with pytest.raises(Interrupted):
        train(segment, recorder, store, SETTINGS, recorder.hooks)
    monkeypatch.setattr(loop, "gpu_software", lambda: {"model": other, "driver": "580.1"})
    made = train(segment, worlds.Recorder(), store, SETTINGS)
    assert made.meta["gpu"]["model"] == other
    found = [(m["from"]["gpu"]["model"], m["to"]["gpu"]["model"]) for m in made.meta["resharded"]]
    assert found == ([("A100", "H100")] if marked else [])


def test_on_cpus_nothing_is_set() -> None:
    before = dict(os.environ)
    use_exact(True)
    assert not torch.are_deterministic_algorithms_enabled() and dict(os.environ) == before


@pytest.mark.gpu
def test_two_runs_on_a_gpu_give_the_same_bits() -> None:
    use_exact(True)
    try:
        join_world()
        found = []
        for _ in range(2):
            engine = Engine(build(tiny.make_recipe()), tiny.make_recipe(), SETTINGS)
            for place in range(4):
                engine.step(tiny.order().sequences("a", 4 * place, 4), 1e-2)
            found.append([p.detach().cpu().clone() for p in engine.lm.parameters()])
            engine.close()
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    finally:
        use_exact(False)
