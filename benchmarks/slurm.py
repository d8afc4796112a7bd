"""A run by `sbatch` on a real Slurm of this machine alone: `python -m benchmarks.slurm`.

It needs Debian's packages `slurm-wlm` and `munge`, and root. `munged`, `slurmctld` and `slurmd` run with all their
files in a folder of their own, and end with the benchmark. Then it does what `deploy/slurm/splitray.sbatch` says at its
top, on one node without GPUs:

    sbatch --nodes=1 --gpus-per-node=0 --export=ALL,CONFIG=FILE,RUN_DIR=FOLDER deploy/slurm/splitray.sbatch

The script starts Ray on the node by `ray symmetric-run`, and the run on it. With `--stop` the script gets SIGTERM once
the run trains, as Slurm sends it before the end of the job's time. It must put the job back into the queue, and the
second start must end the run. Written are `slurm.json` and the job's log.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.autoscaling import clean
from benchmarks.dashboards import ROOT, started
from benchmarks.machine import describe
from tests.support.configs import config, write_corpus
from tests.support.ports import free_port

_UP = 30.0  # seconds in which Slurm must be up
_LONGEST = 900.0  # seconds of the job
_TRAINS = r"tokens/s|stage 3 of 9"
_DONE = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="of the run; default: a small corpus that it writes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/slurm"))
    parser.add_argument("--stop", action="store_true", help="stop the job once, while it trains")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run folder there as FOLDER/run")
    options = parser.parse_args()
    if lacking := [p for p in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(p) is None]:
        parser.error(f"there is no {', '.join(lacking)}: apt-get install slurm-wlm munge")
    with tempfile.TemporaryDirectory(prefix="slurm") as name, slurm(Path(name)) as environment:
        result, log = submitted(Path(name), environment, options.config, options.stop)
        if options.keep is not None:
            shutil.copytree(Path(name) / "run", options.keep / "run", dirs_exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "slurm.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "job.log").write_text(log)
    print(json.dumps(result, indent=1))
    if result["state"] != "COMPLETED" or result["loss"] is None or result["starts"] != 1 + options.stop:
        sys.exit(f"the job ended as {result['state']}:\n{log[-3000:]}")


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm of one node, this machine: the environment of its commands."""
    host, cpus = os.uname().nodename.split(".")[0], os.cpu_count()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    # jobs are tracked without control groups, but slurmd 22.05 does not start without a plugin for them
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "slurm.conf").write_text(
        f"ClusterName=one\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n"
        f"SlurmctldPort={free_port()}\nSlurmdPort={free_port()}\n"
        f"AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket\nCredType=cred/munge\nMpiDefault=none\n"
        f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\n"
        f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd.pid\n"
        f"SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd.log\n"
        "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherType=jobacct_gather/none\n"
        "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nGresTypes=gpu\nReturnToService=2\n"
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN\n"
        "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=EXCLUSIVE State=UP\n"
    )
    files = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as daemons:
        for command in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
            ["slurmctld", "-D", "-f", str(folder / "slurm.conf")],
            ["slurmd", "-D", "-f", str(folder / "slurm.conf")],
        ):
            daemons.enter_context(started(command, folder / f"{command[0]}.out", **environment))
            time.sleep(1.0)  # one asks the other when it begins
        until = time.monotonic() + _UP
        while "idle" not in asked(["sinfo", "--noheader", "--format=%T"], environment):
            if time.monotonic() > until:
                logs = "\n".join((folder / f"{n}.out").read_text()[-1500:] for n in ("slurmctld", "slurmd"))
                sys.exit(f"Slurm does not come up:\n{logs}")
            time.sleep(0.5)
        yield environment


def asked(command: list[str], environment: dict[str, str]) -> str:
    """What one of Slurm's commands says."""
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def submitted(folder: Path, environment: dict[str, str], given: Path | None, stop: bool) -> tuple[dict[str, Any], str]:
    """The job to its end: the result, and its log."""
    here = folder / "here"  # the script is submitted from the root, where it finds its environment in .venv
    here.mkdir()
    for path in ROOT.iterdir():
        if path.name != ".venv":
            (here / path.name).symlink_to(path)
    (here / ".venv").symlink_to(sys.prefix)
    file = given.resolve() if given is not None else folder / "run.yaml"
    if given is None:
        write_corpus(folder / "corpus")
        settings = config(folder / "corpus")
        settings["trackers"] = [{"name": name} for name in ("jsonl", "tensorboard", "mlflow")]
        file.write_text(yaml.safe_dump(settings))
    began = time.time()
    variables = f"--export=ALL,CONFIG={file},RUN_DIR={folder / 'run'},PYTHONPATH={ROOT}"
    command = ["sbatch", "--parsable", "--nodes=1", "--gpus-per-node=0", variables, "deploy/slurm/splitray.sbatch"]
    done = subprocess.run(
        command, cwd=here, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        sys.exit(f"sbatch refuses the script: {done.stderr}")
    job, state, stopped = done.stdout.strip(), "", None
    written = here / f"splitray-{job}.log"
    while state not in _DONE and time.time() - began < _LONGEST:
        time.sleep(1.0)
        shown = asked(["scontrol", "show", "job", job], environment)
        state = shown.partition("JobState=")[2].split(maxsplit=1)[0] if "JobState=" in shown else state
        if stop and stopped is None and written.exists() and re.search(_TRAINS, written.read_text(errors="replace")):
            asked(["scancel", "--signal=TERM", "--batch", job], environment)
            stopped = time.time() - began
    log = clean(written.read_text(errors="replace"), folder)
    log = re.sub(rf"\b{re.escape(os.uname().nodename.split('.')[0])}\b", "NODE", log)
    summary = folder / "run" / "summary.json"
    record = json.loads(summary.read_text()) if summary.exists() else {}
    record = record.get("record", record)
    rows = (record.get("evaluation") or {}).get("comparison", [])
    result = {
        "machine": describe("ray"),
        "slurm": asked(["sinfo", "--version"], environment).strip(),
        "command": "sbatch --nodes=1 --gpus-per-node=0 deploy/slurm/splitray.sbatch",
        "state": state,
        "stopped_after": stopped,
        "starts": log.count(" run folder "),
        "seconds": time.time() - began,
        "stages": [stage["stage"] for stage in record.get("stages", [])],
        "loss": rows[0]["loss"] if rows else None,
    }
    return result, log


if __name__ == "__main__":
    main()
