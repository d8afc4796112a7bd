"""Signals to the driver of a real run, and two runs that share a cluster of two CPUs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from splitray.cli.signals import LINE
from tests.support import ROOT
from tests.support.clusters import joined
from tests.support.configs import config, write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """A cluster of two CPUs that drivers join, as the environment that they need."""
    given = os.environ.get("SPLITRAY_TEST_RAY")  # one that is up already
    if given:
        yield dict(os.environ) | {"RAY_ADDRESS": given}
        return
    with joined(2) as head:
        yield head.environment


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stops")
    write_corpus(home / "corpus")
    return home


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """A run whose test has failed would keep the cluster's CPUs from the tests that follow."""
    yield
    while _started:
        _started.pop().kill()


_HOLDER = """
import sys, time, ray
ray.init(log_to_driver=False)
class Holder: pass
held = ray.remote(num_cpus=2)(Holder).options(name="neighbour").remote()
ray.get(held.__ray_ready__.remote())
print("held", flush=True)
time.sleep(3600)
"""


@contextmanager
def neighbour(cluster: dict[str, str]) -> Iterator[None]:
    """Another job holds every CPU of the cluster."""
    command = [sys.executable, "-c", _HOLDER]
    with subprocess.Popen(command, env=cluster, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.kill()


def start(home: Path, environment: dict[str, str], name: str, *more: str) -> subprocess.Popen[str]:
    plain = config(home / "corpus") | {"name": name}
    (home / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", f"{name}.yaml", *more]
    return subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(
            signal.SIGHUP, signal.SIG_DFL
        ),  # `nohup make test` passes on that it is ignored
    )


def when(job: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1200
    while not ready():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_driver_that_waits_for_its_ladder(
    home: Path, cluster: dict[str, str], number: signal.Signals
) -> None:
    """The driver is in `ray.wait`. What was trained is kept, the documented line is the last, the exit code is 1."""
    # long segments and no checkpoint by the clock: whatever is kept, the stop has kept
    more = ["--set", "training.checkpoint_seconds=3600", "--set", "ladder.pretrain_tokens=[6144, 6144000]"]
    more += ["--set", "ladder.max_share=100000", "--until", "ladder", "--run-dir", f"{number.name}/run"]
    job = start(home, cluster, "stopped", *more)
    store = home / number.name / "store/done"
    when(job, lambda: any(store.glob("seg-*")))  # the short trunks are there, so the long ones have begun
    time.sleep(3)
    job.send_signal(number)
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 1 and out.splitlines()[-1] == LINE and "Traceback" not in out, out[-3000:]
    assert any(store.glob("part-*")), "no worker wrote a checkpoint"


def test_two_runs_share_a_cluster_of_two_cpus(home: Path, cluster: dict[str, str]) -> None:
    """Each once kept an idle worker while its last segment waited for a second one: both stood still for ever."""
    jobs = [start(home, cluster, n, "--until", "ladder", "--run-dir", f"{n}/run") for n in ("one", "two")]
    for name, job in zip(("one", "two"), jobs, strict=True):
        out, _ = job.communicate(timeout=1500)
        assert job.returncode == 0, out[-3000:]
        assert json.loads((home / name / "run/stages/ladder.json").read_text())["work"]["failures"] == 0


def heard(job: subprocess.Popen[str], words: str) -> str:
    """The first line of a job's output that holds some words."""
    assert job.stdout is not None
    lines = []
    for line in job.stdout:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError("".join(lines[-40:]))


def test_a_run_says_what_it_waits_for(home: Path, cluster: dict[str, str]) -> None:
    """A pass of Ray Data and a plain task, on a cluster whose CPUs an actor of another job holds."""
    more = ["--run-dir", "waits/run", "--set", "training.precision=auto", "--until"]
    with neighbour(cluster):
        job = start(home, cluster, "waits", *more, "corpus")
        line = heard(job, "waiting for a free CPU")
        assert "for the corpus, held by neighbour of another job" in line
    assert job.communicate(timeout=600) and job.returncode == 0
    for measured in (home / "waits/run/precision.json", *(home / "waits/store/done").glob("precision-*")):
        measured.unlink()
    with neighbour(cluster):
        job = start(home, cluster, "waits", *more, "ladder")
        line = heard(job, "waiting for a free CPU")
        assert "for the measurement of precision, held by neighbour of another job" in line
        job.send_signal(signal.SIGTERM)
        assert job.communicate(timeout=120) and job.returncode == 1


def test_what_no_node_can_have_is_said(home: Path, cluster: dict[str, str]) -> None:
    """A capacity to which a cluster may grow says nothing of one node's size."""
    more = [
        "--set",
        "training.threads=3",
        "--set",
        "resources.capacity=6",
        "--until",
        "ladder",
        "--run-dir",
        "wide/run",
    ]
    job = start(home, cluster, "wide", *more)
    line = heard(job, "cannot start")
    assert "ladder[0]" in line and "work asks one node for 3 CPUs, and no node has it (at most 2 CPUs)" in line
    job.send_signal(signal.SIGTERM)
    assert job.communicate(timeout=120) and job.returncode == 1
