"""Joining a cluster: what is no address of one, or of one that has ended, is said within seconds."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from splitray.errors import UserError
from splitray.executor.address import check_address
from tests.support import ROOT


@pytest.fixture
def silent() -> Iterator[str]:
    """Something that takes connections and says nothing: a head that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def dashboard() -> Iterator[str]:
    """A web server, as Ray's dashboard is."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def dead() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:8265", "address of the job API.*unset RAY_ADDRESS.*auto or 10.0.0.1:6379"),
        ("https://head.example:8265", "address of the job API"),
        ("ray://127.0.0.1:10001", "Ray Client is not supported"),
        ("grpc://127.0.0.1:6379", "grpc:// is no address of a Ray head"),
        ("head", "give auto, or HOST:PORT"),
        ("head:port", "give auto, or HOST:PORT"),
        ("10.0.0.1:99999", "give auto, or HOST:PORT"),
        ("auto", "no Ray runs on this machine"),
    ],
)
def test_what_is_no_address_of_a_head(address: str, told: str) -> None:
    with pytest.raises(UserError, match=f"RAY_ADDRESS = {address}: .*{told}"):
        check_address(address)


def test_a_cluster_that_has_ended(silent: str, dashboard: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"nobody answers there .*: the cluster has ended"):
        check_address(dead())
    gone = dead()
    with pytest.raises(UserError, match=f"nobody answers at {gone} "):
        check_address("auto", found=gone)
    for address in (silent, dashboard):
        with pytest.raises(UserError, match=r"no Ray head, or hangs.*8265 is the dashboard's"):
            check_address(address, patience=1.0)
    assert time.monotonic() - begun < 60, "seconds, where Ray waits for minutes"


@pytest.mark.ray
def test_a_cluster_that_lives(ray_cluster: None) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    check_address(address, patience=60)
    check_address("auto", found=address, patience=60)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


CONNECT = """
import os, signal, sys
from splitray.errors import SplitrayError
before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
from splitray.executor.connect import connected
try:
    with connected():
        import ray
        assert ray.is_initialized()
        path = ray.get(ray.remote(lambda: os.environ["PATH"]).remote())
        assert path.split(os.pathsep)[0] == os.path.dirname(sys.executable), path
        inside = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert not ray.is_initialized(), "what was started here is stopped"
except SplitrayError as error:
    print(type(error).__name__, error)
    inside = before
after = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
names = {*before[0], *inside[0], *after[0]}
changed = {k for k in names if len({state[0].get(k) for state in (before, inside, after)}) > 1}
changed = {k for k in changed if not k.startswith(("RAY_", "PYTHONBREAKPOINT"))}  # `token_asked_for` takes them back
assert inside[1:] == before[1:] == after[1:], (before[1:], inside[1:])
print("changed", sorted(changed))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_the_process_stays_as_it_was() -> None:
    """Environment and signals, with a Ray of its own; workers still find the environment's scripts."""
    done = python(CONNECT, PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("changed []"), done.stdout


@pytest.mark.ray
def test_a_ray_that_cannot_start_is_told() -> None:
    done = python(CONNECT, RAY_TMPDIR="/dev/null/ray")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("StageError Ray did not start here"), done.stdout


@pytest.mark.ray
def test_the_address_of_a_dead_cluster_reaches_the_user() -> None:
    address = dead()
    done = python(CONNECT, RAY_ADDRESS=address)
    assert done.stdout.startswith(f"UserError RAY_ADDRESS = {address}: nobody answers there"), done
