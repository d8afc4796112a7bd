"""What splitray uses of Ray that Ray does not promise to keep; other packages' names: `splitray/runtime/compat.py`.

Each name is used in one function. Where a later Ray lacks it, one warning names the version and what is lost, and the
run goes on: nothing here may raise into the coordinator, where an error would look like a fault of the run.

Ray's public ways were looked at first. `ray.train.get_preemption_info` answers inside a worker group only, and every
rank must call it equally often, so that it serves neither the actors of the ladder nor a thread beside the loop.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ray

from splitray.runtime.compat import warn_missing

T = TypeVar("T")


@dataclass(frozen=True)
class Holder:
    """A named actor that lives and reserves something: its Ray namespace and its name."""

    namespace: str
    name: str


def _guarded(name: str, consequence: str, read: Callable[[], T], default: T) -> T:
    """What `read` gives, else a default where Ray lacks what it reads, with one warning."""
    try:
        return read()
    except (AttributeError, ImportError, TypeError, KeyError):
        warn_missing("ray", name, consequence)
        return default


def _accessor() -> Any:
    return ray._private.state.state._connect_and_get_accessor()


def draining_nodes() -> set[str]:
    """Ids of the nodes that are about to go (a preemption notice, or an autoscaler that shrinks)."""
    return _guarded(
        "_private.state.state.get_draining_nodes",
        "preemption notices are not seen; a lost node costs the work since the last checkpoint",
        lambda: set(ray._private.state.state.get_draining_nodes()),
        set(),
    )


def orphaned_groups() -> list[Any]:
    """Placement groups of this job that live on although the actor that made them is dead."""

    def read() -> list[Any]:
        from ray._raylet import ActorID, PlacementGroupID
        from ray.core.generated import gcs_pb2
        from ray.util.placement_group import PlacementGroup

        job, found = ray.get_runtime_context().get_job_id(), []
        for raw in _accessor().get_placement_group_table():
            group = gcs_pb2.PlacementGroupTableData.FromString(raw)
            ours = group.creator_job_id.hex() == job and group.state != gcs_pb2.PlacementGroupTableData.REMOVED
            by_actor = group.creator_actor_id != ActorID.nil().binary()  # nil, and "dead", where the driver made it
            if ours and by_actor and group.creator_actor_dead:
                found.append(PlacementGroup(PlacementGroupID(group.placement_group_id)))
        return found

    return _guarded("table of placement groups", "what a dead worker group reserved stays reserved", read, [])


def holders(resource: str) -> list[Holder]:
    """Every named actor of the cluster that lives and reserves "CPU" or "GPU", whichever job it belongs to."""

    def read() -> list[Holder]:
        from ray.core.generated import gcs_pb2

        found = []
        for raw in _accessor().get_actor_table(None, "ALIVE"):
            actor = gcs_pb2.ActorTableData.FromString(raw)
            if actor.name and actor.required_resources.get(resource, 0.0):
                found.append(Holder(actor.ray_namespace, actor.name))
        return found

    return _guarded("table of actors", "who holds the cluster is not told", read, [])


def unplaced_work() -> bool:
    """Whether some task, actor or worker group of the cluster waits for resources; true where it cannot be known."""

    def read() -> bool:
        from ray.autoscaler.v2.sdk import get_cluster_status

        demands = get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands
        return bool(demands.ray_task_actor_demand or demands.placement_group_demand)

    return _guarded("autoscaler.v2.sdk.get_cluster_status", "idle workers are ended after seconds", read, True)


def quiet_train_reports() -> None:
    """Silence the logger with which Ray Train tells every report of a worker; Ray names it by its file."""

    def read() -> None:
        from ray.train.v2._internal.execution import context as reports

        logging.getLogger(reports.__file__).setLevel(logging.WARNING)

    _guarded("train.v2._internal.execution.context", "its log tells every report of a worker", read, None)
