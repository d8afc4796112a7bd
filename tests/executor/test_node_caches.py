"""What the nodes of a real cluster say of their caches."""

import pytest

from splitray.executor.node_caches import node_caches
from splitray.storage import cache

pytestmark = pytest.mark.ray


def test_nodes_that_train_say_what_they_may_cache(ray_cluster: None) -> None:
    (node,) = node_caches(0.95, gpu=False).values()
    assert node.workers == 2 and node.limit == pytest.approx(cache.limit(), rel=0.1), "the same disk, a moment apart"
    assert not node_caches(3.0, gpu=False) and not node_caches(0.95, gpu=True), "no process has room there"
