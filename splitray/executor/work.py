"""What the coordinator counts, and which worker trains a segment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from splitray.executor.request import Request
from splitray.runtime.progress import effort
from splitray.storage.keys import SegmentKey
from splitray.training.tree import MIXTURE, Segment, Target, line

LADDER, BASE = "ladder", "base"


@dataclass
class Work:
    """Counters of a stage, for progress lines and the report. Tokens are training tokens.

    `leaves` are models asked for, `scored` those that are trained and measured; `effort` weighs tokens by model size.
    """

    leaves: int = 0
    scored: int = 0
    effort: float = 0.0
    effort_trained: float = 0.0
    segments: int = 0
    finished: int = 0
    tokens: int = 0
    trained: int = 0
    leaf_tokens: int = 0
    training_seconds: float = 0.0
    running: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Segments of one recipe that a worker trains in one call, one after the other.

    Args:
        kind: the pool's name of the workers that may. `BASE` jobs of one number of workers share the start of a group.
        workers: 1 for a single one, more for a group.
    """

    segments: tuple[Segment, ...]
    kind: str = LADDER
    workers: int = 1


@dataclass(frozen=True)
class Widths:
    """Workers that train the segments which a request leaves to the pool: of the mixture and of domains, by N."""

    mixture: Mapping[int, int] = field(default_factory=dict)
    domain: Mapping[int, int] = field(default_factory=dict)

    def of(self, segment: Segment) -> int:
        return (self.mixture if segment.source == MIXTURE else self.domain).get(segment.recipe.params, 1)


def jobs_of(segments: Sequence[Segment], group: Sequence[Request], widths: Widths) -> list[Job]:
    """Who trains the missing segments of one recipe's requests; parents before children.

    What a request gives a number of workers for goes there: segments of the mixture to the group of the base, those of
    a domain to its own actor. The rest goes to the pool, and `widths` says to how many. Where a group of the pool
    trains the mixture's plateau, it does so in one call: the group starts once, and what leaves the plateau begins as
    soon as its place is reached.
    """
    specialists: dict[str, int] = {}
    for request in group:
        domain = request.target.phases[-1].source
        specialists[domain] = max(request.domain_workers, specialists.get(domain, 0))
    jobs, plateau = list[Job](), list[Segment]()
    for segment in segments:
        mixture = segment.source == MIXTURE
        if mixture and (workers := workers_of(segment, group)) > 0:
            jobs.append(Job((segment,), BASE, workers))
        elif workers := specialists.get(segment.source, 0):
            jobs.append(Job((segment,), f"specialist[{segment.source}]", workers))
        elif mixture and widths.of(segment) > 1 and segment.phases[-1].decay is None:
            plateau.append(segment)
        else:
            jobs.append(Job((segment,), _pool(segment, widths), widths.of(segment)))
    if plateau:
        jobs.insert(0, Job(tuple(plateau), _pool(plateau[0], widths), widths.of(plateau[0])))
    return jobs


def _pool(segment: Segment, widths: Widths) -> str:
    """Single workers serve any segment; a group is named by what it trains."""
    if widths.of(segment) == 1:
        return LADDER
    lineage = SegmentKey.parse(segment.key).lineage[:8]
    return f"group[{segment.recipe.shape.label}-{segment.source}-{lineage}-{segment.end}]"


def effort_of(segment: Segment) -> float:
    """What training a segment takes, in tokens weighed by the size of its model."""
    return effort(segment.recipe.params, segment.tokens)


def workers_of(segment: Segment, requests: Iterable[Request]) -> int:
    """Workers of the group that trains a segment of the mixture: the most that a request asks for whose path it is on.

    A model that one request shards over several workers may not fit where another asks for fewer.
    """
    return max((r.mixture_workers for r in requests if r.mixture_workers and _passes(r.target, segment)), default=0)


def _passes(target: Target, segment: Segment) -> bool:
    """Whether the end of a segment lies on a target's path from the root."""
    prefix = target.phases[: len(segment.phases)]
    same = len(prefix) == len(segment.phases) and line(target.recipe, prefix) == line(segment.recipe, segment.phases)
    return same and segment.end <= prefix[-1].end
