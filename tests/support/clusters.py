"""A cluster of a few CPUs that drivers join, as its own processes."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

_TRIES = 10  # Ray gives its node 30 s to come up, which a busy machine may need more than once
_UP = "Ray runtime started"


@dataclass(frozen=True)
class Head:
    """The cluster's head: what drivers need in their environment, and the process whose children all others are."""

    environment: dict[str, str]
    process: "subprocess.Popen[str]"


def hear_signals() -> None:
    """In a child before its program: the signals that stop a run do what they do by default.

    `nohup` and the background of a script have their children ignore SIGHUP or SIGINT.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def joined(cpus: int) -> Iterator[Head]:
    """`ray start --head`, with token authentication and without a dashboard; ended with the block."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONUNBUFFERED": "1"}
    for _ in range(_TRIES):
        port = free_port()
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus", str(cpus)]
        command += ["--port", str(port), "--include-dashboard=false", "--disable-usage-stats"]
        with subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as head:
            assert head.stdout is not None
            if any(_UP in line for line in head.stdout):
                try:
                    yield Head(environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, head)
                finally:
                    head.terminate()
                return
    raise RuntimeError("no cluster came up")
