"""A cloud on one machine for Ray's autoscaler: it starts real raylets as nodes, and may have none of a type.

It is Ray's own fake provider, with two things of a real cloud added:

- While the file `refused_while` of the provider's section is there, nodes of the types in `refused` cannot be had.
- Each node has a folder of its own for the files of jobs. Nodes of Ray's fake provider share one. There a new node
  deletes the working directory of a job and unpacks it again, while others import from it.
"""

import json
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)


class FakeCloud(FakeMultiNodeProvider):
    """See the module."""

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: Any, labels: Any
    ) -> None:
        """Start nodes.

        Raises:
            RuntimeError: there is no capacity for the type.
        """
        kind = tags[TAG_RAY_USER_NODE_TYPE]
        if kind in self.provider_config["refused"] and Path(self.provider_config["refused_while"]).exists():
            raise RuntimeError(f"InsufficientInstanceCapacity: no capacity for {kind} in this zone")
        for _ in range(count):
            with self.lock:
                self._start(tags, dict(resources), labels)

    def _start(self, tags: Any, resources: dict[str, Any], labels: Any) -> None:
        """Start one node as Ray's provider does."""
        name, address = self._next_hex_node_id(), self.provider_config["gcs_address"]
        ray_params = RayParams(
            min_worker_port=0,
            max_worker_port=0,
            dashboard_port=None,
            dashboard_agent_listen_port=0,
            num_cpus=resources.pop("CPU", 0),
            num_gpus=resources.pop("GPU", 0),
            object_store_memory=resources.pop("object_store_memory", None),
            resources=resources,
            labels=labels,
            redis_address=address,
            gcs_address=address,
            runtime_env_dir_name=f"runtime_resources_{name[-5:]}",
            env_vars={
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": name,
                "RAY_CLOUD_INSTANCE_ID": name,
                "RAY_NODE_TYPE_NAME": tags[TAG_RAY_USER_NODE_TYPE],
                ray_constants.RESOURCES_ENVIRONMENT_VARIABLE: json.dumps(resources),
                ray_constants.LABELS_ENVIRONMENT_VARIABLE: json.dumps(labels),
            },
        )
        node = Node(ray_params, head=False, shutdown_at_exit=False, spawn_reaper=False)
        own = {
            TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
            TAG_RAY_NODE_NAME: name,
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }
        self._nodes[name] = {"tags": own | dict(tags), "node": node}
