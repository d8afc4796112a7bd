"""Whether every node reads what the driver writes: asked before the work that would fail without."""

import logging
import uuid

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from splitray.errors import SplitrayError, UserError
from splitray.storage.store import Store

_log = logging.getLogger(__name__)

_SILENCE = 30.0  # seconds without a node that takes a task, before it is said


def check_seen(store: Store, workers: bool = False) -> None:
    """Refuse a store that some node does not read: a local path on a cluster, keys that only the head has.

    Args:
        workers: ask also where a task of one CPU is put. On an autoscaling cluster whose head takes none, that waits
            for the first worker, since nodes that do not stand yet cannot be asked.

    Raises:
        UserError: naming the store and the nodes.
    """
    name, word = f"probes/{uuid.uuid4().hex}", uuid.uuid4().hex.encode()
    store.root.write(name, word)
    try:
        alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        probe = ray.remote(_probe)
        asked = [
            probe.options(
                num_cpus=0, name="probe[store]", scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(store, name)
            for node in alive
        ]
        if workers:
            asked.append(probe.options(num_cpus=1, name="probe[store]").remote(store, name))
            if ray.wait(asked, num_returns=len(asked), timeout=_SILENCE)[1]:
                _log.info("corpus: waiting for a node with a free CPU")
        blind = sorted({node[:8] for node, seen in ray.get(asked) if seen != word})
    finally:
        store.root.delete(name)
    if blind:
        raise UserError(
            f"store {store.root.uri} is not seen by nodes {', '.join(blind)}: give a shared path or an s3:// or "
            "gs:// URI that they may read with --run-dir (or `store` in the config)"
        )


def _probe(store: Store, name: str) -> tuple[str, bytes | None]:
    """The node that ran this, and what it read."""
    node = ray.get_runtime_context().get_node_id()
    try:
        return node, store.root.read(name)
    except (OSError, SplitrayError):
        return node, None
