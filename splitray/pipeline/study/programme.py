"""The programme of a study: everything that it trains, assembled in this one place. No Ray.

Every model is continued on every arm with equal tokens, so with equal compute: 6 N D and attention. A base of one's own
is a trunk on the general text, and its arms are branches of it at one token. They inherit its moments and its plateau,
and get no new warm-up. A given model is a root of its own, with fresh moments, and is warmed up anew. Each snapshot is
a leaf with a decay of its own, so a curve is one of finished models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from splitray.executor.request import Request, in_group
from splitray.pipeline.programme import CorpusFacts, labels
from splitray.pipeline.study.settings import StudyConfig
from splitray.results.study import FILTERED, GENERAL, MIX, Root
from splitray.study.cells import CELLS, cells_of
from splitray.training.family import Size
from splitray.training.model import size
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, Schedule, TrainingSettings
from splitray.training.tree import Leaf, Target, flops, union

OWN = ""  # the tokenizer of the bases of one's own; those of given models are named by their folders


@dataclass(frozen=True)
class Base:
    """A model that is continued.

    Args:
        tokenizer: `OWN`, or the folder of a given model's.
        peak: of the learning rate, before the sweep's multiplier.
        pretrain_tokens: of its trunk; 0 for a given model, of which nobody knows.
        tokens: of continued training at which it is measured, whole batches.
    """

    name: str
    root: Root
    shape: ModelShape
    tokenizer: str
    peak: float
    pretrain_tokens: int
    arms: tuple[str, ...]
    tokens: tuple[int, ...]
    seeds: int
    held_out: bool = False


@dataclass(frozen=True)
class Point:
    """A finished model that is measured: a base after `tokens` of continued training on an arm. At 0 it is the base."""

    base: Base
    arm: str
    seed: int
    tokens: int
    request: Request

    @property
    def key(self) -> str:
        return self.request.target.key


def unbuilt(config: StudyConfig) -> dict[str, CorpusFacts]:
    """Placeholders for corpora that are not built yet, by tokenizer: they give costs, but no key."""
    from pathlib import Path

    from splitray.training.folder import described

    facts = {OWN: CorpusFacts("not built yet", config.corpus.tokenizer.vocabulary, 0, tuple(sorted(CELLS)))}
    for given in config.given:
        rows = described(Path(given.path)).table
        facts[tokenizer_of(given.path, given.tokenizer)] = replace(facts[OWN], vocab=rows)
    return facts


def tokenizer_of(path: str, tokenizer: str | None) -> str:
    """The folder of a given model's tokenizer."""
    return tokenizer or path


@dataclass(frozen=True)
class StudyProgramme:
    """What a study trains.

    Args:
        corpora: of each tokenizer, as `Base.tokenizer` names it.
        precision: "fp32" or "bf16".
        rates: the sweep's multiplier of the learning rate by model; 1 where it names none.
    """

    config: StudyConfig
    corpora: Mapping[str, CorpusFacts]
    precision: str
    rates: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def training(self) -> TrainingSettings:
        return self.config.training.model_copy(update={"precision": self.precision})

    @cached_property
    def bases(self) -> tuple[Base, ...]:
        """All models, bases of one's own first."""
        config, made = self.config, list[Base]()
        arms, tokens = tuple(config.arms), self._whole(config.tokens)
        if (own := config.own) is not None:
            sizes = [size(shape, self.corpora[OWN].vocab, self.training) for shape in own.shapes]
            largest = max(range(len(sizes)), key=lambda place: (sizes[place].params, place))
            for place, name in enumerate(labels(own.shapes)):
                held_out = own.held_out and place == largest
                seeds = own.held_out_seeds if held_out else config.seeds
                peak, before = self.training.peak(sizes[place].hidden), self._whole([own.pretrain_tokens])[0]
                made.append(Base(name, "own", own.shapes[place], OWN, peak, before, arms, tokens, seeds, held_out))
        for given in config.given:
            made.append(
                Base(
                    given.label,
                    "given",
                    ModelShape(path=given.path),
                    tokenizer_of(given.path, given.tokenizer),
                    given.learning_rate,
                    0,
                    tuple(given.arms or arms),
                    self._whole(given.tokens) if given.tokens else tokens,
                    given.seeds or config.seeds,
                )
            )
        return tuple(made)

    def _whole(self, tokens: Sequence[int]) -> tuple[int, ...]:
        batch = self.training.batch_tokens
        return tuple(dict.fromkeys(max(batch, self.training.round_tokens(count)) for count in tokens))

    def _of(self, held_out: bool) -> list[Base]:
        return [base for base in self.bases if base.held_out is held_out]

    def weights(self, tokenizer: str) -> dict[str, float]:
        """Share of each cell in the general text: its own; equal while sizes are not known."""
        facts = self.corpora[tokenizer]
        if facts.train_tokens is None:
            return dict.fromkeys(facts.domains, 1 / len(facts.domains))
        return {cell: count / sum(facts.train_tokens.values()) for cell, count in facts.train_tokens.items()}

    def cells(self, base: Base, arm: str) -> tuple[str, ...]:
        """The cells of the corpus that an arm draws from."""
        return cells_of(arm, self.corpora[base.tokenizer].domains)

    def measured(self, base: Base) -> dict[str, dict[str, float]]:
        """What a model's validation losses are means over: cells and their shares, of the domain and of all text."""
        weights = self.weights(base.tokenizer)
        found = {}
        for name, arm in (("domain", FILTERED), ("general", GENERAL)):
            own = {cell: weights[cell] for cell in self.cells(base, arm)}
            found[name] = {cell: weight / sum(own.values()) for cell, weight in own.items()}
        return found

    def size(self, base: Base) -> Size:
        return size(base.shape, self.corpora[base.tokenizer].vocab, self.training)

    def size_of(self, made: Recipe) -> Size:
        return size(made.shape, made.vocab, self.training)

    def flops(self, params: int, tokens: int) -> float | None:
        """Those of training one of the study's models, known by its N; None where no model has that N."""
        found = next((s for s in map(self.size, self.bases) if s.params == params), None)
        if found is None:
            return None
        return flops(params, tokens, found.layers, found.hidden, self.training.sequence_length)

    @property
    def flops_per_token(self) -> dict[int, float]:
        found = {counted.params: self.flops(counted.params, 1) for counted in map(self.size, self.bases)}
        return {params: value for params, value in found.items() if value is not None}

    def learning_rate(self, base: Base, multiplier: float | None = None) -> float:
        """The peak of a model's learning rate."""
        return base.peak * (self.rates.get(base.name, 1.0) if multiplier is None else multiplier)

    def recipe(self, base: Base, seed: int, multiplier: float | None = None) -> Recipe:
        """What decides the bits of a model, with the study's seed plus `seed`."""
        peak = self.learning_rate(base, multiplier)
        training = self.training.model_copy(update={"learning_rate": peak, "learning_rate_exponent": 0.0})
        identity = self.corpora[base.tokenizer].identity()
        return recipe(base.shape, training, identity, self.weights(base.tokenizer), self.config.seed + seed)

    def epochs(self, base: Base, arm: str, tokens: int) -> float | None:
        """How often an arm's text was read by the end, its trunk included; None while its size is not known."""
        train = self.corpora[base.tokenizer].train_tokens
        if train is None:
            return None
        own = sum(train[cell] for cell in self.cells(base, arm))
        replayed = self.config.replay_share if arm == MIX else 0.0
        everywhere = base.pretrain_tokens + tokens * replayed
        return everywhere / sum(train.values()) + tokens * (1 - replayed) / own

    # what is trained

    def sweep(self, base: Base) -> list[tuple[float, Request]]:
        """A model of each learning rate, continued (or begun) on general text; none where there is one rate only."""
        sweep = self.config.sweep
        if len(sweep.multipliers) == 1:
            return []
        (tokens,) = self._whole([sweep.tokens or base.tokens[0]])
        return [
            (m, self._request(base, Target.leaf(self.recipe(base, 0, m), Leaf(tokens), self._schedule(GENERAL))))
            for m in sweep.multipliers
        ]

    def starts(self, base: Base) -> list[Point]:
        """The model before it is continued: a base finished after its trunk, a given model as it is. By arm and seed.

        A given model is the same for all seeds, so it is measured once.
        """
        points = []
        for seed in range(base.seeds):
            if base.pretrain_tokens:
                made = self.recipe(base, seed)
                target = Target.leaf(made, Leaf(base.pretrain_tokens), self._schedule(GENERAL))
            else:
                target = Target.root(self.recipe(base, 0, 1.0))
            points += [Point(base, arm, seed, 0, self._request(base, target)) for arm in base.arms]
        return points

    def lines(self, base: Base) -> list[Point]:
        """All snapshots of a model: arm, then seed, then tokens."""
        return [
            Point(base, arm, seed, tokens, self._request(base, self._target(base, arm, seed, tokens)))
            for arm in base.arms
            for seed in range(base.seeds)
            for tokens in base.tokens
        ]

    def shown(self) -> list[Point]:
        """What is trained before the forecast: every model but the one that is held out."""
        return [point for base in self._of(False) for point in (*self.starts(base), *self.lines(base))]

    def begun(self) -> list[Point]:
        """The base that is held out, before it is continued: the forecast may know it."""
        return [point for base in self._of(True) for point in self.starts(base)]

    def hidden(self) -> list[Point]:
        """What is trained after the forecast: the base that is held out, continued."""
        return [point for base in self._of(True) for point in self.lines(base)]

    def _target(self, base: Base, arm: str, seed: int, tokens: int) -> Target:
        made, before = self.recipe(base, seed), base.pretrain_tokens
        if arm == GENERAL:
            leaf = Leaf(before + tokens)
        else:
            leaf = Leaf(before, tokens, union(self.cells(base, arm)))
        return Target.leaf(made, leaf, self._schedule(arm))

    def _schedule(self, arm: str) -> Schedule:
        replay = self.config.replay_share if arm == MIX else 0.0
        return Schedule(self.training.decay_fraction, 1.0, replay)

    def _request(self, base: Base, target: Target) -> Request:
        workers = in_group(self.config.resources.base_workers)
        return Request(target, self.corpora[base.tokenizer].domains, workers, workers)
