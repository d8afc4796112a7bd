"""What worker groups reserved and nobody uses any more."""

import ray


def release_orphans() -> int:
    """Remove the placement groups of this job whose creator, an actor, is dead; how many there were.

    Ray keeps such a group until the whole job ends, and Ray Train's own cleaner misses one whose controller died
    between reserving it and registering it there. Then every next worker waits for CPUs that nobody uses, forever: seen
    twice in a dozen kills of a group's supervisor or of the coordinator above it.
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
