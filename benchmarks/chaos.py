"""Kill everything that a run consists of, many times, and see whether the end is the same.

    python -m benchmarks.chaos [--kills 50] [--seed 0] [--skip-bits] [--out benchmarks/results/chaos]

A local cluster of three raylets (a head without CPUs, two workers of one CPU each), token authentication on, and the
main job as its own process. One undisturbed run says what the end must be; then run after run, each in an empty
store, is disturbed: a process chosen by its role is killed with SIGKILL at a random moment while it lives, until
every role was killed at least five times. Roles whose silence the coordinator or the driver looks after (`HANGS`) are
stopped with SIGSTOP in every second case instead, and left so: a process that hangs must be found and replaced. What
an operator or an autoscaler would start again is started again: the driver, a lost node, after the loss of the head a
new cluster on the same store (the old workers live on for some seconds, so that two clusters write to one store). The
end must equal the undisturbed one: every loss of the summary, and the SHA-256 of every exported model. `same_bits.py`
adds a kill inside a segment for every ZeRO stage, worker count and precision.
"""

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# before Ray is imported; a client of a lost head gives up after 10 s, not after 60
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}

import psutil
import yaml
from ray.cluster_utils import Cluster

from benchmarks.chaos_job import CONFIG, HANGS, TITLES, is_titled
from benchmarks.machine import describe
from splitray.results.summary import Summary, every_loss
from splitray.storage.checksum import sha256_file
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
ROLES = (*TITLES, "driver", "node", "head")
RESTARTS = 12  # of one run's driver, before the run counts as lost


@dataclass
class Machines:
    """The cluster: what would be machines is raylets here."""

    cluster: Any = None
    zombies: list[tuple[float, list[psutil.Process]]] = field(default_factory=list)

    def start(self) -> None:
        port = free_port()
        self.cluster = Cluster(True, head_node_args={"num_cpus": 0, "dashboard_port": port})
        for _ in range(2):
            self.cluster.add_node(num_cpus=1)

    def processes(self, node: Any) -> list[psutil.Process]:
        """Raylet, agents and workers of a node, the head's control store too."""
        found = []
        for group in node.all_processes.values():
            for info in group:
                try:
                    process = psutil.Process(info.process.pid)
                    found += [process, *process.children(recursive=True)]
                except psutil.NoSuchProcess:
                    continue
        return found

    @property
    def nodes(self) -> list[Any]:
        return [self.cluster.head_node, *self.cluster.worker_nodes]

    def of_role(self, role: str) -> list[psutil.Process]:
        return [p for n in self.nodes for p in self.processes(n) if is_titled(p, TITLES[role])]

    def lose_node(self, chosen: random.Random) -> None:
        """One worker machine goes at once; the autoscaler starts another."""
        node = chosen.choice(sorted(self.cluster.worker_nodes, key=lambda n: n.raylet_socket_name))
        kill(self.processes(node))
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=1)

    def lose_head(self) -> None:
        """The head machine goes; its workers do not know yet. A new cluster stands beside them for a while."""
        orphans = [p for n in self.cluster.worker_nodes for p in self.processes(n)]
        kill(self.processes(self.cluster.head_node))
        self.zombies.append((time.monotonic() + 8, orphans))
        self.start()

    def bury(self, now: bool = False) -> None:
        for due, processes in list(self.zombies):
            if now or time.monotonic() > due:
                kill(processes + [c for p in processes if p.is_running() for c in p.children(recursive=True)])
                self.zombies.remove((due, processes))

    def stop(self) -> None:
        self.bury(now=True)
        everything = [p for n in self.nodes for p in self.processes(n)]
        self.cluster.shutdown()
        kill(everything)


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue


@dataclass
class Job:
    """The main job's driver in an empty folder, started again as an operator would."""

    machines: Machines
    folder: Path
    config: Path
    starts: int = 0
    process: Any = None

    def start(self) -> None:
        self.starts += 1
        job, run = str(ROOT / "jobs/split.py"), str(self.folder / "run")
        command = [sys.executable, job, "--config", str(self.config), "--run-dir", run]
        with (self.folder / "log.txt").open("ab") as log:
            environment = os.environ | {"RAY_ADDRESS": self.machines.cluster.address}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> dict[str, Any]:
        """What the run came to: every loss, and the digest of every exported model."""
        run = self.folder / "run"
        models = sorted(run.glob("**/model.safetensors"))
        digests = {p.relative_to(run).as_posix(): sha256_file(p) for p in models}
        return {"losses": every_loss(Summary.parse(json.loads((run / "summary.json").read_text()))), "models": digests}


@dataclass
class Kill:
    """A kill that is still to happen, or a hang: `after` seconds of the role being alive."""

    role: str
    after: float
    hang: bool = False
    seen: float | None = None


def disturb(machines: Machines, job: Job, kills: list[Kill], chosen: random.Random, tell: Callable[..., None]) -> None:
    """Carry out the kills that are due."""
    for planned in list(kills):
        if planned.role in TITLES:
            alive = machines.of_role(planned.role)
        else:
            alive = [job.process] if job.process.poll() is None else []
        if not alive:
            planned.seen = None
            continue
        planned.seen = planned.seen or time.monotonic()
        if time.monotonic() < planned.seen + planned.after:
            continue
        kills.remove(planned)
        tell(planned, str(len(alive)))
        if planned.role == "driver":
            job.kill()
        elif planned.role == "node":
            machines.lose_node(chosen)
        elif planned.role == "head":
            job.kill()
            machines.lose_head()
        else:
            victim = chosen.choice(alive)
            with contextlib.suppress(psutil.Error):
                victim.suspend() if planned.hang else victim.kill()


def run(machines: Machines, folder: Path, config: Path, kills: list[Kill], chosen: random.Random) -> dict[str, Any]:
    """One run to its end, disturbed by kills; what happened, and how long each role lived."""
    folder.mkdir(parents=True)
    job, begun, done, lived = Job(machines, folder, config), time.monotonic(), [], Counter[str]()
    said, codes, due = time.monotonic(), [], list(kills)

    def tell(planned: Kill, alive: str) -> None:
        done.append({"role": planned.role, "hang": planned.hang, "at": round(time.monotonic() - begun, 1)})
        how = "stopped for ever" if planned.hang else "killed"
        print(f"   {time.monotonic() - begun:6.1f} s: {planned.role} {how} ({alive} alive)", flush=True)

    job.start()
    while True:
        time.sleep(0.2)
        machines.bury()
        if not kills and time.monotonic() - said > 0.5:  # the undisturbed run: how long is each role there to kill?
            lived.update({r: time.monotonic() - said for r in TITLES if machines.of_role(r)})
            said = time.monotonic()
        disturb(machines, job, due, chosen, tell)
        code = job.process.poll()
        if code == 0:
            break
        if code is not None:
            codes.append(code)
            if job.starts > RESTARTS or code == 2:
                break
            job.start()
    seconds = time.monotonic() - begun
    return {"kills": done, "missed": [k.role for k in due], "exit_codes": codes, "starts": job.starts} | {
        "seconds": round(seconds, 1),
        "lived": {r: round(s, 1) for r, s in lived.items()},
        "end": job.end() if code == 0 else None,
    }


def plan_kills(counts: Counter[str], lived: dict[str, float], whole: float, chosen: random.Random) -> list[Kill]:
    """The kills of one run: the four roles that were killed least, three of them twice, and four more by chance."""
    least = sorted(ROLES, key=lambda r: (counts[r], chosen.random()))
    picked = [*least[:4], *least[:3], *chosen.sample(ROLES, 4)]
    reach = {r: lived.get(r, 0.0) / 2 for r in TITLES} | dict.fromkeys(("driver", "node", "head"), whole / 2)
    return [
        Kill(role, chosen.uniform(0.2, max(0.5, reach[role])), role in HANGS and chosen.random() < 0.5)
        for role in picked
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=5, help="kills of every role, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-bits", action="store_true", help="leave out the sixteen resumes of same_bits.py")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/chaos")
    options = parser.parse_args()
    chosen, counts, runs = random.Random(options.seed), Counter[str](), list[Any]()
    work = Path(tempfile.mkdtemp(prefix="splitray-chaos-"))
    config = work / "chaos.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    machines = Machines()
    machines.start()
    try:
        calm = run(machines, work / "calm", config, [], chosen)
        assert calm["end"] is not None, f"the undisturbed run failed: {work / 'calm/log.txt'}"
        print(f"undisturbed: {calm['seconds']} s; alive: {calm['lived']}", flush=True)
        while sum(counts.values()) < options.kills or min(counts[r] for r in ROLES) < options.each:
            kills = plan_kills(counts, calm["lived"], calm["seconds"], chosen)
            print(f"run {len(runs) + 1}: {', '.join(k.role for k in kills)}", flush=True)
            folder = work / f"run{len(runs) + 1}"
            made = run(machines, folder, config, kills, chosen)
            made["same"] = made.pop("end") == calm["end"]
            counts.update(k["role"] for k in made["kills"])
            runs.append(made)
            print(f"   {made['seconds']} s, {made['starts']} starts, same: {made['same']}, so far {dict(counts)}")
            if made["same"]:
                shutil.rmtree(folder)
            write(options.out, calm, runs, counts)
    finally:
        machines.stop()
    if all(r["same"] for r in runs):
        shutil.rmtree(work)
    table(runs, counts)
    if not options.skip_bits:
        command = [sys.executable, "-m", "benchmarks.same_bits", "--out", options.out.resolve()]
        sys.exit(subprocess.run(command, cwd=ROOT).returncode or not all(r["same"] for r in runs))
    sys.exit(not all(r["same"] for r in runs))


def write(out: Path, calm: dict[str, Any], runs: list[dict[str, Any]], counts: Counter[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    told = {
        "machine": describe("ray", "torch", "deepspeed"),
        "config": CONFIG,
        "undisturbed": {k: calm[k] for k in ("seconds", "lived")} | {"models": calm["end"]["models"]},
        "kills": dict(counts),
        "hangs": sum(k["hang"] for r in runs for k in r["kills"]),
        "runs_lost": sum(r["exit_codes"][-1:] == [2] or r["starts"] > RESTARTS for r in runs),
        "runs_that_differ": sum(not r["same"] for r in runs),
        "runs": runs,
    }
    (out / "chaos.json").write_text(json.dumps(told, indent=1) + "\n")


def table(runs: list[dict[str, Any]], counts: Counter[str]) -> None:
    print(f"\n{'role':18} kills  runs  runs with the undisturbed end")
    for role in ROLES:
        hit = [r for r in runs if any(k["role"] == role for k in r["kills"])]
        print(f"{role:18} {counts[role]:5}  {len(hit):4}  {sum(r['same'] for r in hit):4}")
    print(f"{'all':18} {sum(counts.values()):5}  {len(runs):4}  {sum(r['same'] for r in runs):4}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    main()
