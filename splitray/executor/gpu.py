"""Whether the GPUs that a run trains on can be used: asked at the start, and again in every process that trains.

Without these checks a node whose driver is too old for PyTorch trains on its CPUs, since libraries fall back to them.
"""

from functools import lru_cache

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from splitray.errors import UserError
from splitray.executor.connect import uses_gpu
from splitray.executor.settings import ResourceSettings
from splitray.runtime.gpu import gpu_fault, gpu_fault_of_node

_CURE = (
    "give the GPU nodes a machine image or a PyTorch that fits (see docs/operate.md), or train on CPUs with "
    "resources.accelerator: cpu"
)


def check_gpus(resources: ResourceSettings) -> None:
    """Refuse a run on GPUs where PyTorch cannot compute on those of some node that is up.

    Nodes that an autoscaler brings up later are checked by the processes that train there.

    Raises:
        UserError: naming the nodes and what is wrong with each, or that the cluster has no GPU and never will.
    """
    if not uses_gpu(resources):
        return
    probe = ray.remote(gpu_fault_of_node)
    asked = {
        node["NodeManagerAddress"]: probe.options(
            num_cpus=0,
            name="probe[gpu]",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote()
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU")
    }
    found = dict(zip(asked, ray.get(list(asked.values())), strict=True))
    if faults := {address: fault for address, fault in found.items() if fault is not None}:
        raise UserError(_refusal("; ".join(f"node {address}: {fault}" for address, fault in sorted(faults.items()))))


@lru_cache(maxsize=1)
def check_own_gpu() -> None:
    """Refuse to train in this process where its GPU cannot be used.

    Raises:
        UserError: naming the node and what is wrong.
    """
    if (fault := gpu_fault()) is not None:
        raise UserError(_refusal(f"node {ray.util.get_node_ip_address()}: {fault}"))


def _refusal(faults: str) -> str:
    return f"the run trains on GPUs, and they cannot be used. {faults}. Nothing was trained: {_CURE}"
