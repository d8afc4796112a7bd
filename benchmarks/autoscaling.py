"""The main job on an autoscaling cluster: `python -m benchmarks.autoscaling`.

Ray's real autoscaler starts and ends real raylets on this machine, by Ray's fake provider (`benchmarks/fake_cloud.py`).
The head has no CPU. There are two types of worker nodes, both at 0: `small` with one CPU takes the tasks of the corpus,
and `trainer` with two CPUs stands for a GPU node. A worker asks for two CPUs, so that only a `trainer` holds it.

The run is submitted as a user does it, with token authentication:

    ray job submit --working-dir . -- python jobs/split.py --config FILE --run-dir FOLDER

At first no `trainer` can be had, as where a cloud is out of them, and the log must name the type. Then there are some,
and the run must go on to its end by itself. Afterwards all nodes must go.

`ray.cluster_utils.AutoscalingCluster` starts the same processes. It is not used here: its `ray stop --force` ends every
Ray of the machine, and Ray's wheels lack a file that it reads. Written are `autoscaling.json`, the timeline of nodes
`autoscaling.png`, and the job's log.
"""

import argparse
import json
import os
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.dashboards import ROOT, started, until_up
from benchmarks.machine import describe
from tests.support.configs import config, write_corpus
from tests.support.ports import free_port

HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # the id that Ray's fake provider gives its head
HEAD_TYPE = "ray.head.default"  # and the type
TYPES = {
    "small": {"CPU": 1, "small": 1},
    "trainer": {"CPU": 2, "trainer": 1},
}  # their names as resources tell them apart
MOST = {"small": 2, "trainer": 2}
IDLE_MINUTES = 0.25
MEMORY = 200_000_000  # bytes of each node's object store
REFUSAL = "no capacity for trainer in this zone"
_COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
_EMPTY_AFTER = 120.0  # seconds after the run in which all nodes must have gone
_WATCHED = 60.0  # seconds in which the first look must be there
_LONGEST = 1500.0  # seconds of the whole


@dataclass(frozen=True)
class Look:
    """The cluster at one moment: nodes by type, those asked for, refused types, and why nodes are not idle."""

    at: float
    nodes: dict[str, int]
    pending: dict[str, int]
    refused: list[str]
    busy: dict[str, list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/autoscaling"))
    parser.add_argument("--watch", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        watch(options.watch)
        return
    with tempfile.TemporaryDirectory(prefix="grow") as name:  # short: sockets lie below it
        folder = Path(name)
        refused = folder / "refused"
        refused.touch()
        with cluster(folder, refused) as (address, dashboard):
            result, log = carried_out(folder, address, dashboard, refused)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "autoscaling.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "job.log").write_text(log)
    draw(result, options.out)
    failed = [what for what, holds in result["claims"].items() if not holds]
    print(json.dumps(result["claims"], indent=1))
    if failed:
        sys.exit(f"not so: {'; '.join(failed)}\n{log[-3000:]}")


@contextmanager
def cluster(folder: Path, refused: Path) -> Iterator[tuple[str, str]]:
    """An autoscaling cluster: the address of its control store, and that of its dashboard."""
    port, dashboard, agent = (free_port() for _ in range(3))
    address = f"127.0.0.1:{port}"
    (folder / "cluster.yaml").write_text(yaml.safe_dump(description(address, refused)))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    programs = Path(sys.executable).parent
    environment = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",  # as `ray up` sets it
        "RAY_FAKE_CLUSTER": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "OMP_WAIT_POLICY": "passive",  # four workers share the cores of one machine: threads that wait must not spin
        "PYTHONPATH": str(ROOT),  # the autoscaler imports the provider
        "PATH": f"{programs}:{os.environ['PATH']}",  # the job's `python` is this one
    }
    command = [str(programs / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus", "0"]
    command += ["--node-ip-address", "127.0.0.1", "--port", str(port), "--dashboard-port", str(dashboard)]
    command += ["--object-store-memory", str(MEMORY), "--temp-dir", str(folder / "ray")]
    command += ["--dashboard-agent-listen-port", str(agent)]
    command += ["--autoscaling-config", str(folder / "cluster.yaml")]
    with started(command, folder / "ray.log", **environment):
        url = f"http://127.0.0.1:{dashboard}"
        # the agent of the head starts the job, and the dashboard waits ten seconds for it: too short on a busy machine
        for asked in (f"{url}/api/version", f"http://127.0.0.1:{agent}/api/local_raylet_healthz"):
            until_up(asked, folder / "ray.log", token=os.environ["RAY_AUTH_TOKEN"])
        yield address, url


def description(address: str, refused: Path) -> dict[str, Any]:
    """The cluster's file, as `ray up` reads them."""
    types: dict[str, Any] = {
        name: {
            "resources": {**resources, "object_store_memory": MEMORY},
            "node_config": {},
            "min_workers": 0,
            "max_workers": MOST[name],
        }
        for name, resources in TYPES.items()
    }
    types[HEAD_TYPE] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    provider: dict[str, Any] = {"type": "external", "module": "benchmarks.fake_cloud.FakeCloud", "head_node_id": HEAD}
    provider |= {"gcs_address": address}
    # nodes share this machine: nothing is to be installed on them, and they have one address
    provider |= dict.fromkeys(("disable_node_updaters", "disable_launch_config_check", "use_node_id_as_ip"), True)
    provider |= {"refused": ["trainer"], "refused_while": str(refused)}
    return {
        "cluster_name": "grow",
        "max_workers": sum(MOST.values()),
        "idle_timeout_minutes": IDLE_MINUTES,
        "upscaling_speed": 1.0,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": HEAD_TYPE,
        "auth": {},
        **{key: {} for key in ("head_node", "worker_nodes", "file_mounts")},
        **{key: [] for key in _COMMANDS},
        **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")},
    }


def carried_out(folder: Path, address: str, dashboard: str, refused: Path) -> tuple[dict[str, Any], str]:
    """The run to its end, and until all nodes have gone: the result, and the job's log."""
    write_corpus(folder / "corpus")
    settings = config(folder / "corpus")
    settings["training"] |= {"threads": 2}
    settings["evaluate"] |= {"baselines": [1.0]}
    settings["resources"] = {"accelerator": "cpu", "capacity": 2 * MOST["trainer"]}
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", dashboard]
    command += ["--working-dir", ".", "--submission-id", "grow", "--"]
    command += ["python", "jobs/split.py", "--config", str(folder / "run.yaml"), "--run-dir", str(folder / "run")]
    log, seen = folder / "job.log", folder / "looks.jsonl"
    watcher = [sys.executable, "-m", "benchmarks.autoscaling", "--watch", address]
    with started(watcher, seen, PYTHONPATH=str(ROOT)):
        until = time.monotonic() + _WATCHED
        while not looks_in(seen):
            if time.monotonic() > until:
                sys.exit(f"nobody can look at the cluster:\n{seen.read_text()[-2000:]}")
            time.sleep(0.5)
        began, allowed = time.time(), None
        with started(command, log) as process:
            while process.poll() is None and time.time() - began < _LONGEST:
                time.sleep(0.5)
                if allowed is None and REFUSAL in log.read_text(errors="replace"):
                    refused.unlink()
                    allowed = time.time()
            code = process.poll()
        ended = time.time()
        while sum(looks_in(seen)[-1].nodes.values()) and time.time() - ended < _EMPTY_AFTER:
            time.sleep(0.5)
        looks = looks_in(seen)
    text = clean(log.read_text(errors="replace"), folder)
    stages = stages_of(folder / "run")
    result = {
        "machine": describe("ray"),
        "types": TYPES,
        "most": MOST,
        "idle_minutes": IDLE_MINUTES,
        "began": began,
        "ended": ended,
        "exit_code": code,
        "refused_until": allowed,
        "stages": stages,
        "looks": [asdict(look) for look in changes(looks)],
        "claims": claims(looks, stages, ended, code, text),
    }
    return result, text


def watch(address: str) -> None:
    """A look a second at the cluster, a line of JSON each. In a process of its own: Ray reads its token on import."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    from splitray.executor.compat import launches

    ray.init(address=address, namespace="watch", logging_level="error", log_to_driver=False)
    while True:
        kinds = Counter(k for node in ray.nodes() if node["Alive"] for k in TYPES if k in node["Resources"])
        pending, asked = Counter[str](), launches()
        for launch in asked:
            pending[launch.node_type] += 0 if launch.failure else launch.count
        refused = sorted({launch.node_type for launch in asked if launch.failure})
        busy: dict[str, list[str]] = {}
        for node in get_cluster_status(address).active_nodes:
            busy.setdefault(node.ray_node_type_name, []).extend(node.node_activity or [])
        look = Look(time.time(), {k: kinds[k] for k in TYPES}, {k: pending[k] for k in TYPES}, refused, busy)
        print(json.dumps(asdict(look)), flush=True)
        time.sleep(1.0)


def looks_in(file: Path) -> list[Look]:
    """What `watch` has written so far."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [Look(**json.loads(line)) for line in lines if line.startswith("{")]


def changes(looks: list[Look]) -> list[Look]:
    """The looks at which something had changed, and the last."""
    pairs = zip(looks, [None, *looks], strict=False)
    changed = [look for look, before in pairs if before is None or replace(look, at=0.0) != replace(before, at=0.0)]
    return [*changed, looks[-1]]


def stages_of(run: Path) -> list[dict[str, Any]]:
    """When each stage began and ended, by the run's own events."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((run / "events").glob("*.jsonl")):
        for line in file.open():
            event = json.loads(line)
            if event["event"] == "stage begins":
                found[event["stage"]] = {"stage": event["stage"], "began": event["at"], "ended": None}
            elif event["event"] == "stage ends":
                found[event["stage"]]["ended"] = event["at"]
    return list(found.values())


def claims(
    looks: list[Look], stages: list[dict[str, Any]], ended: float, code: int | None, log: str
) -> dict[str, bool]:
    """What must be so."""
    within = {s["stage"]: [k for k in looks if s["began"] <= k.at <= (s["ended"] or ended)] for s in stages}
    first = next((k for k in looks if k.nodes["trainer"]), None)

    def most(stage: str, kind: str) -> int:
        return max((look.nodes[kind] for look in within.get(stage, [])), default=0)

    return {
        "the run ends well": code == 0 and bool(stages) and all(s["ended"] is not None for s in stages),
        "there is no node before the run": sum(looks[0].nodes.values()) == 0,
        "it grows for the corpus": most("corpus", "small") > 0 and most("corpus", "trainer") == 0,
        "the log names the type that cannot be had": REFUSAL in log,
        "it grows for training once there are some": first is not None and most("ladder", "trainer") > 0,
        "nodes of the corpus go while it trains": any(
            look.nodes["small"] == 0 and look.nodes["trainer"] for look in looks
        ),
        "all nodes go after the run": sum(looks[-1].nodes.values()) == 0,
    }


def clean(log: str, folder: Path) -> str:
    """A log without colours, paths of this machine and its Python, and the commands of Ray's processes as they end."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log)
    log = re.sub(r".*Send termination request to.*\n", "", log)
    for path, word in ((str(folder), "FOLDER"), (str(ROOT), "ROOT"), (str(Path(sys.prefix)), "PYTHON")):
        log = log.replace(path, word)
    return log


def draw(result: dict[str, Any], out: Path) -> None:
    """The nodes over time, stages as shades."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    began, looks = result["began"], result["looks"]
    times = [look["at"] - began for look in looks]
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for place, stage in enumerate(s for s in result["stages"] if s["ended"] is not None):
        begin, end = stage["began"] - began, stage["ended"] - began
        axes.axvspan(begin, end, color="0.88" if place % 2 else "0.95", lw=0)
        if end - begin > 0.03 * (times[-1] - times[0]):
            axes.text((begin + end) / 2, max(MOST.values()) + 0.32, stage["stage"], ha="center", fontsize=8)
    for kind, colour in (("small", "#0072b2"), ("trainer", "#d55e00")):
        axes.step(times, [look["nodes"][kind] for look in looks], where="post", color=colour, label=f"{kind}, up")
        axes.step(
            times,
            [look["pending"][kind] for look in looks],
            where="post",
            color=colour,
            ls=":",
            lw=1,
            label=f"{kind}, asked for",
        )
    if result["refused_until"]:
        axes.axvline(
            result["refused_until"] - began, color="0.3", ls="--", lw=1, label="from here on there are trainers"
        )
    axes.set(xlabel="seconds since `ray job submit`", ylabel="nodes", ylim=(0, max(MOST.values()) + 0.6))
    axes.set_yticks(range(max(MOST.values()) + 1))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(out / "autoscaling.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
