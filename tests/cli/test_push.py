"""An upload, against a stand-in of the hub on this machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitray.cli.main import main
from tests.support import ROOT
from tests.support.hub import GOOD, Hub, running_hub

REPOSITORY = "me/models"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in speaks LFS, as the hub also does
        monkeypatch.setenv("HF_TOKEN", GOOD)
        yield running


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_goes_up_once(run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "--to", REPOSITORY]) == 0
    assert hub.private == {REPOSITORY: True}
    assert f"{hub.url}/{REPOSITORY}" in capsys.readouterr().out
    for name in ("README.md", "base/model.safetensors", "specialists/0_sea/README.md", "router/router.json"):
        assert hub.files[name] == (run / name).read_bytes(), name
    assert not [name for name in hub.files if "config.yaml" in name or "events" in name or "summary" in name]
    assert b"/home/somebody" not in b"".join(hub.files.values()), "paths of this machine stay here"
    assert hub.commits[-1] == ["README.md", "TRAINING_CONTENT.md"], "the card comes when all models are there"
    assert len(hub.validated) >= 6, "the hub has looked at every card"
    commits = len(hub.commits)
    assert main(["push", str(run), "--to", REPOSITORY]) == 0
    assert len(hub.commits) == commits and len(hub.sent) == len(set(hub.sent)), "nothing is sent twice"


def test_one_model_is_a_repository_of_its_own(run: Path, hub: Hub) -> None:
    assert main(["push", str(run), "--to", REPOSITORY, "--model", "specialists/1_kitchen"]) == 0
    assert {"README.md", "model.safetensors", "config.json", "checksums.json"} <= hub.files.keys()
    assert not [name for name in hub.files if "/" in name]
    assert main(["push", str(run), "--to", REPOSITORY, "--model", "specialists/9_none"]) == 2


def test_an_upload_that_is_cut_off_goes_on(run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.fail_after = 2
    assert main(["push", str(run), "--to", REPOSITORY]) != 0
    assert "README.md" not in hub.files and len(hub.sent) == 2
    assert GOOD not in capsys.readouterr().err
    hub.fail_after = None
    assert main(["push", str(run), "--to", REPOSITORY]) == 0
    assert len(hub.sent) == len(set(hub.sent)) == 5 and "README.md" in hub.files


def test_a_dry_run_sends_nothing(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert main(["push", str(run), "--to", REPOSITORY, "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert "base/model.safetensors" in listed and "nothing was uploaded" in listed and "(private)" in listed
    assert "README.md has" in listed and "blanks to fill in" in listed
    assert hub == Hub(url=hub.url)


def test_what_may_not_go_up(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*more: str) -> str:
        code = main(["push", str(run), "--to", REPOSITORY, *more])
        assert code in (1, 2) and not hub.files
        return capsys.readouterr().err

    assert "gets no documents with blanks: fill them in" in refused("--public")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the hub refuses me/models (401)" in (told := refused()) and "hf_wrong" not in told
    monkeypatch.delenv("HF_TOKEN")
    assert "set HF_TOKEN" in refused()
    monkeypatch.setenv("HF_TOKEN", GOOD)
    card = run / "base/README.md"
    good = card.read_text()
    card.write_text(good.replace("pipeline_tag: text-generation", "pipeline_tag: nonsense"))
    assert "base/README.md: the hub refuses its metadata" in refused()
    card.write_text(good.replace("tags:", "tags: ["))
    assert "base/README.md: its metadata is no YAML" in refused()
    card.write_text(good)
    weights = run / "base/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "is not what was written: base/model.safetensors" in refused()
    shutil.copy(run / "trunk/model.safetensors", weights)
    shutil.rmtree(run / "base")
    (run / "stages/report.json").unlink()
    (run / "stages/evaluate.json").unlink()
    assert "is not finished: stage evaluate is missing" in refused()


def test_the_command_takes_the_endpoint_of_the_environment(run: Path, hub: Hub) -> None:
    settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": GOOD, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "splitray", "push", str(run), "--to", REPOSITORY, "--model", "base"]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{hub.url}/{REPOSITORY}", done
    assert json.loads(hub.files["splitray.json"]) == json.loads((run / "base/splitray.json").read_text())
    assert GOOD not in done.stdout + done.stderr
