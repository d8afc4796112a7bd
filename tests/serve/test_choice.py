"""The model `auto` where models are black boxes: its arithmetic, its settings, and what is said without vLLM."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
from hypothesis import given
from hypothesis import strategies as st

from splitray.cli.main import main
from splitray.errors import UserError
from splitray.evaluate.mixture import OPEN, Mixture, Sampling, load_mixture, parts_of
from splitray.serve import needs
from splitray.serve.choice import prompt_nats, weights
from splitray.serve.settings import ServeSettings
from tests.support.ensemble import LENGTH, plain_nats, write_run
from tests.support.planted import documents


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("prior", ["router", "uniform"])
def test_weights_are_the_exact_mixtures(run: Path, prior: str) -> None:
    """Those with which it writes its first token, from nothing but the models' own likelihoods of the prompt."""
    mixture: Mixture = load_mixture(run, prior=prior, gate=OPEN)
    parts = parts_of(run, prior)
    assert tuple(parts.places) == mixture.names and parts.max_length == mixture.max_length
    heaviest = set()
    for prompt in [row["text"][:40] for row in documents(domains=2, each=3)] + [""]:
        step = next(mixture.stream([prompt], Sampling(max_tokens=1, temperature=0)))
        tokens = parts.encoder.encode([prompt])[0][:-1]
        assert len(tokens) <= LENGTH, "one window"
        own = [plain_nats(model, tokens, parts.encoder.end) if len(tokens) else [] for model in mixture.models]
        found = weights(parts.prior.log_weights([prompt])[0], np.stack(own, axis=1))
        assert found == pytest.approx(step.weights, abs=1e-4)
        heaviest.add(int(found.argmax()))
    assert len(heaviest) > 1, "prompts of two kinds are answered by two models"


@given(st.lists(st.floats(0, 40), min_size=3, max_size=3), st.integers(0, 400))
def test_weights_stay_weights_however_long_the_prompt(nats: list[float], tokens: int) -> None:
    found = weights(np.log(np.full(3, 1 / 3)), np.tile(nats, (tokens, 1)))
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    if tokens:
        assert nats[int(found.argmax())] == min(nats)


@dataclass
class Told:
    """As vLLM's `Logprob`."""

    logprob: float
    rank: int = 1


def test_an_engines_answer_is_read_for_the_tokens_that_were_asked_of() -> None:
    told = [None, {5: Told(-1.5), 9: Told(-0.5)}, {7: Told(-2.0)}]
    assert prompt_nats([0, 5, 7], told).tolist() == [1.5, 2.0]
    for tokens, wrong in (([0, 5, 8], told), ([0, 5], told), ([0, 5, 7], None), ([0, 5, 7], [None, None, told[2]])):
        with pytest.raises(ValueError, match="the engine"):
            prompt_nats(tokens, wrong)


def test_settings_of_vllm() -> None:
    assert ServeSettings().engine == "transformers"
    assert ServeSettings(engine="vllm", gpus=0.25).gpus == 0.25 and ServeSettings(engine="vllm", gpus=4).gpus == 4
    with pytest.raises(ValueError, match="whole GPUs, or a share of one"):
        ServeSettings(engine="vllm", gpus=1.5)


def test_without_vllm_it_says_so_before_anything_is_started(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from splitray.serve import deployment

    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == "vllm" else object())
    monkeypatch.setattr("splitray.executor.connect.connected", lambda: pytest.fail("Ray was started"))
    assert main(["serve", str(run), "--engine", "vllm"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'splitray[gpu,serve-gpu]'" in said and "environment of its own" in said
    monkeypatch.setenv("SPLITRAY_SERVE_TOKEN", "a token of at least sixteen")
    with pytest.raises(UserError, match="serve-gpu"):
        deployment.app(deployment.ServedRun(run=str(run), engine="vllm"))
    assert main(["serve", str(run), "--engine", "sglang"]) == 2
    assert main(["serve", str(run), "--engine", "vllm", "--gpus", "1.5"]) == 2
    assert "--gpus 1.5: Value error, vllm takes whole GPUs" in capsys.readouterr().err


def test_the_other_engine_imports_nothing_of_vllm() -> None:
    code = (
        "import sys, splitray.serve, splitray.serve.app, splitray.serve.deployment, splitray.cli.serve\n"
        "assert not {'vllm', 'ray.llm', 'ray.serve.llm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
