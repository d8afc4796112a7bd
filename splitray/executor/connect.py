"""The Ray cluster from the side of the driver: join or start it, and see what it has."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from splitray.errors import StageError, UserError
from splitray.executor.accelerators import ACCELERATORS
from splitray.executor.access import tighten_token
from splitray.executor.address import check_address
from splitray.executor.machine import cpu_model
from splitray.executor.settings import ResourceSettings
from splitray.runtime.compat import untested_versions

_log = logging.getLogger(__name__)

# What workers print is for Ray's own log. Their messages of ours come by the coordinator, see `relay`.
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def connected() -> Iterator[None]:
    """Use the Ray that this process has joined, else join or start one and leave it again at the end.

    With RAY_ADDRESS (so under `ray job submit`) the cluster there is joined. Without it one is started on this
    machine, beside any other Ray, its dashboard on loopback.

    The process itself stays as it was: Ray's handler of SIGTERM is taken back, and nothing is added to the
    environment. What workers need there (`worker_environment`) goes with the job. Token authentication is the
    caller's: RAY_AUTH_MODE counts only when it is set before Ray is imported.

    Raises:
        UserError: RAY_ADDRESS names no cluster that answers.
        StageError: no Ray could be started here.
    """
    if ray.is_initialized():
        yield
        return
    connect()
    try:
        yield
    finally:
        ray.shutdown()


def connect() -> None:
    """Join or start a Ray as `connected` does, for the rest of the process. Does nothing where it has one."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    with _signals_kept():
        context = _start() if address in ("", "local") else _join(address)
    tighten_token()  # Ray writes it when it starts for the first time
    for sentence in untested_versions():
        _log.warning("%s: what splitray takes from its inside may have moved", sentence)
    have = ray.cluster_resources()
    dashboard = f", dashboard http://{context.dashboard_url}" if context.dashboard_url else ""
    _log.info(
        f"Ray {ray.__version__}: {have.get('CPU', 0):g} CPUs, {have.get('GPU', 0):g} GPUs on {nodes()} nodes{dashboard}"
    )


def _start() -> Any:
    try:
        return ray.init(address="local", dashboard_host="127.0.0.1", runtime_env=_runtime_env(), **_QUIET)
    except (Exception, SystemExit) as error:  # a node that is not up in time raises a bare Exception, or ends us
        raise StageError(f"Ray did not start here, often since the machine is too busy: {_reason(error)}") from error


def _join(address: str) -> Any:
    check_address(address, _found() if address == "auto" else None)
    try:
        return ray.init(address=address, runtime_env=_runtime_env(), **_QUIET)
    except (Exception, SystemExit) as error:
        raise UserError(f"RAY_ADDRESS = {address}: cannot join that cluster: {_reason(error)}") from error


def _found() -> str | None:
    """The address that Ray would take `auto` for. A private function of Ray's: without it `auto` goes unchecked."""
    try:
        from ray._private.services import canonicalize_bootstrap_address

        return str(canonicalize_bootstrap_address("auto"))
    except (ImportError, ConnectionError):
        return None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return "it stopped answering" if isinstance(error, SystemExit) else text or type(error).__name__


def worker_environment() -> dict[str, str]:
    """Environment variables of the processes that train and embed."""
    # a worker started by a path into a virtual environment lacks its scripts (ninja) on the PATH
    scripts = os.path.dirname(sys.executable)  # noqa: PTH120 - a resolved link would leave the environment
    path = os.environ.get("PATH", "")
    return {
        "PATH": path if path.split(os.pathsep)[0] == scripts else scripts + os.pathsep + path,
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "RAY_TRAIN_V2_ENABLED": "1",
    }


def _runtime_env() -> dict[str, dict[str, str]]:
    return {"env_vars": worker_environment()}


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Give SIGTERM its handler back, which Ray replaces; only the main thread has any.

    SIGHUP is blocked in the block, so that the processes of a Ray that is started here begin with it blocked: a dropped
    connection would reach them all, before the run has asked them for checkpoints. One that comes meanwhile is handled
    after the block.
    """
    before = signal.getsignal(signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def accelerator_type() -> str | None:
    """The kind of the cluster's GPUs as the table of accelerators has it; None where Ray names none that it has."""
    named = (name.partition(":")[2] for name in ray.cluster_resources() if name.startswith("accelerator_type:"))
    return next((a for name in named for a in ACCELERATORS if a in name.upper()), None)


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
    if resources.accelerator == "cpu":
        return False
    have = ray.cluster_resources().get("GPU", 0)
    if resources.accelerator == "gpu" and not have and resources.capacity is None:
        raise UserError(
            "resources.accelerator = gpu, but the cluster has no GPU now; on an autoscaling cluster that starts "
            "empty set resources.capacity to the GPUs it may grow to"
        )
    return resources.accelerator == "gpu" or have > 0
