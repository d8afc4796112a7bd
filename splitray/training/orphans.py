"""What worker groups reserved and nobody uses any more."""

import contextlib
import threading
from collections.abc import Iterator

import ray

_EVERY = 5.0  # seconds between looks


def release_orphans() -> int:
    """Remove the placement groups of this job whose creator, an actor, is dead; how many there were.

    Ray keeps such a group until the whole job ends, and Ray Train's own cleaner misses one whose controller died
    between reserving it and registering it there. Then the next worker group waits for CPUs that nobody uses, forever:
    seen once in nine kills of a group's supervisor or of the owner above it.
    """
    from ray._raylet import ActorID, PlacementGroupID
    from ray.core.generated import gcs_pb2
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job, found = ray.get_runtime_context().get_job_id(), 0
    for raw in ray._private.state.state._connect_and_get_accessor().get_placement_group_table():
        group = gcs_pb2.PlacementGroupTableData.FromString(raw)
        ours = group.creator_job_id.hex() == job and group.state != gcs_pb2.PlacementGroupTableData.REMOVED
        by_actor = group.creator_actor_id != ActorID.nil().binary()  # nil, and "dead", where the driver made it
        if ours and by_actor and group.creator_actor_dead:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            found += 1
    return found


@contextlib.contextmanager
def releasing() -> Iterator[None]:
    """Look for orphans now and every few seconds: those of a process that has just died may be told late."""
    over = threading.Event()

    def look() -> None:
        while True:
            with contextlib.suppress(ray.exceptions.RayError):
                if count := release_orphans():
                    print(f"gave back the resources of {count} worker groups that are dead")
            if over.wait(_EVERY):
                return

    looker = threading.Thread(target=look, daemon=True, name="release-orphans")
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join(timeout=_EVERY)
