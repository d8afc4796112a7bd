"""The Ray cluster from the side of the driver: join or start it, and see what it has."""

import logging
import os
import sys
from typing import Any

import ray

from splitray.compat import untested_versions
from splitray.errors import StageError, UserError
from splitray.executor.machine import cpu_model
from splitray.executor.settings import ResourceSettings

_log = logging.getLogger(__name__)


def connect() -> None:
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
    for sentence in untested_versions():
        _log.warning("%s: what splitray takes from its inside may have moved", sentence)
    have = ray.cluster_resources()
    dashboard = f", dashboard http://{context.dashboard_url}" if context.dashboard_url else ""
    _log.info(
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


def uses_gpu(resources: ResourceSettings) -> bool:
    """Whether workers train on GPUs; refuses a run that asks for what the cluster lacks."""
    have = ray.cluster_resources().get("GPU", 0)
    if resources.accelerator == "gpu" and not have and resources.capacity is None:
        raise UserError(
            "resources.accelerator = gpu, but the cluster has no GPU now; on an autoscaling cluster that starts "
            "empty set resources.capacity to the GPUs it may grow to"
        )
    return resources.accelerator == "gpu" or (resources.accelerator == "auto" and have > 0)
