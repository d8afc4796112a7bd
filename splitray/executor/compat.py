"""What splitray uses of Ray that Ray does not promise to keep; other packages' names: `splitray/runtime/compat.py`.

Each name is used in one function. Where a later Ray lacks it, one warning names the version and what is lost, and the
run goes on: nothing here may raise into the coordinator, where an error would look like a fault of the run.

Ray's public ways were looked at first. `ray.train.get_preemption_info` answers inside a worker group only, and every
rank must call it equally often, so that it serves neither the actors of the ladder nor a thread beside the loop.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray

from splitray.runtime.compat import warn_missing

T = TypeVar("T")

# seconds for which a refusal is told: Ray 2.60 asks again within seconds, and tells old refusals five minutes later
_FRESH = 60.0
_LOG_END = 2**17  # bytes of the autoscaler's log that are read; Ray 2.60 wrote 1.5 KB a second while it was refused


@dataclass(frozen=True)
class Holder:
    """An actor that lives, or a worker group, and what it reserves.

    Attributes:
        namespace: of the actor, in Ray. name: "" where it has none.
        job: Ray's id of the job that it belongs to.
        amount: CPUs (GPUs) that it reserves.
    """

    namespace: str
    name: str
    job: str
    amount: float


@dataclass(frozen=True)
class Launch:
    """Nodes of one type that an autoscaler has asked its provider for.

    Attributes:
        failure: why the provider gave none, in its own words; empty while it is asked.
    """

    node_type: str
    count: int
    failure: str = ""


def _guarded(name: str, consequence: str, read: Callable[[], T], default: T) -> T:
    """What `read` gives, else a default where Ray lacks what it reads, with one warning."""
    try:
        return read()
    except (AttributeError, ImportError, TypeError, KeyError):
        warn_missing("ray", name, consequence)
        return default


def _accessor() -> Any:
    return ray._private.state.state._connect_and_get_accessor()


def nvml() -> Any:
    """NVIDIA's `pynvml` as Ray carries it along; None where it does not. The library behind it may still lack."""

    def carried() -> Any:
        from ray._private.thirdparty import pynvml

        return pynvml

    return _guarded("_private.thirdparty.pynvml", "the energy of GPUs is not counted", carried, None)


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
    """Every actor and worker group of the cluster that reserves "CPU" or "GPU", whichever job it belongs to."""

    def read() -> list[Holder]:
        from ray.core.generated import gcs_pb2

        found = []
        for raw in _accessor().get_actor_table(None, "ALIVE"):
            actor = gcs_pb2.ActorTableData.FromString(raw)
            if amount := actor.required_resources.get(resource, 0.0):
                found.append(Holder(actor.ray_namespace, actor.name, actor.job_id.hex(), amount))
        for raw in _accessor().get_placement_group_table():
            group = gcs_pb2.PlacementGroupTableData.FromString(raw)
            amount = sum(bundle.unit_resources.get(resource, 0.0) for bundle in group.bundles)
            if amount and group.state == gcs_pb2.PlacementGroupTableData.CREATED:
                found.append(Holder(group.ray_namespace, "a worker group", group.creator_job_id.hex(), amount))
        return found

    return _guarded("table of actors", "who holds the cluster is not told", read, [])


def unplaced() -> list[dict[str, float]] | None:
    """The shapes that tasks, actors and worker groups of the cluster wait for, such as `{"CPU": 1.0}`.

    None where it cannot be known.
    """

    def read() -> list[dict[str, float]]:
        from ray.autoscaler.v2.sdk import get_cluster_status

        demands = get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands
        waiting = (*demands.ray_task_actor_demand, *demands.placement_group_demand)
        return [dict(shape.bundle) for demand in waiting for shape in demand.bundles_by_count]

    return _guarded("autoscaler.v2.sdk.get_cluster_status", "idle workers are ended after seconds", read, None)


def launches() -> list[Launch]:
    """What the cluster's autoscaler starts or could not start, by node type; nothing where there is none."""

    def read() -> list[Launch]:
        from ray.autoscaler.v2.sdk import get_cluster_status

        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        found = [Launch(each.ray_node_type_name, each.count) for each in status.pending_launches]
        found += [Launch(each.ray_node_type_name, 1) for each in status.pending_nodes]
        now = time.time()
        failed = [each for each in status.failed_launches if now - (each.failed_ts_s or now) < _FRESH]
        log = _autoscaler_log() if failed else ""
        for each in failed:
            # Ray 2.60 leaves out what the provider said: "launch failed with Failed to launch 1 nodes of type X ...: "
            details = each.details or ""
            told = "" if details.rstrip().endswith(":") else details
            reason = (
                told or refusal(log, each.ray_node_type_name) or "monitor.log in Ray's logs on the head has the reason"
            )
            found.append(Launch(each.ray_node_type_name, each.count, reason))
        return found

    return _guarded("autoscaler.v2.sdk.get_cluster_status", "what the autoscaler does is not told", read, [])


def refusal(log: str, node_type: str) -> str:
    """Why a provider gave no node of a type, by the autoscaler's log; empty where it does not say."""
    found = re.findall(rf"Failed to launch \d+ nodes of type {re.escape(node_type)}: (.*\S)", log)
    return str(found[-1]) if found else ""


def _autoscaler_log() -> str:
    """The end of the autoscaler's log; empty on other nodes than the head, which has it."""

    def read() -> str:
        file = Path(ray._private.worker._global_node.get_logs_dir_path()) / "monitor.log"
        try:
            with file.open("rb") as log:
                log.seek(max(0, file.stat().st_size - _LOG_END))
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    return _guarded("_private.worker._global_node", "why a provider gives no nodes is not told", read, "")


def unplaced_work() -> bool:
    """Whether something of the cluster waits for resources; true where it cannot be known."""
    waiting = unplaced()
    return waiting is None or bool(waiting)


def quiet_train_reports() -> None:
    """Silence the logger with which Ray Train tells every report of a worker; Ray names it by its file."""

    def read() -> None:
        from ray.train.v2._internal.execution import context as reports

        logging.getLogger(reports.__file__).setLevel(logging.WARNING)

    _guarded("train.v2._internal.execution.context", "its log tells every report of a worker", read, None)
