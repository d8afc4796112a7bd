"""Processes that are stopped for ever, a coordinator that answers with an error, and a run that is told to stop."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from splitray.errors import StageError
from splitray.executor import client as clients
from splitray.executor.coordinator import Coordinator
from splitray.executor.settings import ResourceSettings
from splitray.executor.watch import COORDINATOR
from splitray.training.state import load

# fixtures and helpers of the tests of a coordinator in peace
from tests.executor.test_coordinator import Run, batches, corpus, start, until  # noqa: F401

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


class Broken(Coordinator):
    """As if Ray had moved a name that an answer to a beat needs."""

    async def beat(self, worker: str, rank: int | None, birth: str, node: str, joules: float | None = None) -> bool:
        raise AttributeError("module 'ray' has no attribute 'moved'")


def test_a_coordinator_that_answers_with_an_error_ends_the_stage(
    start: Callable[..., Run],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers once took any error for "stop", checkpointed, and were started again, for ever, with `failures: 0`."""
    monkeypatch.setattr(clients, "Coordinator", Broken)
    run = start(1)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        run.leaves(run.request(batches(100_000), "a"))
    assert isinstance(caught.value.cause, StageError)
    assert "AttributeError: module 'ray' has no attribute 'moved'" in str(caught.value.cause)


def client(run: Run, seconds: float) -> clients.ExecutorClient:
    """A client of a coordinator of its own on the run's store."""
    run.close()
    run.context = replace(run.context, namespace=f"{run.context.namespace}-hangs", silence_seconds=seconds)
    made = clients.ExecutorClient(ResourceSettings(capacity=1), run.context, 500, lambda kind, **values: None)
    run.coordinator = made.actor
    return made


@pytest.mark.parametrize("role", ["ladder[0]", COORDINATOR])
def test_a_process_that_is_stopped_for_ever_is_named_and_replaced(
    start: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    logged: list[str],
    role: str,
) -> None:
    run, leaf = start(1), batches(400)
    asked = client(run, 15.0)

    def stop_once() -> None:
        until(lambda: run.store.keys("part-"))
        os.kill(run.pid(role), signal.SIGSTOP)

    import threading

    stopper = threading.Thread(target=stop_once)
    stopper.start()
    (result,) = asked.leaves([run.request(leaf, "a")])
    stopper.join()
    found = run.store.find(result["key"])
    assert found is not None
    expected, ours = run.alone(leaf, tmp_path / "alone"), load(found, moments=False)
    assert all(torch.equal(ours.weights[n], w) for n, w in expected.weights.items())
    log = "\n".join(logged)
    if role == COORDINATOR:
        assert "the coordinator has not answered for" in log and "its process is replaced" in log
    else:
        assert "ladder[0] is replaced (ladder[0] has said nothing for" in log
        assert asked.progress()["failures"] >= 1


def test_stopping_waits_for_checkpoints_and_for_nothing_else(start: Callable[..., Run]) -> None:  # noqa: F811
    """One worker trains, one waits for a CPU that this cluster never has: only the first has something to keep."""

    def hold() -> None:
        time.sleep(600)

    run = start(1)
    held: list[Any] = [ray.remote(num_cpus=1.2)(hold).remote()]
    try:
        waiting = run.coordinator.leaves.remote([run.request(batches(5), "a")])
        assert not ray.wait([waiting], timeout=3)[0]
        begun = time.monotonic()
        ray.get(run.coordinator.stop.remote(), timeout=60)
        assert time.monotonic() - begun < 15, "it waited for a worker that has trained nothing"
    finally:
        ray.cancel(held[0], force=True)
