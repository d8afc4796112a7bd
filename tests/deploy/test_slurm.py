"""The batch script for Slurm: its shell, its command line, and whether a real Slurm takes it."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import splitray
from tests.support import ROOT
from tests.support.deploy import DEPLOY, parsed_command, tool
from tests.support.ports import free_port

SCRIPT = DEPLOY / "slurm/splitray.sbatch"
TEXT = SCRIPT.read_text()


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment of a Slurm whose 8 nodes of 8 GPUs wait in a cloud: none is started."""
    if any(shutil.which(program) is None for program in ("slurmctld", "munged", "sbatch")):
        pytest.skip("needs Slurm: apt-get install slurm-wlm")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: that of a socket
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    host = os.uname().nodename.split(".")[0]
    (folder / "slurm.conf").write_text(
        f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser={user}\nSlurmctldPort={free_port()}\n"
        f"AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket\nStateSaveLocation={folder}/state\n"
        f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmctldLogFile={folder}/slurmctld.log\nMpiDefault=none\n"
        "SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nGresTypes=gpu\n"
        "NodeName=node[1-8] NodeAddr=127.0.0.1 CPUs=96 RealMemory=1000000 Gres=gpu:8 State=CLOUD\n"
        "SuspendProgram=/bin/true\nResumeProgram=/bin/true\nSuspendTime=600\n"
        "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    )
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    (folder / "state").mkdir()
    files = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
    daemons = [
        subprocess.Popen(["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]),
        subprocess.Popen(["slurmctld", "-D", "-f", str(folder / "slurm.conf")], stderr=subprocess.DEVNULL),
    ]
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    for _ in range(60):
        if subprocess.run(["scontrol", "ping"], env=environment, capture_output=True).stdout.count(b"UP"):
            break
        time.sleep(0.5)
    yield environment
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait(30)
    shutil.rmtree(folder)


def _asked(options: list[str], slurm: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["sbatch", "--test-only", *options, str(SCRIPT)]
    return subprocess.run(command, cwd=ROOT, env=slurm, capture_output=True, text=True, timeout=60)


def test_slurm_takes_the_script(slurm: dict[str, str]) -> None:
    taken = _asked([], slurm)
    assert taken.returncode == 0 and "using 192 processors on nodes node[1-2]" in taken.stderr, taken.stderr
    assert "on nodes node[1-8]" in _asked(["--nodes=8"], slurm).stderr
    refused = _asked(["--nodes=9"], slurm)
    assert refused.returncode != 0, "nine nodes are not to be had"
    assert _asked(["--gpus-per-node=9"], slurm).returncode != 0


def test_script_has_no_fault_of_the_shell() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    subprocess.run([tool("shellcheck"), str(SCRIPT)], check=True)


def test_script_runs_our_command_with_rays_own() -> None:
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

    line = TEXT.replace("\\\n", " ")
    (call,) = re.findall(r"ray symmetric-run (.*?) &$", line, re.M)
    words = shlex.split(call)
    started, entry = words[: words.index("--")], words[words.index("--") + 1 :]
    assert set(curate_and_validate_ray_start_args([*started, "--", "true"])[:4:2]) == {"--num-cpus", "--num-gpus"}
    assert entry[:2] == ["bash", "-c"] and "RAY_ADDRESS=$2 exec splitray" in entry[2], "it joins this Ray, not its own"
    options = parsed_command(shlex.split(entry[2].split("exec ")[1]))
    assert (options.config, options.run_dir) == ("$3", "$4")
    (config,) = re.findall(r"\bCONFIG:-(\S+)\}", TEXT)
    splitray.load_config(ROOT / config)


def test_token_is_asked_for_and_a_stop_leaves_time_for_checkpoints() -> None:
    before = TEXT[: TEXT.index("ray symmetric-run --address")]
    assert "export RAY_AUTH_MODE=token" in before and "umask 077" in before
    assert "--dashboard-host" not in TEXT, "Ray's default is loopback"
    (seconds,) = re.findall(r"^#SBATCH --signal=B:TERM@(\d+)$", TEXT, re.M)
    assert int(seconds) >= 60 and "#SBATCH --requeue" in TEXT and "scontrol requeue" in TEXT
