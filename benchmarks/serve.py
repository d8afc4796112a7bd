"""How `splitray serve` holds up: `python -m benchmarks.serve RUN`.

- One specialist beside `transformers serve` of the same folder, each with one thread and asked in turns: tokens per
  second with 1, 8 and 64 clients.
- A minute of 64 clients, with a replica killed in between: every answer is compared with what the model writes alone.

Requests go by OpenAI's client. It writes `benchmarks/results/serve/serve.json`.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil

from benchmarks.machine import describe
from splitray.evaluate.mixture import Sampling, load_mixture
from tests.support.ports import free_port

_TOKENS = 48  # that a request writes
_PROMPTS = [f"def {name}(" for name in ("main", "load", "read_all", "close", "parse", "walk", "send", "merge")]
_RIGHT, _WRONG = "right", "wrong"
_CLIENTS, _SECONDS = 64, 60.0  # of the test with a kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=3, help="times that the two servers take turns")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve"))
    options = parser.parse_args()
    domain = sorted(path.name for path in (Path(options.run) / "specialists").iterdir())[0]
    folder = Path(options.run) / "specialists" / domain
    with ours(options.run, 1) as server, transformers_server(folder) as other:
        servers = {"splitray": (server, domain), "transformers": (other, str(folder))}
        speeds = throughput(servers, options.clients, options.rounds)
    with ours(options.run, 2) as server:
        kill = survive(server, options.run)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"machine": describe("torch", "transformers", "ray", "openai"), "load": os.getloadavg()[0]}
    result |= {"tokens_of_a_request": _TOKENS, "throughput": speeds, "replica_killed": kill}
    (options.out / "serve.json").write_text(json.dumps(result, indent=1) + "\n")


class Server:
    """A server that answers, and its process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, token: str) -> None:
        self.process, self.address = process, f"http://127.0.0.1:{port}/v1"
        self.client = openai.OpenAI(base_url=self.address, api_key=token, max_retries=0, timeout=300)

    def replicas(self) -> list[psutil.Process]:
        """The processes of Ray Serve's replicas, the oldest first."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return sorted((p for p in below if "ServeReplica" in "".join(p.cmdline())), key=lambda p: p.create_time())


@contextmanager
def ours(run: str, replicas: int) -> Iterator[Server]:
    """`splitray serve` on a Ray of its own."""
    token, port = secrets.token_urlsafe(24), free_port()
    command = [sys.executable, "-m", "splitray", "serve", run, "--port", str(port), "--replicas", str(replicas)]
    environment = {**os.environ, "SPLITRAY_SERVE_TOKEN": token}
    environment.pop("RAY_ADDRESS", None)
    with _running([*command, "--seconds", "300", "--waiting", "256"], environment) as process:
        yield _answering(Server(process, port, token), "base")


@contextmanager
def transformers_server(folder: Path) -> Iterator[Server]:
    """`transformers serve` of one folder."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with _running([*command, "--port", str(port)], environment) as process:
        yield _answering(Server(process, port, "none"), str(folder))


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, text=True, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(90)


def _answering(server: Server, model: str) -> Server:
    """Wait for a first answer. `transformers serve` without a network lists no models, and answers all the same."""
    for _ in range(600):
        assert server.process.poll() is None, "the server has ended"
        try:
            server.client.completions.create(model=model, prompt="a", max_tokens=1)
            return server
        except openai.APIError:
            time.sleep(1)
    raise TimeoutError("the server does not answer")


def throughput(servers: dict[str, tuple[Server, str]], clients: list[int], rounds: int) -> list[dict[str, Any]]:
    """Written tokens per second of each server, by clients; the servers take turns, so that a busy machine is fair."""
    rows = []
    for server, model in servers.values():
        _ask(server, model, 0)  # what is compiled or loaded at the first request
    for count in clients:
        speeds: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, (server, model) in servers.items():
                begin = time.perf_counter()
                with ThreadPoolExecutor(count) as pool:
                    written = sum(pool.map(lambda n, s=server, m=model: _ask(s, m, n), range(max(4, count))))
                speeds[name].append(written / (time.perf_counter() - begin))
        ratios = sorted(a / b for a, b in zip(speeds["splitray"], speeds["transformers"], strict=True))
        rows.append({"clients": count, "tokens_per_second": speeds, "median_ratio": ratios[len(ratios) // 2]})
        print(rows[-1], flush=True)
    return rows


def _ask(server: Server, model: str, number: int) -> int:
    """Tokens that one request wrote."""
    prompt = _PROMPTS[number % len(_PROMPTS)]
    answer = server.client.completions.create(model=model, prompt=prompt, max_tokens=_TOKENS, temperature=0)
    assert answer.usage is not None
    return answer.usage.completion_tokens


def survive(server: Server, run: str) -> dict[str, Any]:
    """Answers of a minute in which a replica is killed: how many were right, wrong, or an error by its status."""
    mixture = load_mixture(run)
    right = {p: mixture.generate([p], Sampling(max_tokens=8, temperature=0))[0].text for p in _PROMPTS}
    asked: list[int] = []
    outcomes: list[str] = []
    end = time.monotonic() + _SECONDS

    def client(number: int) -> None:
        while time.monotonic() < end:
            prompt = _PROMPTS[(number + len(asked)) % len(_PROMPTS)]
            asked.append(number)
            try:
                answer = server.client.completions.create(model="auto", prompt=prompt, max_tokens=8, temperature=0)
                outcomes.append(_RIGHT if answer.choices[0].text == right[prompt] else _WRONG)
            except openai.APIStatusError as error:
                outcomes.append(f"status {error.status_code}")
                time.sleep(0.5)
            except openai.APIConnectionError:
                outcomes.append("connection lost")

    threads = [threading.Thread(target=client, args=(n,)) for n in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(_SECONDS / 3)
    victim = server.replicas()[0]
    victim.kill()
    for thread in threads:
        thread.join()
    alive = [p.pid for p in server.replicas() if p.pid != victim.pid and p.status() != psutil.STATUS_ZOMBIE]
    lost = len(asked) - len(outcomes)
    found = {"clients": _CLIENTS, "seconds": _SECONDS, "requests": len(asked), **Counter(outcomes), "lost": lost}
    print(found, flush=True)
    return found | {"replicas_at_the_end": len(alive)}


if __name__ == "__main__":
    main()
