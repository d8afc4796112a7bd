"""The tree as a run's stages grow it, one after the other: what each stage trains, reckoned before anything runs."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from splitray.executor.request import Request
from splitray.executor.schedule import Group
from splitray.law.planning.plan import Plan
from splitray.pipeline.programme import Programme
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.family import Size
from splitray.training.recipe import Recipe
from splitray.training.split import Split
from splitray.training.tree import Segment, by_recipe, flops, grow, line
from splitray.units import counted

Round = tuple[Group, ...]  # missing segments by recipe, and the requests for them that come together


@dataclass(frozen=True)
class Part:
    """One line of the dry run: a stage, its segments and what they cost.

    The requests of a round are not made before those of the round before it are answered.
    """

    name: str
    sizes: dict[str, Size]  # of each recipe, by its hash
    segments: list[Segment]
    leaf_tokens: int
    workers: int
    reused: int
    rounds: tuple[Round, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(s.tokens for s in self.segments)

    @property
    def flops(self) -> float:
        return sum(self.flops_of(s, s.tokens) for s in self.segments)

    def flops_of(self, segment: Segment, tokens: int) -> float:
        """Those of training so many tokens of one of its segments."""
        size = self.sizes[segment.recipe.hash]
        return flops(size.params, tokens, size.layers, size.hidden, segment.recipe.sequence_length)

    @classmethod
    def together(cls, name: str, parts: "Sequence[Part]") -> "Part":
        """Several parts as one line."""
        return cls(
            name,
            {key: size for part in parts for key, size in part.sizes.items()},
            [s for part in parts for s in part.segments],
            sum(part.leaf_tokens for part in parts),
            max((part.workers for part in parts), default=0),
            sum(part.reused for part in parts),
            tuple(each for part in parts for each in part.rounds),
        )


class Growth:
    """A tree as one stage after the other grows it, before anything runs.

    Args:
        size_of: counts of a recipe's model.
        store: None where no key is known: then only what the lines above train is reused.
    """

    def __init__(self, size_of: Callable[[Recipe], Size], store: Store | None) -> None:
        self._size_of = size_of
        self._stands = defaultdict[str, set[int]](set)  # ends by line
        self._add(store.keys(SegmentKey.prefix()) if store else [])

    def _add(self, names: Iterable[str]) -> None:
        for name in names:
            if (key := SegmentKey.match(name)) is not None:
                self._stands[key.line].add(key.tokens)

    def part(
        self,
        name: str,
        requests: Iterable[Request],
        workers: int,
        kept: bool = True,
        rounds: Sequence[Sequence[Request]] = (),
    ) -> Part:
        """A line of the table; what is `kept` counts as trained for the lines below.

        Args:
            rounds: the requests by when they come, where not all come at once.
        """
        asked = list(requests)
        unique = {r.target.key: r.target for r in asked}.values()  # one unsplit model may serve every domain
        groups = by_recipe(unique, lambda t: t.recipe)
        segments = [s for group in groups for s in grow(group, lambda line: self._stands[line])]
        whole = [s for group in groups for s in grow(group, lambda line: [])]
        reused = sum(s.tokens for s in whole) - sum(s.tokens for s in segments)
        sizes = {g[0].recipe.hash: self._size_of(g[0].recipe) for g in groups}
        if kept:
            self._add(s.key for s in segments)
        leaf_tokens = sum(t.tokens for t in unique if t.final)
        return Part(name, sizes, segments, leaf_tokens, workers, reused, _rounds(segments, rounds or [asked]))


class Tree(Growth):
    """The tree of the main job; `store` as of `Growth`."""

    def __init__(self, programme: Programme, store: Store | None) -> None:
        super().__init__(lambda made: programme.size(made.shape), store)
        self.programme, self._config = programme, programme.config
        self._pool = int(self._config.resources.capacity or 1)

    def ladder(self) -> Part:
        requests = [request for _, request in (*self.programme.ladder(), *self.programme.rate_sweep())]
        return self.part(f"ladder: {len(requests)} leaves", requests, self._pool)

    def search(self, plan: Plan | None, searched: Sequence[Split] | None) -> Part:
        """The trials that a finished search ran, else as many as there may be, around the plan."""
        family, settings = self.programme.search(), self._config.search
        if searched is None:
            middle, most = (
                (plan.split_fraction.value if plan else 0.25),
                settings.max_rounds * settings.trials_per_round,
            )
            fractions = [min(1.0, max(0.0, middle + 0.05 * (i - most // 2))) for i in range(most)]
            name, splits = f"search: at most {counted(most, 'trial')}", [family.split(f) for f in fractions]
        else:
            name, splits = f"search: {counted(len(searched), 'trial')}, done", list(searched)
        size = settings.trials_per_round
        rounds = [[r for s in splits[n : n + size] for r in family.requests(s)] for n in range(0, len(splits), size)]
        return self.part(name, (r for each in rounds for r in each), self._pool, rounds=rounds)

    def base(self, split: Split) -> Part:
        """The trunk up to the split."""
        request = self.programme.base(split)
        return self.part("base", [request] if request else [], self._config.resources.base_workers)

    def specialists(self, split: Split) -> Part:
        """What the specialists need beyond the lines above."""
        return self.part("specialists", self.programme.specialists(split), self._config.resources.specialist_workers)

    def production(self, split: Split, kept: bool = True) -> Part:
        workers, base = self._config.resources.base_workers, self.programme.base(split)
        requests = [*([base] if base else []), *self.programme.specialists(split)]
        return self.part(f"base and specialists at s = {split.fraction:.3g}", requests, workers, kept)

    def alternative(self, split: Split) -> Part:
        """`production` at one of several fractions, of which the run will choose another."""
        return self.production(split, kept=False)

    def evaluation(self, split: Split | None) -> Part:
        """The baselines, and the unsplit model of the plan's D where that is known: they are asked for at once."""
        reference = self.programme.reference(split) if split is not None else None
        shown = ", ".join(f"{f:g}" for f in self._config.evaluate.baselines) or "none"
        name = f"baselines at s = {shown}" + (", and the base finished" if reference else "")
        requests = [r for baseline in self.programme.baselines().values() for r in self.programme.compared(baseline)]
        return self.part(name, requests + ([reference] if reference else []), self._config.resources.base_workers)


def _rounds(segments: Sequence[Segment], rounds: Sequence[Sequence[Request]]) -> tuple[Round, ...]:
    """Segments by the first round that needs them."""
    left = {s.key: s for s in segments}
    result = []
    for requests in rounds:
        ends: dict[str, int] = {}
        for target in {r.target.key: r.target for r in requests}.values():
            for depth in range(1, len(target.phases) + 1):
                name, end = line(target.recipe, target.phases[:depth]), target.phases[depth - 1].end
                ends[name] = max(end, ends.get(name, 0))
        mine = [s for s in left.values() if s.end <= ends.get(SegmentKey.parse(s.key).line, 0)]
        left = {key: s for key, s in left.items() if s not in mine}
        groups = by_recipe(requests, lambda r: r.target.recipe)
        by_hash = {g[0].recipe.hash: g for g in by_recipe(mine, lambda s: s.recipe)}
        result.append(tuple((by_hash.get(g[0].target.recipe.hash, []), g) for g in groups))
    return tuple(result)
