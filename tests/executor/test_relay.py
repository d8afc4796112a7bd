"""Messages of actors reach the driver's log, by way of the coordinator."""

import logging
import uuid
from pathlib import Path

import pytest
import ray

from splitray.executor.client import ExecutorClient, look, start_coordinator
from splitray.executor.relay import Mailbox, Message
from splitray.executor.worker import RunContext, Worker
from splitray.runtime.progress import Pace
from splitray.storage.store import Store
from tests.support import tiny


def test_what_waits_is_fetched_once_and_bounded() -> None:
    mailbox = Mailbox()
    for number in range(1500):
        mailbox.put(Message("splitray.x", logging.INFO, str(number)))
    texts = [message.text for message in mailbox.fetch()]
    assert (len(texts), texts[0], texts[-1]) == (1000, "500", "1499") and mailbox.fetch() == []


class Talkative(Worker):
    """A worker that logs."""

    def talk(self, text: str) -> None:
        logging.getLogger("splitray.training.loop").warning("%s", text)


@pytest.mark.ray
def test_a_worker_and_the_coordinator_are_heard_in_the_driver(
    ray_cluster: None, tmp_path: Path, logged: list[str]
) -> None:
    context = RunContext(Store(tmp_path), "corpus", tiny.training(), f"test-{uuid.uuid4().hex[:8]}")
    client = object.__new__(ExecutorClient)
    client._seen = lambda counters: None
    client.actor = start_coordinator(context, 2, 100)
    worker = ray.remote(Talkative).options(num_cpus=0, namespace=context.namespace).remote(context, "a", 2)
    try:
        ray.get(worker.talk.remote("the checkpoint is invalidated"))
        for _ in range(100):  # the worker does not wait until its message has arrived
            client._fetch_messages()
            if logged:
                break
        assert logged == ["the checkpoint is invalidated"]
        client._fetch_messages()
        assert len(logged) == 1
    finally:
        ray.kill(worker)
        ray.kill(client.actor)


COUNTERS = {"leaves": 4, "scored": 0, "segments": 0, "finished": 0, "tokens": 0, "trained": 0}
COUNTERS |= {"effort": 0.0, "effort_trained": 0.0}


def test_reuse_is_told_as_what_it_is() -> None:
    seen = look({**COUNTERS, "scored": 3, "running": {}}, Pace(), 1.0)
    assert seen.text == "nothing to train, 3/4 scored" and "0/0" not in seen.text


def test_progress_counts_what_runs_and_foretells_the_rest() -> None:
    """Tokens at 100 a second of a tiny model; 6000 of 10,000 are left."""
    pace, seen = Pace(), None
    for second in range(41):
        running = {"source": "mixture", "params": 0, "call_tokens": 100 * second, "loss": 2.5, "rate": 100.0}
        counters = {**COUNTERS, "segments": 2, "tokens": 10_000, "effort": 1e10, "running": {"ladder[0]": running}}
        seen = look(counters, pace, 10.0 + second)
    assert seen is not None and seen.text == "0/2 segments, 4K of 10K tokens, 100 tokens/s"
    assert seen.detail == "loss: mixture 2.500" and seen.share == pytest.approx(0.4)
    assert seen.left == pytest.approx(60.0)
