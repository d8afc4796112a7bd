"""`splitray serve` as a process: Ray Serve, its replicas, and one that is killed at work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
import httpx
import psutil

from splitray.errors import UserError
from splitray.evaluate.mixture import Sampling, load_mixture
from tests.support.ensemble import write_run
from tests.support.ports import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TOKEN = "a token of at least sixteen"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    port = free_port()
    command = [sys.executable, "-m", "splitray", "serve", str(run), "--port", str(port), "--replicas", "2"]
    environment = {**os.environ, "SPLITRAY_SERVE_TOKEN": TOKEN}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "browser" in line:
            break
    assert process.poll() is None, "".join(lines) + (process.stderr.read() if process.stderr else "")
    assert TOKEN not in "".join(lines)
    yield f"http://127.0.0.1:{port}", process
    if process.poll() is None:
        process.kill()


def replicas(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of replicas, of the oldest first."""
    found = [p for p in psutil.Process(process.pid).children(recursive=True) if "ServeReplica" in "".join(p.cmdline())]
    return sorted(found, key=lambda p: p.create_time())


def test_a_replica_that_dies_is_replaced_and_no_answer_is_wrong(
    server: tuple[str, subprocess.Popen[str]], run: Path
) -> None:
    url, process = server
    assert httpx.get(f"{url}/v1/models").status_code == 401
    names = [model["id"] for model in httpx.get(f"{url}/v1/models", headers=HEADERS).json()["data"]]
    assert names == ["auto", "0_first", "1_second", "base"]
    right = {}
    for word in range(5):
        right[word] = load_mixture(run).generate([f"word {word}"], Sampling(max_tokens=8, temperature=0))[0].text

    def ask(number: int) -> tuple[int, int, str]:
        word = number % 5
        body = {"model": "auto", "prompt": f"word {word}", "max_tokens": 8, "temperature": 0}
        answer = httpx.post(f"{url}/v1/completions", json=body, headers=HEADERS, timeout=120)
        text = answer.json()["choices"][0]["text"] if answer.status_code == 200 else answer.text
        return word, answer.status_code, text

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, number) for number in range(120)]
        while sum(future.done() for future in asked) < 20:
            time.sleep(0.05)
        victim = replicas(process)[0]
        victim.kill()
        answers = [future.result() for future in asked]
    good = [answer for answer in answers if answer[1] == 200]
    assert len(answers) == 120 and len(good) >= 80
    assert all(text == right[word] for word, _, text in good)
    assert all(code in (429, 500, 503) and text for _, code, text in answers if code != 200)
    for _ in range(120):
        alive = [p for p in replicas(process) if p.pid != victim.pid and p.status() != psutil.STATUS_ZOMBIE]
        if len(alive) == 2:
            break
        time.sleep(1)
    assert len(alive) == 2, "Ray Serve starts another"
    assert all(ask(number)[1] == 200 for number in range(10))


def test_sigterm_ends_it_and_leaves_nothing(server: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = server
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    code = process.wait(90)
    assert process.stdout is not None and process.stderr is not None
    said, warned = process.stdout.read(), process.stderr.read()
    assert code == 0 and said.endswith("stopped\n"), (code, said, warned)
    assert "Traceback" not in warned
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_what_cannot_be_served_is_refused_before_ray_starts(tmp_path: Path) -> None:
    for arguments, said in (
        ([str(tmp_path)], "has no specialists"),
        ([str(tmp_path), "--port", "0"], "--port 0"),
        ([str(tmp_path), "--prior", "best"], "--prior best"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "splitray", "serve", *arguments], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_serves_from_a_config_file_of_ray_serve(run: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray Serve does with the entry of a file, and so a RayService of KubeRay: build the app, then run it."""
    from ray import serve
    from ray._common.utils import import_attr
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as built

    monkeypatch.setenv("SPLITRAY_SERVE_TOKEN", TOKEN)
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(built(import_attr("splitray.serve.deployment:app"), {"run": str(run), "batch": 4}), name="splitray")
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=HEADERS, timeout=60)
        assert {"auto", "base", "0_first", "1_second"} == {model["id"] for model in answer.json()["data"]}
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=60).status_code == 401
    finally:
        serve.shutdown()


def test_a_config_file_without_a_token_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from splitray.serve.deployment import ServedRun, app

    monkeypatch.delenv("SPLITRAY_SERVE_TOKEN", raising=False)
    with pytest.raises(UserError, match="SPLITRAY_SERVE_TOKEN is not set"):
        app(ServedRun(run=str(run)))
