"""A base on two nodes of one CPU each, whose second node drains, comes back and is killed. Run as a program.

    python -m tests.support.lost_nodes FOLDER CORPUS [drain] [grow] [kill]

FOLDER holds a store with the corpus. What was seen is written to FOLDER/said.json.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from splitray.corpus import Corpus
from splitray.executor.client import start_coordinator
from splitray.executor.connect import worker_environment
from splitray.executor.request import Request
from splitray.executor.worker import RunContext
from splitray.storage.store import Store
from splitray.training.recipe import recipe
from splitray.training.tree import Leaf, Target
from tests.support import slow_model, tiny

STEPS, GRACE = 150, 60  # steps of the base; seconds that a draining node has left
A_STEP = 0.5  # seconds at least, while nodes come and go
SETTINGS = tiny.training(learning_rate=1e-3, checkpoint_seconds=1.0)


def target(corpus: Corpus) -> Target:
    named: dict[str, Any] = {"content_hash": corpus.content_hash}
    named |= {"vocab": corpus.vocab_size, "end_token": corpus.end_token}
    shape = tiny.SHAPE.model_copy(update={"family": slow_model.FAMILY})
    made = recipe(shape, SETTINGS, named, tiny.WEIGHTS, 0)
    return Target.leaf(made, Leaf(STEPS * made.batch_tokens), tiny.SCHEDULE)


class Seen:
    """What the coordinator and the store tell of the base."""

    def __init__(self, coordinator: Any, store: Store) -> None:
        self._coordinator, self._store = coordinator, store
        self.devices, self.said = [0.0], list[str]()

    def look(self) -> None:
        for state in ray.get(self._coordinator.usage.remote()):
            held = 0.0 if state.state == "gone" else state.devices
            if state.worker == "base" and held != self.devices[-1]:
                self.devices.append(held)
        self.said += [message.text for message in ray.get(self._coordinator.messages.remote())]

    def trains(self, devices: float, after: int) -> int | None:
        """Tokens that stand behind the base, where it has so many devices and has got further than `after`."""
        self.look()
        running = ray.get(self._coordinator.progress.remote())["running"].get("base")
        fits = running is not None and self.devices[-1] == devices and running["tokens"] > after
        return int(running["tokens"]) if fits else None

    def kept(self) -> int:
        """Tokens of the newest checkpoint."""
        return max((int(key.rsplit("-", 1)[1]) for key in self._store.keys("part-")), default=0)


class Story:
    """What happens to the second node, one thing after the other; `told` is what was seen of it.

    Args:
        gate: a file that slows training down while it is there.
    """

    def __init__(self, cluster: Cluster, context: RunContext, gate: Path) -> None:
        self.cluster, self.node, self.gate = cluster, cluster.worker_nodes.copy().pop(), gate
        self.coordinator = start_coordinator(context, 2.0, 500)
        self.seen, self.told = Seen(self.coordinator, context.store), dict[str, Any]()
        wanted = target(Corpus.open(context.store, context.corpus))
        self.leaf = self.coordinator.leaves.remote([Request(wanted, ("a",), mixture_workers=2)])
        self.at = self.trains(2, after=wanted.recipe.batch_tokens)

    def trains(self, devices: int, after: int) -> int:
        """Wait until the base has so many devices and has got further; its tokens."""
        return int(self.until(lambda: self.seen.trains(devices, after), f"no base on {devices} workers"))

    def until(self, condition: Callable[[], Any], failure: str) -> Any:
        deadline = time.monotonic() + 220
        while not (found := condition()):
            if ray.wait([self.leaf], timeout=0.2)[0]:
                raise RuntimeError(f"{failure}, and the call is over: {ray.get(self.leaf)}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure}: {vars(self.seen)}")
        return found

    def failures(self) -> int:
        return int(ray.get(self.coordinator.progress.remote())["failures"])

    def drain(self) -> None:
        self.told["noticed"] = self.at = self.trains(2, 0)
        begin, ending = time.monotonic(), int((time.time() + GRACE) * 1000)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        client = ray._raylet.GcsClient(address=self.cluster.address)
        accepted, why = client.drain_node(self.node.node_id, reason, "spot", ending)
        assert accepted, why
        self.until(lambda: self.seen.kept() >= self.at and not self.seen.trains(2, 0), "no checkpoint after the notice")
        self.told["seconds"] = time.monotonic() - begin
        self.cluster.remove_node(self.node)
        self.at = self.trains(1, 0)
        self.told["preempted"] = self.failures()

    def grow(self) -> None:
        self.node = self.cluster.add_node(num_cpus=1)
        self.at = self.trains(2, self.at)
        self.told["grown"] = self.at

    def kill(self) -> None:
        self.until(lambda: self.seen.kept() > self.at, "no checkpoint of the group")
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.trains(1, 0)

    def end(self) -> dict[str, Any]:
        self.gate.unlink()
        (result,) = ray.get(self.leaf)
        self.seen.look()
        self.told |= {"key": result["key"], "loss": result["losses"]["a"]["loss"], "failures": self.failures()}
        return self.told | {"devices": self.seen.devices, "said": self.seen.said}


def main(folder: Path, corpus: str, parts: list[str]) -> None:
    gate = folder / "gate"
    gate.write_text(str(A_STEP))
    quick = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}  # a node that is killed is noticed
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    environment = worker_environment() | {slow_model.GATE: str(gate)}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        cluster.add_node(num_cpus=1)  # after the driver has joined the head, or it may join this one and die with it
        context = RunContext(Store(folder), corpus, SETTINGS, "lost-nodes", fewest={"base": 1}, resize_seconds=2.0)
        story = Story(cluster, context, gate)
        for part in parts:
            getattr(story, part)()
        (folder / "said.json").write_text(json.dumps(story.end()))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
