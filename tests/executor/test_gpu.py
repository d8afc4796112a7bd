"""A run that is to train on GPUs and cannot: one error, before anything is built or trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_job_ends_before_its_corpus_where_the_gpus_cannot_be_used(tmp_path: Path, accelerator: str) -> None:
    """Ray counts a GPU here that PyTorch cannot use, as it does under a driver that is too old."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that works")
    config = tmp_path / "config.yaml"
    demo = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    config.write_text(yaml.safe_dump(demo | {"resources": {"accelerator": accelerator}}))
    environment = {**os.environ, "RAY_OVERRIDE_RESOURCES": json.dumps({"GPU": 1.0})}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "jobs/split.py", "--config", str(config), "--run-dir", str(tmp_path / "runs/a")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert "the run trains on GPUs, and they cannot be used. node " in last, last
    assert "PyTorch" in last and "resources.accelerator: cpu" in last
    assert not list((tmp_path / "runs").rglob("done/corpus-*")) and not list((tmp_path / "runs/a/stages").glob("*"))
