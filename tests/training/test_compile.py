"""Compilation: many sizes in one process, as a host of the ladder has them, a spoilt cache, and models it fails on."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from splitray.training.engine import Engine
from splitray.training.head import NextToken
from splitray.training.model import build
from splitray.training.process import join_world
from splitray.training.settings import ModelShape
from tests.support import tiny

ROOT = Path(__file__).resolve().parents[2]


def test_the_ninth_size_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: real(call, **options | {"backend": counter}))
    tokens = torch.randint(0, 64, (1, 8))
    for place in range(10):
        shape = ModelShape(hidden=16 + 8 * place, layers=1, heads=2)
        made = replace(tiny.make_recipe(tiny.training(sequence_length=8)), shape=shape)
        model = NextToken(build(made), made, whole=False)
        model.mark_compiled("whole")
        model(tokens, tokens)
    assert counter.frame_count >= 10


TRAIN = """
import logging, torch
from tests.support import tiny
from splitray.training.engine import Engine
from splitray.training.process import join_world
from splitray.training.model import build
logging.basicConfig(format="%(message)s")
torch.set_num_threads(1)
join_world()
made = tiny.make_recipe()
engine = Engine(build(made), made, tiny.training(compile="blocks"))
print(engine.compiled, [round(engine.step(tiny.order().sequences("a", 0, 4), 1e-2).loss, 4) for _ in range(2)])
"""


def trained(cache: Path) -> tuple[str, str]:
    """What a process prints and warns of that trains two compiled steps with its compiled code in a folder."""
    told = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TMPDIR": str(cache.parent)}
    done = subprocess.run([sys.executable, "-c", TRAIN], cwd=ROOT, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@pytest.mark.slow
def test_libraries_cut_off_by_a_kill_do_not_stop_later_starts(tmp_path: Path) -> None:
    cache = tmp_path / "compiled"
    first, _ = trained(cache)
    libraries = list(cache.rglob("*.so"))
    assert first.startswith("blocks") and libraries
    for library in libraries:
        library.write_bytes(b"")  # as a process leaves them that is killed while it compiles
    again, warned = trained(cache)
    assert again == first and f"{cache} held what could not be loaded" in warned
    assert not cache.exists(), "put aside, so that the next start does not meet them"
    assert not list(tmp_path.glob("*spoilt*")) and not list(tmp_path.glob("splitray-compile-*"))


def test_a_model_that_does_not_compile_is_trained_uncompiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no compiler here")

    join_world()
    made = tiny.make_recipe()
    real = torch.compile
    losses = []
    for way in (False, "blocks"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "compile", lambda call, **options: real(call, **options | {"backend": fails}))
            engine = Engine(build(made), made, tiny.training(compile=way))
        assert engine.compiled is None
        losses.append([engine.step(tiny.order().sequences("a", 0, 4), 1e-2).loss for _ in range(2)])
        engine.close()
    assert losses[0] == losses[1]
    assert "the model is trained uncompiled" in caplog.text and "no compiler here" in caplog.text


def test_a_setting_means_blocks_on_gpus_and_nothing_on_cpus_by_default() -> None:
    def ways(gpu: bool, *settings: Any) -> list[str | None]:
        return [tiny.training(compile=setting).compiles(gpu, 10_000_000) for setting in settings]

    assert ways(True, None, True, False, "whole") == ["blocks", "blocks", None, "whole"]
    assert ways(False, None, True, False, "blocks") == [None, "whole", None, "blocks"]
    assert tiny.training().compiles(True, 9_999_999) is None, "trained before it is compiled"
    assert tiny.training(compile=True).compiles(True, 9_999_999) == "blocks"
