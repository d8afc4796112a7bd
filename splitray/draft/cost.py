"""How long a run takes on this machine, by its stages: the tree that it grows, at a measured training speed.

What a stage costs beside training was measured on two cores of an AMD EPYC with nothing beside it. It is work of a
processor too, so it is stretched by what else runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from splitray.config import Config
from splitray.corpus.survey import Survey
from splitray.draft.speed import Speed
from splitray.executor.request import Request
from splitray.pipeline.programme import Programme
from splitray.pipeline.tree import Part, Tree
from splitray.training.tree import Segment, flops

_START = 20.0  # Ray, and the imports of the first workers
_WORKER = 6.0  # the start of a worker; every domain has its own
_SEGMENT = 0.2  # read the parent, publish
_CORPUS = 12.0  # the tasks that run once, and what ten passes cost before their first row
_DOCUMENT = 1.5e-3  # seconds of a core for the passes behind reading and cleaning
_LAW = 5.0  # a fit with 200 refits
_ROUND = 5.0  # of the search, beside its law
_EVALUATE, _REPORT = 12.0, 12.0
_FORWARD = 1 / 3  # of a training step
_SPLIT = 0.5  # a plan that nobody knows yet


@dataclass(frozen=True)
class Foretold:
    """Seconds of a run, and what part of them is training.

    Args:
        tokens: that all workers train together.
    """

    seconds: float
    training: float
    tokens: int


def foretell(config: Config, survey: Survey, speed: Speed) -> Foretold:
    """The time of a run from an empty store to its report; the search is counted with all its rounds."""
    programme = Programme.unbuilt(config, "fp32")
    tree, final = Tree(programme, None), programme.final()
    split = final.split(_SPLIT)
    ladder = [request for _, request in programme.ladder()]
    compared = [r for s in (split, *programme.baselines().values()) for r in programme.compared(s)]
    parts = [tree.ladder()]
    if config.search.at != "off":
        parts.append(tree.search(None, None))
    parts += [tree.base(split), tree.specialists(split), tree.evaluation(split)]
    clock = _Clock(programme, speed)
    training = sum(clock.training(part) for part in parts)
    training += clock.scoring([*ladder, *programme.specialists(split), *compared])
    segments = sum(len(part.segments) for part in parts)
    rounds = 0 if config.search.at == "off" else config.search.max_rounds
    domains = config.corpus.domains
    beside = _START + _CORPUS + (1 + rounds) * _LAW + rounds * _ROUND + _EVALUATE + _REPORT
    shared = survey.file_bytes * survey.seconds_per_byte / speed.busy + survey.documents * _DOCUMENT
    shared += segments * _SEGMENT + domains * _WORKER
    seconds = training + speed.busy * (beside + shared / speed.workers)
    return Foretold(seconds, training, sum(part.tokens for part in parts))


@dataclass(frozen=True)
class _Clock:
    """Seconds of training and scoring the models of a programme."""

    programme: Programme
    speed: Speed

    def training(self, part: Part) -> float:
        """Of a stage: all of its segments over the workers, and not less than the longest line of descent."""
        own: dict[str, float] = {}
        until: dict[str, float] = {}
        for segment in part.segments:  # parents come before children
            own[segment.key] = self._segment(part, segment)
            until[segment.key] = own[segment.key] + until.get(segment.parent or "", 0.0)
        return max(sum(own.values()) / self.speed.workers, max(until.values(), default=0.0))

    def _segment(self, part: Part, segment: Segment) -> float:
        return segment.tokens * self.speed.seconds(part.flops_of(segment, 1))

    def scoring(self, requests: Iterable[Request]) -> float:
        """Of measuring the losses that are asked for, spread over the workers."""
        config, seconds = self.programme.config, 0.0
        for request in {r.target.key: r for r in requests}.values():
            recipe = request.target.recipe
            counted = self.programme.size(recipe.shape)
            a_token = self.speed.seconds(
                flops(counted.params, 1, counted.layers, counted.hidden, recipe.sequence_length)
            )
            seconds += len(request.domains) * config.evaluate.validation_tokens * a_token * _FORWARD
        return seconds / self.speed.workers
