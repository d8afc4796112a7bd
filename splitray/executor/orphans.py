"""What worker groups reserved and nobody uses any more."""

from ray.util.placement_group import remove_placement_group

from splitray.executor.compat import orphaned_groups


def release_orphans() -> int:
    """Remove the placement groups of this job whose creator, an actor, is dead; how many there were.

    Ray keeps such a group until the whole job ends, and Ray Train's own cleaner misses one whose controller died
    between reserving it and registering it there. Then every next worker waits for CPUs that nobody uses, forever: seen
    twice in a dozen kills of a group's supervisor or of the coordinator above it.
    """
    found = orphaned_groups()
    for group in found:
        remove_placement_group(group)
    return len(found)
