"""The tree of training segments: everything ever trained is a path in it.

A **lineage** names the state at a token count by what was drawn and under which learning rate: a tuple of phases
(source, schedule, end). Adjacent phases that are alike are one phase, so that where earlier snapshots happened to be
cut never enters. A **segment** is a stretch of training inside the last phase of its lineage. Its key is
`<line>-<end>`: `line` hashes the recipe and the lineage but for the last end, so every snapshot that a new cut could
start from shares its prefix.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from splitray.storage.checksum import fingerprint
from splitray.storage.keys import SegmentKey
from splitray.training.recipe import Recipe
from splitray.training.settings import Schedule

T = TypeVar("T")
MIXTURE = "mixture"
_UNION = "+"  # no domain has it in its name


def union(domains: Iterable[str]) -> str:
    """The source that draws from several domains, by the shares that they have to each other in the mixture."""
    return _UNION.join(sorted(domains))


def members(source: str) -> list[str]:
    """The domains of a source that `union` named; a domain alone is its own."""
    return source.split(_UNION)


@dataclass(frozen=True)
class Phase:
    """A stretch of one source under one schedule, ending at `end` tokens since the root.

    `decay` is None on the plateau (warm-up included), else (start, end) of the decay in tokens since the root. `rate`
    multiplies the recipe's learning rate. `replay` is the share of the stretch's sequences that are the mixture's.
    """

    source: str
    end: int
    decay: tuple[int, int] | None = None
    rate: float = 1.0
    replay: float = 0.0

    def like(self, other: "Phase") -> bool:
        return self.kind == other.kind

    @property
    def kind(self) -> tuple[Any, ...]:
        """What a phase is but for its end. No replay and a rate of 1 are not named: keys from before them stay."""
        if self.replay:
            return (self.source, self.decay, self.rate, self.replay)
        return (self.source, self.decay) if self.rate == 1 else (self.source, self.decay, self.rate)


@dataclass(frozen=True)
class Leaf:
    """A finished model to train: D tokens of the mixture, then D' of one domain (None where D' = 0), in tokens."""

    pretrain_tokens: int
    specialize_tokens: int = 0
    domain: str | None = None

    def __post_init__(self) -> None:
        assert (self.domain is None) == (self.specialize_tokens == 0), self
        assert self.pretrain_tokens >= 0 and self.specialize_tokens >= 0 and self.tokens > 0, self

    @property
    def tokens(self) -> int:
        return self.pretrain_tokens + self.specialize_tokens

    def phases(self, schedule: Schedule, batch_tokens: int) -> tuple[Phase, ...]:
        """Warmup-stable-decay over D + D'; the decay takes the last share, on whichever data that falls."""
        assert self.pretrain_tokens % batch_tokens == 0 and self.specialize_tokens % batch_tokens == 0, self
        start = self.tokens - max(1, round(schedule.decay_fraction * self.tokens / batch_tokens)) * batch_tokens
        decay = (start, self.tokens)
        cuts = [
            (MIXTURE, 0, self.pretrain_tokens, 1.0, 0.0),
            (
                self.domain or "",
                self.pretrain_tokens,
                self.tokens,
                schedule.specialist_lr_multiplier,
                schedule.replay_share,
            ),
        ]
        phases = []
        for source, begin, end, rate, replay in cuts:
            if begin < min(end, start):
                phases.append(Phase(source, min(end, start), None, rate, replay))
            if max(begin, start) < end:
                phases.append(Phase(source, end, decay, rate, replay))
        return tuple(phases)


@dataclass(frozen=True)
class Segment:
    """Training from `start` to the end of `phases`, inside the last phase; `parent` is the state it starts from."""

    recipe: Recipe
    phases: tuple[Phase, ...]
    start: int = 0
    parent: str | None = None
    final: bool = False

    @property
    def end(self) -> int:
        return self.phases[-1].end

    @property
    def tokens(self) -> int:
        return self.end - self.start

    @property
    def source(self) -> str:
        return self.phases[-1].source

    @property
    def sources(self) -> tuple[str, ...]:
        """What is drawn from: the last phase's source, and the mixture where it is replayed."""
        return (self.source, MIXTURE) if self.phases[-1].replay else (self.source,)

    @cached_property
    def key(self) -> str:
        """A hash over the lineage: timetables ask for it thousands of times."""
        return SegmentKey(line(self.recipe, self.phases), self.end).format()

    def cursor(self, tokens: int) -> int:
        """Sequences of the last phase's stretch drawn before the state at `tokens`, replayed ones included."""
        return self._drawn(self.source, tokens)

    def _drawn(self, source: str, tokens: int) -> int:
        drawn, begin = 0, 0
        for phase in self.phases:
            if phase.source == source:
                drawn += min(phase.end, tokens) - begin
            begin = phase.end
        return drawn // self.recipe.sequence_length

    def draws(self, start: int, count: int) -> list[tuple[str, int, int]]:
        """What sequences `start` to `start + count` of the last phase's stretch are: runs of (source, start, count).

        With replay r, floor(n r) of the stretch's first n sequences are the mixture's, evenly spread. They go on where
        the mixture's own stretch ended. A pure function of the lineage, as the cursor is.
        """
        share = self.phases[-1].replay
        if not share:
            return [(self.source, start, count)]
        mixture, runs = self._drawn(MIXTURE, self.end), list[tuple[str, int, int]]()
        for place in range(start, start + count):
            before, after = _replayed(place, share), _replayed(place + 1, share)
            source, index = (MIXTURE, mixture + before) if after > before else (self.source, place - before)
            if runs and runs[-1][0] == source:
                runs[-1] = (source, runs[-1][1], runs[-1][2] + 1)
            else:
                runs.append((source, index, 1))
        return runs

    def learning_rate(self, tokens: int) -> float:
        """Learning rate of the step that starts at `tokens`: a pure function of the lineage."""
        recipe, phase = self.recipe, self.phases[-1]
        peak, after = recipe.learning_rate * phase.rate, tokens + recipe.batch_tokens
        warmed = min(1.0, after / recipe.warmup_tokens) if recipe.warmup_tokens else 1.0
        if phase.decay is None:
            return peak * warmed
        begin, end = phase.decay
        done = (after - begin) / (end - begin)
        return peak * warmed * (1 - (1 - recipe.min_lr_ratio) * done)


def _replayed(sequences: int, share: float) -> int:
    """How many of a stretch's first sequences are the mixture's. 0.29 x 100 is 28.999... in doubles, and 29 here."""
    return int(sequences * share + 1e-9)


def line(recipe: Recipe, phases: tuple[Phase, ...]) -> str:
    """Hash of a lineage but for its last end; snapshots along one phase share it."""
    last = phases[-1]
    body = [[p.source, p.end, *p.kind[1:]] for p in phases[:-1]] + [[*last.kind]]
    return SegmentKey.line_of(fingerprint([recipe.hash, body]))


@dataclass(frozen=True)
class Target:
    """A state that somebody asks for: the end of `phases`. A `final` one has no children and keeps no moments.

    Adjacent phases that are alike become one, so `phases` is the canonical lineage however it was put together.
    """

    recipe: Recipe
    phases: tuple[Phase, ...]
    final: bool = True

    def __post_init__(self) -> None:
        ends = (p for p, q in zip(self.phases, (*self.phases[1:], None)) if q is None or not p.like(q))
        object.__setattr__(self, "phases", tuple(ends))

    @cached_property
    def key(self) -> str:
        return Segment(self.recipe, self.phases).key

    @property
    def tokens(self) -> int:
        return self.phases[-1].end

    @classmethod
    def leaf(cls, recipe: Recipe, leaf: Leaf, schedule: Schedule) -> "Target":
        return cls(recipe, leaf.phases(schedule, recipe.batch_tokens))

    @classmethod
    def root(cls, recipe: Recipe) -> "Target":
        """The model before a token is trained: a given one as it is, else a fresh one. Nothing continues from it."""
        return cls(recipe, (Phase(MIXTURE, 0, (0, 0)),))

    @classmethod
    def trunk(cls, recipe: Recipe, leaf: Leaf, schedule: Schedule) -> "Target | None":
        """The state of a split leaf at its D, which its domain's stretch starts from; None where D is 0."""
        assert leaf.domain is not None, leaf
        phases = leaf.phases(schedule, recipe.batch_tokens)
        mixture = tuple(p for p in phases if p.source == MIXTURE)
        return cls(recipe, mixture, final=False) if mixture else None


def by_recipe(items: Iterable[T], recipe: Callable[[T], Recipe]) -> list[list[T]]:
    """Items by their recipes, in the order of the first of each: a tree is one recipe's."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(recipe(item).hash, []).append(item)
    return list(groups.values())


def grow(targets: Sequence[Target], snapshots: Callable[[str], Iterable[int]]) -> list[Segment]:
    """The segments still to train so that every target stands, parents before children, shared prefixes once.

    Args:
        targets: of one recipe.
        snapshots: given a line, the ends (tokens) already published on it.
    """
    recipe = targets[0].recipe
    branches: dict[str, _Branch] = {}
    for target in targets:
        assert target.recipe.hash == recipe.hash
        begin, parent = 0, None
        for depth in range(1, len(target.phases) + 1):
            prefix = target.phases[:depth]
            name = line(recipe, prefix)
            branch = branches.setdefault(name, _Branch(prefix, begin, parent, set(snapshots(name))))
            begin, parent = prefix[-1].end, SegmentKey(name, prefix[-1].end).format()
        branch.wanted.add(begin)
        if target.final:
            branch.final.add(begin)
    # Deepest lineages first: a prefix is trained only where something missing starts from its end.
    for branch in sorted(branches.values(), key=lambda b: len(b.prefix), reverse=True):
        missing = branch.wanted - branch.stands
        if missing and branch.parent is not None and not any(e < min(missing) for e in branch.stands):
            branches[SegmentKey.parse(branch.parent).line].wanted.add(branch.begin)
    segments = [s for name, branch in branches.items() for s in branch.segments(recipe, name)]
    return sorted(segments, key=lambda s: (s.start, s.end, s.key))


@dataclass
class _Branch:
    """One line while growing: where it begins, what stands on it, what is wanted of it."""

    prefix: tuple[Phase, ...]
    begin: int
    parent: str | None
    stands: set[int]
    wanted: set[int] = field(default_factory=set)
    final: set[int] = field(default_factory=set)

    def segments(self, recipe: Recipe, name: str) -> Iterator[Segment]:
        stands = set(self.stands)
        last = self.prefix[-1]
        for end in sorted(self.wanted - stands):
            nearest = max((e for e in stands if e < end), default=None)
            start, parent = self.begin, self.parent
            if nearest is not None:
                start, parent = nearest, SegmentKey(name, nearest).format()
            phases = (*self.prefix[:-1], replace(last, end=end))
            yield Segment(recipe, phases, start, parent, end in self.final)
            stands.add(end)


def flops(params: int, tokens: int, layers: int, hidden: int, sequence_length: int) -> float:
    """Training FLOPs: 6N a token, plus 6 L h S for the causal attention scores (after Kaplan et al. 2020, app. B)."""
    return float(tokens) * (6.0 * params + 6.0 * layers * hidden * sequence_length)


def frozen_flops(params: int, tokens: int, layers: int, hidden: int, sequence_length: int) -> float:
    """As `flops`, where next to no weight learns: the gradient passes through, and 2N of the 6N are saved."""
    return flops(params, tokens, layers, hidden, sequence_length) - 2.0 * params * tokens
