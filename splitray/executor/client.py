"""The Ray cluster from the driver's side: connect, see what is there, and ask the owner for leaves."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from splitray.config import Config
from splitray.errors import SplitrayError, StageError, UserError
from splitray.executor.coordinator import Owner, Request
from splitray.executor.machine import cpu_model
from splitray.executor.worker import OWNER, Site
from splitray.storage.probe import check_seen
from splitray.units import human

_EVERY = 5.0  # seconds between progress lines
_RESTARTS = 20  # of the owner's process: more deaths than that are a fault, not bad luck


def connect(say: Callable[[str], None]) -> None:
    """Join the cluster that RAY_ADDRESS names (so under `ray job submit`), else start one on this machine.

    The local one stands beside any other Ray of this machine, its dashboard on loopback. Token authentication is the
    caller's: RAY_AUTH_MODE counts only when it is set before Ray is imported.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # a worker started by a path into a virtual environment lacks its scripts (ninja) on the PATH
    scripts = os.path.dirname(sys.executable)  # noqa: PTH120 - a resolved link would leave the environment
    os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
    if ray.is_initialized():
        return
    quiet = {"PYTHONWARNINGS": "ignore::FutureWarning", "PATH": os.environ["PATH"]}
    options: dict[str, Any] = {"runtime_env": {"env_vars": quiet}}
    if os.environ.get("RAY_ADDRESS"):
        try:
            context = ray.init(**options)
        except (ConnectionError, RuntimeError) as error:
            raise UserError(f"RAY_ADDRESS = {os.environ['RAY_ADDRESS']}: cannot join that cluster ({error})") from error
    else:
        try:
            context = ray.init(address="local", dashboard_host="127.0.0.1", **options)
        except (RuntimeError, OSError, ray.exceptions.RayError) as error:
            raise StageError(f"Ray did not start here, often since the machine is too busy: {error}") from error
    have = ray.cluster_resources()
    dashboard = f", dashboard http://{context.dashboard_url}" if context.dashboard_url else ""
    say(
        f"Ray {ray.__version__}: {have.get('CPU', 0):g} CPUs, {have.get('GPU', 0):g} GPUs on {nodes()} nodes{dashboard}"
    )


def nodes() -> int:
    return sum(1 for node in ray.nodes() if node["Alive"])


def machine() -> dict[str, Any]:
    """What the run ran on, for the report."""
    have = ray.cluster_resources()
    return {
        "cpus": have.get("CPU", 0.0),
        "gpus": have.get("GPU", 0.0),
        "nodes": nodes(),
        "cpu_model": cpu_model(),
        "memory_gib": round(have.get("memory", 0.0) / 2**30, 1),
    }


def uses_gpu(config: Config) -> bool:
    """Whether hosts train on GPUs; refuses a run that asks for what the cluster lacks."""
    have = ray.cluster_resources().get("GPU", 0)
    if config.resources.accelerator == "gpu" and not have and config.resources.capacity is None:
        raise UserError(
            "resources.accelerator = gpu, but the cluster has no GPU now; on an autoscaling cluster that starts "
            "empty set resources.capacity to the GPUs it may grow to"
        )
    return config.resources.accelerator == "gpu" or (config.resources.accelerator == "auto" and have > 0)


def start_owner(site: Site, capacity: float, limit: int) -> Any:
    """The actor that owns the tree; see `Owner`.

    It stands beside the driver where that node has room, not on a spot worker. It holds no truth, so when its process
    dies a new one takes over the calls that wait. Its environment names the cluster: Ray Train's helpers look for it
    by themselves, and where an address file of a dead cluster lies about they print errors and hold every worker group
    for 12 s.
    """
    context = ray.get_runtime_context()
    return (
        ray.remote(Owner)
        .options(
            name=OWNER,
            namespace=site.namespace,
            num_cpus=0,
            max_concurrency=10_000,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(context.get_node_id(), soft=True),
            runtime_env={"env_vars": {"RAY_ADDRESS": context.gcs_address}},
        )
        .remote(site, capacity, limit)
    )


class Trainer:
    """The driver's handle of the owner: asks for leaves and prints progress while it waits."""

    def __init__(self, config: Config, site: Site, say: Callable[[str], None], event: Callable[..., None]) -> None:
        self._say, self._event = say, event
        check_seen(site.store, say)
        capacity = config.resources.capacity or ray.cluster_resources().get("GPU" if site.use_gpu else "CPU", 0)
        for name, workers in (
            ("resources.base_workers", config.resources.base_workers),
            ("resources.specialist_workers", config.resources.specialist_workers),
        ):
            per_worker = 1 if site.use_gpu else site.training.threads
            if workers * per_worker > capacity:
                unit = "GPU" if site.use_gpu else "CPU (training.threads)"
                raise UserError(
                    f"{name} = {workers} workers x {per_worker} {unit} = {workers * per_worker} exceed the cluster's "
                    f"{capacity:g}: lower it, or start a larger cluster"
                )
        self.actor = start_owner(site, capacity, config.evaluate.validation_tokens)

    def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Train and score; see `Owner.leaves`. Prints a line every few seconds."""
        ref, said = self.actor.leaves.remote(list(requests)), time.monotonic()
        while True:
            ready, _ = ray.wait([ref], timeout=_EVERY)
            if ready:
                break
            if time.monotonic() - said >= _EVERY:
                said = time.monotonic()
                self.tell(self.progress())
        try:
            return list(ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            raise told_by(error) from error
        except ray.exceptions.RayError as error:  # of memory, too, which is no RayActorError
            raise StageError(
                f"the owner of the tree died: {error}; start again, it continues from the store"
            ) from error

    def watch(self, work: Callable[[], Any]) -> Any:
        """Run something on the driver that asks the owner by itself (Ray Tune), with progress lines meanwhile."""
        over = threading.Event()

        def talk() -> None:
            with contextlib.suppress(ray.exceptions.RayError):  # a dead owner is told by the work itself
                while not over.wait(_EVERY):
                    self.tell(self.progress())

        talker = threading.Thread(target=talk, daemon=True, name="progress")
        talker.start()
        try:
            return work()
        finally:
            over.set()
            talker.join(timeout=_EVERY)

    def progress(self) -> dict[str, Any]:
        return dict(ray.get(self.actor.progress.remote()))

    def tell(self, progress: dict[str, Any]) -> None:
        running = progress["running"].values()
        trained = progress["trained"] + sum(r["call_tokens"] for r in running)
        rate = sum(r["rate"] for r in running)
        now = ", ".join(f"{r['source']} {r['loss']:.3f}" for r in list(running)[:4])
        self._say(
            f"   {progress['finished']}/{progress['segments']} segments, {human(trained)}/{human(progress['tokens'])} "
            f"tokens, {human(rate)} tokens/s" + (f"; loss: {now}" if now else "")
        )
        counters = {k: v for k, v in progress.items() if k != "running"}  # every host each time would be megabytes
        self._event("progress", **counters, hosts=len(running), rate=round(rate, 1))

    def begin_stage(self) -> None:
        ray.get(self.actor.begin_stage.remote())

    def stop(self) -> None:
        """Ask every host to checkpoint; waits a moment for them."""
        ray.get(self.actor.stop.remote(), timeout=25)


def told_by(error: ray.exceptions.RayTaskError) -> SplitrayError:
    """The error of ours that ended a call of the owner, else a `StageError` with Ray's words."""
    return error.cause if isinstance(error.cause, SplitrayError) else StageError(str(error))
