"""A base on two nodes of one CPU each, whose second node drains, comes back and is killed. Run as a program.

    python -m tests.support.lost_nodes FOLDER CORPUS

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
from splitray.training.recipe import Recipe
from splitray.training.tree import Leaf, Target
from tests.support import tiny

STEPS, GRACE = 50, 60  # steps of the base; seconds that a draining node has left
# A checkpoint comes only where something asks for one. Many micro-batches make steps slow, for nodes to come and go.
SETTINGS = tiny.training(
    global_batch_size=64, micro_batch_size=1, learning_rate=1e-3, warmup_tokens=2048, checkpoint_seconds=3600.0
)


def recipe_of(corpus: Corpus) -> Recipe:
    named = {"content_hash": corpus.content_hash, "vocab": corpus.vocab_size, "end_token": corpus.end_token}
    return tiny.make_recipe(SETTINGS, **named)


def target(recipe: Recipe) -> Target:
    return Target.leaf(recipe, Leaf(STEPS * recipe.batch_tokens), tiny.SCHEDULE)


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

    def checkpoints(self) -> list[str]:
        return sorted(self._store.keys("part-"))


def until(condition: Callable[[], Any], what: str, seen: Seen, leaf: Any) -> Any:
    deadline = time.monotonic() + 200
    while not (found := condition()):
        if ray.wait([leaf], timeout=0.2)[0]:
            raise RuntimeError(f"{what}, and the call is over: {ray.get(leaf)}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}; {seen.devices}, {seen.checkpoints()}, {seen.said}")
    return found


def lose_nodes(cluster: Cluster, context: RunContext) -> dict[str, Any]:
    coordinator = start_coordinator(context, 2.0, 500)
    seen, second = Seen(coordinator, context.store), cluster.worker_nodes.copy().pop()
    wanted = target(recipe_of(Corpus.open(context.store, context.corpus)))
    leaf = coordinator.leaves.remote([Request(wanted, ("a",), mixture_workers=2)])
    batch = wanted.recipe.batch_tokens

    until(lambda: seen.trains(2, 2 * batch), "the group did not start", seen, leaf)
    assert not seen.checkpoints()
    begin = time.monotonic()
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    ending = int((time.time() + GRACE) * 1000)
    accepted, why = ray._raylet.GcsClient(address=cluster.address).drain_node(second.node_id, reason, "spot", ending)
    assert accepted, why
    first = until(seen.checkpoints, "no checkpoint after the notice", seen, leaf)
    drained = time.monotonic() - begin
    cluster.remove_node(second)
    kept = until(lambda: seen.trains(1, 0), "no smaller group", seen, leaf)
    failures = ray.get(coordinator.progress.remote())["failures"]

    third = cluster.add_node(num_cpus=1)
    grown = until(lambda: seen.trains(2, kept), "the group did not grow", seen, leaf)
    cluster.remove_node(third, allow_graceful=False)
    (result,) = ray.get(leaf)
    seen.look()
    return {
        "key": result["key"],
        "losses": result["losses"]["a"]["loss"],
        "devices": seen.devices,
        "checkpoint": first,
        "drained": drained,
        "failures": [failures, ray.get(coordinator.progress.remote())["failures"]],
        "tokens": [kept, grown],
        "said": seen.said,
    }


def main(folder: Path, corpus: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": worker_environment()})
    try:
        context = RunContext(Store(folder), corpus, SETTINGS, "lost-nodes", fewest={"base": 1}, resize_seconds=2.0)
        (folder / "said.json").write_text(json.dumps(lose_nodes(cluster, context)))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
