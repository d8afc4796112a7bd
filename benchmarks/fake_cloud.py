"""A cloud on one machine for Ray's autoscaler: it starts real raylets as nodes, and may have none of a type.

It is Ray's own fake provider, with one thing of a real cloud added: while the file `refused_while` of the provider's
section is there, nodes of the types in `refused` cannot be had.
"""

from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


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
        super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
