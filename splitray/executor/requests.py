"""What the coordinator is asked for, and the counters of what it does about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from splitray.training.tree import Segment, Target, line


@dataclass(frozen=True)
class Request:
    """A state to train, the domains to score it on, and where its segments are trained.

    Its mixture segments run in a worker group of `mixture_workers` workers, its domain segments on the domain's named
    actor with `domain_workers` workers. 0 leaves either to the ladder's pool of single processes, where a model that is
    sharded over several workers may not fit.
    """

    target: Target
    domains: tuple[str, ...] = ()
    mixture_workers: int = 0
    domain_workers: int = 0


def in_group(workers: int) -> int:
    """`Request.domain_workers` where a domain needs no actor of its own: the pool is as good as one worker."""
    return workers if workers > 1 else 0


@dataclass
class Work:
    """Counters of a stage, for progress lines and the report. Tokens are training tokens."""

    segments: int = 0
    finished: int = 0
    tokens: int = 0
    trained: int = 0
    leaf_tokens: int = 0
    failures: int = 0
    training_seconds: float = 0.0
    running: dict[str, dict[str, Any]] = field(default_factory=dict)


def workers_of(segment: Segment, requests: Iterable[Request]) -> int:
    """Workers of the group that trains a segment of the mixture: the most that a request asks for whose path it is on.

    A model that one request shards over several workers may not fit where another asks for fewer.
    """
    return max((r.mixture_workers for r in requests if _passes(r.target, segment)), default=0)


def _passes(target: Target, segment: Segment) -> bool:
    """Whether the end of a segment lies on a target's path from the root."""
    prefix = target.phases[: len(segment.phases)]
    same = len(prefix) == len(segment.phases) and line(target.recipe, prefix) == line(segment.recipe, segment.phases)
    return same and segment.end <= prefix[-1].end
