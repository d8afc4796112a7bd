"""The counters of what the coordinator does, and how many workers train a segment."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from splitray.executor.request import Request
from splitray.runtime.progress import effort
from splitray.training.tree import Segment, Target, line


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
    failures: int = 0
    training_seconds: float = 0.0
    running: dict[str, dict[str, Any]] = field(default_factory=dict)


def effort_of(segment: Segment) -> float:
    """What training a segment takes, in tokens weighed by the size of its model."""
    return effort(segment.recipe.params, segment.tokens)


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
