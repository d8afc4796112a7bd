"""A study as a user runs it: killed, started again, and finished; what it leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from splitray.results.study import ARMS, Answer, StudyRun, read
from splitray.results.study_summary import StudySummary
from splitray.storage.keys import LossKey
from tests.support import ROOT
from tests.support.studies import study, write_given

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def start(home: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    command = [sys.executable, str(ROOT / "jobs/study.py"), "--config", "study.yaml"]
    return subprocess.Popen(
        command, cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def losses(home: Path) -> list[Path]:
    return [p for p in (home / "store/done").glob("loss-*.json") if LossKey.match(p.stem)]


def test_a_study_is_killed_and_finished(tmp_path: Path) -> None:
    write_given(tmp_path / "gpt")
    given = {"path": str(tmp_path / "gpt"), "arms": ["general", "filtered"], "learning_rate": 1e-3}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study(tmp_path, given=[given])))
    job = start(tmp_path)
    deadline = time.monotonic() + 300
    while not losses(tmp_path):
        assert job.poll() is None, job.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert not (tmp_path / "run/stages/lines.json").exists()
    trained = {p.name for p in (tmp_path / "store/done").glob("seg-*.json")}
    times = {name: (tmp_path / "store/done" / name).stat().st_mtime_ns for name in trained}
    job = start(tmp_path)
    out, _ = job.communicate(timeout=600)
    assert job.returncode == 0, out[-3000:]
    assert all((tmp_path / "store/done" / name).stat().st_mtime_ns == then for name, then in times.items())
    runs, answers = read(StudyRun, tmp_path / "run/study.parquet"), read(Answer, tmp_path / "run/answers.parquet")
    measures = {"loss/domain", "loss/general", "bits/domain", "bits/general"}
    measures |= {f"exam/bar/{name}" for name in ("nats_per_byte", "accuracy", "margin")}
    assert {run.measure for run in runs} == measures
    points = 4 * len(ARMS) * 3 + 2 * 3
    assert len(runs) == points * len(measures) and len(answers) == points * 8
    assert {run.root: run.model for run in runs if run.tokens == 0} == {"own": "h24-l1", "given": "gpt"}
    loss = {(r.model, r.arm, r.tokens): r.value for r in runs if r.measure == "loss/domain"}
    spent = {(r.model, r.arm, r.tokens): r.flops for r in runs}
    for (model, arm, tokens), value in loss.items():
        assert spent[model, arm, tokens] == spent[model, "general", tokens]
        if tokens == 0:
            assert value == loss[model, "general", 0], "all arms start from one model"
        elif arm in ("filtered", "mix") and model != "gpt":  # which has only begun to learn
            assert value < loss[model, "general", tokens], "the domain's vocabulary is its own"
    forgot = {(r.model, r.arm, r.tokens): r.value for r in runs if r.measure == "loss/general"}
    assert all(forgot[m, "filtered", t] > forgot[m, "mix", t] for m, a, t in forgot if a == "mix" and t == 4096)
    held = [run for run in runs if run.held_out]
    assert {run.model for run in held} == {"h24-l1"}
    sealed = (tmp_path / "run/forecast.json").stat().st_mtime
    record = json.loads((tmp_path / "run/stages/held-out.json").read_text())
    assert sealed < record["began"], "the forecast is older than what it is of"
    found = json.loads((tmp_path / "run/analysis.json").read_text())
    assert found["score"]["points"] and found["analysis"]["curves"] and found["analysis"]["advice"]
    summary = StudySummary.parse(json.loads((tmp_path / "run/study.json").read_text()))
    assert summary.filter is not None and summary.forecasts and {r.model for r in summary.regrets} == {"h24-l1"}
    page = (tmp_path / "run/report/index.html").read_text()
    assert 'id="fig-curves"' in page and 'id="fig-forecasts"' in page and 'id="text"' in page
    job = start(tmp_path)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 0 and "nothing to train" in out
