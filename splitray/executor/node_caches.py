"""What every node of the cluster may cache, and how many processes train there."""

import math
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from splitray.errors import UserError
from splitray.storage import cache


@dataclass(frozen=True)
class NodeCache:
    """The bytes that a node's cache of an object store may have, and the processes that train there at once."""

    limit: float
    workers: int


def node_caches(cpus: float, gpu: bool) -> dict[str, NodeCache]:
    """The nodes that are up and have room for a training process, by address.

    Args:
        cpus: that such a process needs.
        gpu: whether it needs a GPU.

    Raises:
        UserError: a node's limit is no number.
    """

    def workers(node: dict[str, Any]) -> int:
        resources = node["Resources"]
        return int(min(resources.get("CPU", 0) // cpus, resources.get("GPU", 0) if gpu else math.inf))

    nodes = {n["NodeManagerAddress"]: n for n in ray.nodes() if n["Alive"] and workers(n) > 0}
    probe = ray.remote(cache.limit)
    asked = [
        probe.options(
            num_cpus=0,
            name="probe[cache]",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote()
        for node in nodes.values()
    ]
    try:
        limits = ray.get(asked)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, UserError) else error) from error
    return {a: NodeCache(limit, workers(node)) for (a, node), limit in zip(nodes.items(), limits, strict=True)}
