"""What the proof trains: cells of the tree, by part, in the order of their worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from splitray.config import Config, load
from splitray.ladder.grid import rungs, spread
from splitray.training.settings import ModelShape
from splitray.training.split import Split, whole_budget
from splitray.training.tree import Leaf

ROOT = Path(__file__).resolve().parents[2]
SWEPT = {"unsplit": 1.0, "split": 0.5}  # the split fractions whose learning rates are swept
Line = tuple[ModelShape, int, bool]  # size, budget, wide: every domain's specialist is trained


@dataclass(frozen=True)
class Cell:
    """One leaf of one size and seed, and the domains it is scored on.

    `rate` multiplies the size's learning rate, `specialist_lr_multiplier` that of the specialist's stretch alone.
    `decay_fraction` is another than the configuration's.
    """

    shape: ModelShape
    leaf: Leaf
    domains: tuple[str, ...]
    seed: int = 0
    rate: float = 1.0
    specialist_lr_multiplier: float = 1.0
    decay_fraction: float | None = None


@dataclass(frozen=True)
class Variant:
    """Another corpus: a name, what is added to the seed (other samples, centroids and validation documents), and the
    sources kept, by file name; all where none is named. `domains`: another K than the configuration's."""

    name: str
    seed: int = 0
    sources: tuple[str, ...] = ()
    domains: int | None = None

    def sources_of(self, config: Config) -> list[str]:
        if not self.sources:
            return list(config.corpus.sources)
        folders = dict.fromkeys(str(Path(source).parent) for source in config.corpus.sources)
        return [f"{folder}/{name}.parquet" for folder in folders for name in self.sources]


@dataclass(frozen=True)
class Programme:
    """The whole proof. Sizes are `config.ladder.shapes` (fitted), `config.model` and `larger` (predicted).

    Attributes:
        replicated: D, in tokens, that further trunk seeds repeat, at the first `replicated_sizes` sizes.
        budgets, fractions: of the bowls. The hidden size has all; at the decisive budget every domain is trained, the
            ladder's elsewhere. `bowl_sizes` are the places of the fitted sizes that have bowls too.
        decisive: budget of the comparisons on fresh seeds, other clusterings and exams.
        same_flops: budget of the hidden size whose FLOPs other sizes are given.
        multiples: of the smallest budget, that unsplit training is given; the surface's size is given `further` too.
        swept, swept_budget: places of the sizes, and budget, of the first sweeps over learning rates, times `rates`.
        surface: place of a bowl's size whose smallest budget is searched over the specialists' learning rates too, at
            1 and at `specialize_rates` times the trunk's.
        fresh: seeds that compare the planned fraction with the best measured one and with unsplit.
        clusterings: corpora of other seeds, on which planned and unsplit are compared.
        nearness: corpora whose domains lie nearer to one another, for a bowl and a multiplier of the surface's size.
        other_domains: corpora of the same documents in other numbers of domains, for the ways to choose a model.
        questions: of each exam, at most.
        searches, resamples: repetitions of every search, and ladders drawn anew for the law-guided one.
    """

    config: Config
    larger: tuple[ModelShape, ...]
    replicated: tuple[int, ...]
    replicated_sizes: int
    budgets: tuple[int, ...]
    fractions: tuple[float, ...]
    bowl_sizes: tuple[int, ...]
    decisive: int
    same_flops: int
    multiples: tuple[int, ...]
    further: tuple[int, ...]
    swept: tuple[int, ...]
    swept_budget: int
    rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    surface: int = 1
    specialize_rates: tuple[float, ...] = (0.25, 0.5, 2.0)
    fresh: tuple[int, ...] = (11, 12, 13)
    clusterings: tuple[Variant, ...] = (Variant("seed-1", 1), Variant("seed-2", 2))
    nearness: tuple[Variant, ...] = ()
    other_domains: tuple[Variant, ...] = ()
    questions: int = 500
    searches: int = 100
    resamples: int = 20

    @property
    def batch(self) -> int:
        return self.config.training.batch_tokens

    @property
    def shapes(self) -> list[ModelShape]:
        """Every size, smallest first."""
        return [*self.config.ladder.shapes, self.config.model, *self.larger]

    @property
    def hidden(self) -> ModelShape:
        """The size that the law does not see."""
        return self.config.model

    def ladder_domains(self, domains: Sequence[str]) -> tuple[str, ...]:
        return tuple(spread(domains, self.config.ladder.domains))

    def sweeps(self) -> list[tuple[ModelShape, int]]:
        """(size, budget) of the sweeps over learning rates; the last is the decisive line."""
        return [*((self.shapes[place], self.swept_budget) for place in self.swept), (self.hidden, self.decisive)]

    def sweep(self, sweep: tuple[ModelShape, int], domains: Sequence[str]) -> Iterator[Cell]:
        """Unsplit and split at one half, at every rate."""
        for rate in self.rates:
            for fraction in SWEPT.values():
                cells = self.line(*sweep, [fraction], domains, False)
                yield from (replace(cell, rate=rate) for cell in cells)

    def searched(self, domains: Sequence[str]) -> Iterator[Cell]:
        """The models of the surface over split fraction and the specialists' learning rate."""
        for fraction in self.fractions:
            for rate in sorted({1.0, *self.specialize_rates}):
                yield from self.point(domains, fraction, rate)

    def point(self, domains: Sequence[str], fraction: float, rate: float) -> list[Cell]:
        """The models of one point of the surface."""
        line = self.line(self.config.ladder.shapes[self.surface], self.budgets[0], [fraction], domains, False)
        return [replace(cell, specialist_lr_multiplier=rate) if cell.leaf.domain else cell for cell in line]

    def stages(self, domains: Sequence[str]) -> list[list[Cell]]:
        """The ladder, two models at a time, cheap ones first: two hosts are busy, and results come early.

        Every size x D x D', and further trunk seeds at the first sizes. D' = 0 is scored on every domain, a specialist
        on its own. The largest D of two sizes follows on the first four models: the law predicts it before.
        """
        ladder = self.config.ladder
        place = {shape: i for i, shape in enumerate(ladder.shapes)}
        models = [(shape, 0) for shape in ladder.shapes]
        models += [(shape, s) for shape in ladder.shapes[: self.replicated_sizes] for s in range(1, ladder.seeds)]
        models.sort(key=lambda model: (place[model[0]] + model[1], model[1]))
        early = sorted(d for d in ladder.pretrain_tokens if d)[:-1]
        every = [
            [
                *self._ladder(shape, seed, self.replicated if seed else early, ladder.specialize_tokens, domains),
                *(self._ladder(shape, seed, [0], ladder.specialize_tokens[-2:], domains) if seed == 0 else ()),
            ]
            for shape, seed in models
        ]
        late = [self.late(shape, domains) for shape in ladder.shapes]
        every = [*every[:4], *late[:2], *every[4:], *late[2:]]
        return [list(chain(*every[i : i + 2])) for i in range(0, len(every), 2)]

    def late(self, shape: ModelShape, domains: Sequence[str]) -> list[Cell]:
        """The ladder's largest D at one size."""
        ladder = self.config.ladder
        return list(self._ladder(shape, 0, [max(ladder.pretrain_tokens)], ladder.specialize_tokens, domains))

    def _ladder(
        self, shape: ModelShape, seed: int, pretrain: Sequence[int], special: Sequence[int], domains: Sequence[str]
    ) -> Iterator[Cell]:
        for step in rungs([shape], pretrain, special, self.ladder_domains(domains), [seed]):
            yield Cell(shape, step.leaf, tuple(domains) if step.leaf.domain is None else step.domains, seed)

    def grid(self, domains: Sequence[str]) -> list[Cell]:
        """All cells of the ladder."""
        return list(chain(*self.stages(domains)))

    def line(
        self,
        shape: ModelShape,
        budget: int,
        fractions: Sequence[float],
        domains: Sequence[str],
        wide: bool,
        seed: int = 0,
    ) -> Iterator[Cell]:
        """The leaves of a budget line; `wide` trains every domain's specialist, else the ladder's domains only.

        The other domains' specialists would not change these: equal D'_k are drawn independently.
        """
        weights = dict.fromkeys(domains, 1 / len(domains))
        chosen = tuple(domains) if wide else self.ladder_domains(domains)
        for fraction in fractions:
            split = Split.at(fraction, whole_budget(budget, len(weights), self.batch), weights, self.batch)
            if split.specialize_tokens[chosen[0]] == 0:
                yield Cell(shape, split.leaf(chosen[0]), tuple(domains), seed)
            else:
                yield from (Cell(shape, split.leaf(d), (d,), seed) for d in chosen)

    def bowls(self) -> list[Line]:
        """(size, budget, wide), cheapest first; wide is the hidden size at the decisive budget."""
        sizes = [*(self.config.ladder.shapes[place] for place in self.bowl_sizes), self.hidden, *self.larger]
        lines = [(s, b, s == self.hidden and b == self.decisive) for s in sizes for b in self.budgets]
        return sorted(lines, key=lambda line: line[0].width ** 2 * line[0].depth * line[1])

    @property
    def wide(self) -> Line:
        """The line of the decisive comparisons."""
        return next(line for line in self.bowls() if line[2])

    def near(self, domains: Sequence[str]) -> Iterator[Cell]:
        """A bowl and unsplit training on more tokens, at the surface's size and the smallest budget."""
        shape = self.config.ladder.shapes[self.surface]
        yield from self.line(shape, self.budgets[0], self.fractions, domains, False)
        yield from self.longer(shape, domains, self.multiples)

    def longer(self, shape: ModelShape, domains: Sequence[str], multiples: Sequence[int]) -> Iterator[Cell]:
        """Unsplit training of a size on the smallest budget and on multiples of it."""
        for factor in (1, *multiples):
            yield Cell(shape, Leaf(whole_budget(self.budgets[0] * factor, len(domains), self.batch)), tuple(domains))

    def doubled(self, domains: Sequence[str]) -> Iterator[Cell]:
        """Unsplit training on multiples of the smallest budget, at the surface's size and at the hidden one."""
        yield from self.longer(self.config.ladder.shapes[self.surface], domains, (*self.multiples, *self.further))
        yield from self.longer(self.hidden, domains, self.multiples)


def _load(name: str) -> Config:
    """A configuration whose sources are found from the repository's root, wherever this runs."""
    config = load(ROOT / "configs" / name)
    sources = [str((ROOT / source).resolve()) for source in config.corpus.sources]
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"sources": sources})})


def full() -> Programme:
    """The committed proof: some hours on two cores."""
    return Programme(
        config=_load("equal_compute.yaml"),
        # width over depth is 13 to 20 in the ladder: hidden 144 with 6 layers (24) was forecast 5 % too high, since its
        # fewer layers learn faster than a deeper model at the same few tokens
        larger=(ModelShape(hidden=128, layers=8),),
        replicated=(98_304, 294_912, 983_040),
        replicated_sizes=2,
        budgets=(1_048_576, 2_097_152, 4_194_304),
        # without 31/32 the smooth curve of one line dipped 0.010 nats between 29/32 and 1, where nothing was measured
        fractions=(0.0, 0.125, 0.25, 0.5, 0.75, 0.90625, 0.96875, 1.0),
        bowl_sizes=(1,),
        decisive=4_194_304,  # at hidden 96 and half of it a split gains 0.02 nats, as much as three seeds can tell
        same_flops=2_097_152,
        multiples=(2, 4, 8),
        further=(16,),
        swept=(0, 2, 4, 5),
        swept_budget=524_288,
        nearness=(
            Variant("prose", sources=("fiction", "history", "politics", "encyclopedic", "speeches", "movie_reviews")),
            Variant("law", sources=("law_contracts", "law_statutes", "law_terms")),
        ),
        other_domains=(Variant("four", domains=4), Variant("sixteen", domains=16)),
    )


def quick() -> Programme:
    """Minutes: shows the harness and the effect."""
    return Programme(
        config=_load("equal_compute_quick.yaml"),
        larger=(),
        replicated=(32_768, 98_304),
        replicated_sizes=1,
        budgets=(262_144, 524_288),
        fractions=(0.0, 0.25, 0.5, 0.75, 1.0),
        bowl_sizes=(),
        decisive=524_288,
        same_flops=524_288,
        multiples=(2, 4),
        further=(),
        swept=(0,),
        swept_budget=131_072,
        surface=0,
        fresh=(11,),
        clusterings=(Variant("seed-1", 1),),
        questions=50,
        searches=30,
        resamples=5,
    )


def plain(shape: ModelShape) -> dict[str, Any]:
    return {"hidden": shape.width, "layers": shape.depth}
