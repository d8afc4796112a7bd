"""From requests to a timetable: how many workers train what, and when. Pure functions. No Ray.

The coordinator asks `choose_widths` and `priorities` for what it starts, the dry run asks `foretell` for the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from splitray.executor.durations import Durations
from splitray.executor.request import Request
from splitray.executor.timetable import Starts, Task, Timetable, timetable, ways
from splitray.executor.work import BASE, Job, Widths, jobs_of
from splitray.training.tree import MIXTURE, Segment

_WORTH = 0.98  # of the makespan: a wider group must save that much
_SHORT = 0.25  # longest way over the evenly spread work, below which wider groups help no more

Group = tuple[Sequence[Segment], Sequence[Request]]  # missing segments of one recipe, and who asks for them


@dataclass(frozen=True)
class Scheduler:
    """What a timetable is made with.

    Args:
        capacity: workers that may live at once.
        limit: validation tokens a domain is scored on.
        widen: whether the pool's segments may go to groups, and small models share a device.
        idle: seconds after which an idle worker is let go.
    """

    speeds: Durations
    capacity: float
    limit: int
    widen: bool
    idle: float

    @property
    def starts(self) -> Starts:
        device = self.speeds.accelerator
        return Starts(device.start, device.group, self.idle)

    def share(self, params: int) -> float:
        """What a single worker of a model holds of a device."""
        return self.speeds.share(params) if self.widen else 1.0

    def tasks(self, groups: Iterable[Group], widths: Widths) -> list[Task]:
        """The calls by which the segments are trained and the requests scored."""
        tasks, base = list[Task](), defaultdict[int, list[Job]](list)
        scored: dict[tuple[str, tuple[str, ...]], Request] = {}
        for segments, requests in groups:
            for job in jobs_of(segments, requests, widths):
                if job.kind == BASE:
                    base[job.workers].append(job)
                else:
                    tasks.append(self._task([job]))
            scored |= {(r.target.key, r.domains): r for r in requests if r.domains}
        tasks += [replace(self._task(jobs), lane=BASE) for jobs in base.values()]
        for (key, domains), request in scored.items():
            params = request.target.recipe.params
            seconds = self.speeds.scoring(params, len(domains) * self.limit)
            name = f"score {key} {' '.join(domains)}"
            tasks.append(Task(((name, seconds),), (key,), self.share(params), first=True))
        return tasks

    def _task(self, jobs: Sequence[Job]) -> Task:
        segments, workers = [s for job in jobs for s in job.segments], jobs[0].workers
        own = {s.key for s in segments}
        after = tuple(s.parent for s in segments if s.parent is not None and s.parent not in own)
        devices = float(workers) if workers > 1 else self.share(segments[0].recipe.params)
        return Task(tuple((s.key, self.speeds.seconds(s, workers)) for s in segments), after, devices)

    def priorities(self, groups: Sequence[Group], widths: Widths) -> dict[str, float]:
        """By segment, the seconds from its begin to the end of its last descendant."""
        return ways(self.tasks(groups, widths))

    def choose_widths(self, groups: Sequence[Group]) -> Widths:
        """Workers for what the pool trains, so that no trunk dominates.

        Twice as many go to whatever takes most of the longest way, until the work itself is the limit or a batch or the
        cluster has no more to give. The shortest timetable wins; of two that are alike, the one of fewer workers.
        """
        chosen = widths = Widths()
        if not self.widen:
            return chosen
        roles = self._roles(groups)
        best = float("inf")
        while True:
            tasks = self.tasks(groups, widths)
            found = timetable(tasks, self.capacity, self.starts)
            if found.makespan < best * _WORTH:
                chosen, best = widths, found.makespan
            order = ways(tasks)
            if max(order.values(), default=0.0) <= _SHORT * found.used / self.capacity:
                return chosen
            wider = self._wider(tasks, order, roles, widths)
            if wider is None:
                return chosen
            widths = wider

    def _roles(self, groups: Sequence[Group]) -> dict[str, Segment]:
        """The segments that the pool trains, by key."""
        plain = Widths()
        jobs = [job for segments, requests in groups for job in jobs_of(segments, requests, plain)]
        return {s.key: s for job in jobs for s in job.segments if job.kind == "ladder"}

    def _wider(
        self, tasks: Sequence[Task], order: Mapping[str, float], roles: Mapping[str, Segment], widths: Widths
    ) -> Widths | None:
        """The widths with twice as many workers for the largest part of the longest way; None where none can have."""
        spent: dict[tuple[int, bool], tuple[float, Segment]] = {}
        for key, seconds in _longest(tasks, order):
            if (segment := roles.get(key)) is not None:
                role = segment.recipe.params, segment.source == MIXTURE
                spent[role] = spent.get(role, (0.0, segment))[0] + seconds, segment
        for _, segment in sorted(spent.values(), key=lambda item: -item[0]):
            workers, params = 2 * widths.of(segment), segment.recipe.params
            if workers <= self.capacity and segment.recipe.global_batch_size % workers == 0:
                if segment.source == MIXTURE:
                    return replace(widths, mixture={**widths.mixture, params: workers})
                return replace(widths, domain={**widths.domain, params: workers})
        return None


def _longest(tasks: Sequence[Task], order: Mapping[str, float]) -> list[tuple[str, float]]:
    """Keys and seconds along the longest way."""
    seconds = {key: spent for task in tasks for key, spent in task.parts}
    children: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        for key in task.after:
            children[key].append(task.parts[0][0])
        for (key, _), (later, _) in zip(task.parts, task.parts[1:]):
            children[key].append(later)
    way, at = [], max(order, key=lambda key: order[key], default=None)
    while at is not None:
        way.append((at, seconds[at]))
        at = max(children[at], key=lambda key: order[key], default=None)
    return way


def foretell(groups: Sequence[Group], scheduler: Scheduler) -> Timetable:
    """What a stage takes whose requests come at once."""
    widths = scheduler.choose_widths(groups)
    return timetable(scheduler.tasks(groups, widths), scheduler.capacity, scheduler.starts)
