"""The programme of a run: everything that it trains, assembled in this one place. No Ray.

The job's stages, the search's trials, the dry run and the check before the corpus all ask it, so that what is announced
is what is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from splitray.config import Config
from splitray.errors import UserError
from splitray.executor.request import Request, SplitFamily, in_group
from splitray.export.layouts import ROUTERS
from splitray.ladder.cost import check_ladder
from splitray.ladder.grid import Rung, rungs, spread
from splitray.ladder.rates import Swept, sweep
from splitray.law.repetition import Text
from splitray.results.evaluation import PLANNED, UNSPLIT
from splitray.results.rates import Rates
from splitray.training.family import Size
from splitray.training.model import size
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.split import Split, whole_budget
from splitray.training.tree import Leaf, Target, flops
from splitray.weights import check_budget, check_weights, shares

if TYPE_CHECKING:
    from splitray.corpus import Corpus

_STRATEGIES = {1.0: UNSPLIT, 0.0: "split at zero", 0.5: "split at one half"}


def strategy(fraction: float) -> str:
    """The name of the strategy that splits at a fraction."""
    return _STRATEGIES.get(fraction, f"split at {fraction:g}")


@dataclass(frozen=True)
class CorpusFacts:
    """What a programme takes from a corpus.

    Args:
        content_hash: of the token shards; a placeholder before they are built.
        vocab: entries of the tokenizer.
        end_token: the token that ends a document.
        domains: their names, in the order of the corpus.
        train_tokens: of every domain's training text; None before the corpus is built.
    """

    content_hash: str
    vocab: int
    end_token: int
    domains: tuple[str, ...]
    train_tokens: Mapping[str, int] | None = None

    @classmethod
    def of(cls, corpus: "Corpus") -> "CorpusFacts":
        """Of a finished corpus."""
        tokens = {d: corpus.counts(d, "train")["tokens"] for d in corpus.domains}
        return cls(corpus.content_hash, corpus.vocab_size, corpus.end_token, tuple(tokens), tokens)

    @classmethod
    def unbuilt(cls, config: Config) -> "CorpusFacts":
        """Placeholders for a corpus that is not built yet: they give costs, but no key that a store could hold."""
        known = config.corpus.given_names or (() if isinstance(config.weights, str) else sorted(config.weights))
        names = tuple(known) or tuple(f"domain-{k}" for k in range(config.corpus.domains))
        return cls("not built yet", config.corpus.tokenizer.vocabulary, 0, names)

    def identity(self) -> dict[str, Any]:
        """What a recipe holds of a corpus."""
        return {"content_hash": self.content_hash, "vocab": self.vocab, "end_token": self.end_token}


@dataclass(frozen=True)
class Programme:
    """What a run of `config` trains on a corpus, in a resolved precision ("fp32" or "bf16").

    rates: the best learning rates of the target by the ladder's sweep; None before it, or without one.
    """

    config: Config
    corpus: CorpusFacts
    precision: str
    rates: Rates | None = None

    @classmethod
    def unbuilt(cls, config: Config, precision: str = "bf16") -> "Programme":
        """The programme before the corpus is built; its costs do not depend on the precision."""
        return cls(config, CorpusFacts.unbuilt(config), precision)

    @cached_property
    def training(self) -> TrainingSettings:
        return self.config.training.model_copy(update={"precision": self.precision})

    @cached_property
    def weights(self) -> dict[str, float]:
        """By domain, for mixture sampling, D'_k, mean losses and baselines; equal while sizes are not known."""
        tokens = self.corpus.train_tokens
        if not isinstance(self.config.weights, str):
            return shares(self.config.weights, self.corpus.domains)
        if self.config.weights == "uniform" or tokens is None:
            return dict.fromkeys(self.corpus.domains, 1.0 / len(self.corpus.domains))
        return {d: n / sum(tokens.values()) for d, n in tokens.items()}

    @property
    def own_share(self) -> dict[str, float]:
        """By domain, the share of its specialist's tokens that is its own text: a replayed mixture has some."""
        replay = self.config.training.replay_share
        return {d: 1 - replay + replay * weight for d, weight in self.weights.items()}

    @property
    def text(self) -> Text | None:
        """How far each domain's text goes until it is read again; None before the corpus is built."""
        tokens = self.corpus.train_tokens
        return None if tokens is None else Text.of(tokens, self.weights, self.own_share)

    @property
    def budget(self) -> int:
        """D_T in whole batches of every domain."""
        return self._whole(self.config.budget)

    def _whole(self, budget: int) -> int:
        return whole_budget(budget, len(self.weights), self.training.batch_tokens)

    def recipe(self, shape: ModelShape, seed: int = 0, rate: float = 1.0) -> Recipe:
        """What decides the bits of a model of this shape, with the run's seed plus `seed`.

        rate: multiple of the configured learning rate.
        """
        training = self.training
        if rate != 1:
            training = training.model_copy(update={"learning_rate": training.learning_rate * rate})
        return recipe(shape, training, self.corpus.identity(), self.weights, self.config.seed + seed)

    def size(self, shape: ModelShape) -> Size:
        """Parameter counts with the corpus's vocabulary."""
        return size(shape, self.corpus.vocab, self.training)

    def flops(self, params: int, tokens: int) -> float | None:
        """Those of training one of the run's models, known by its N, on some tokens; None where no model has that N."""
        size = self.sizes.get(params)
        return flops(params, tokens, size.layers, size.hidden, self.training.sequence_length) if size else None

    @property
    def flops_per_token(self) -> dict[int, float]:
        """FLOPs of training on a token, by N of the run's models."""
        return {params: value for params in self.sizes if (value := self.flops(params, 1)) is not None}

    @cached_property
    def sizes(self) -> dict[int, Size]:
        """The run's models by their N."""
        return {s.params: s for s in map(self.size, (self.config.model, *self.config.ladder.shapes))}

    def ladder(self) -> list[tuple[Rung, Request]]:
        """The ladder's leaves and what is asked for each; shapes that come to one model are trained and listed once."""
        settings, batch = self.config.ladder, self.training.round_tokens
        steps = rungs(
            settings.shapes,
            [batch(d) for d in settings.pretrain_tokens],
            [batch(d) for d in settings.specialize_tokens],
            spread(self.corpus.domains, settings.domains),
            range(settings.seeds),
        )
        recipes: dict[tuple[ModelShape, int], Recipe] = {}
        asked: dict[str, tuple[Rung, Request]] = {}
        for step in steps:
            model = step.shape, step.seed
            if model not in recipes:
                recipes[model] = self.recipe(*model)
            target = Target.leaf(recipes[model], step.leaf, self.training.schedule)
            asked.setdefault(target.key, (step, Request(target, step.domains)))
        return list(asked.values())

    def rate_sweep(self) -> list[tuple[Swept, Request]]:
        """The models of the sweep over learning rates, and what is asked for each; none without `ladder.rates`."""
        settings, batch = self.config.ladder, self.training.batch_tokens
        if not settings.rates:
            return []
        budgets = [self.training.round_tokens(d) for d in settings.pretrain_tokens if d > 0]
        domains = spread(self.corpus.domains, settings.domains)
        swept = sweep(settings.shapes, budgets, settings.rates, domains, len(self.weights), batch)
        found = []
        for each in swept:
            made = self.recipe(each.shape, rate=each.multiple)
            found.append((each, Request(Target.leaf(made, each.leaf, self.training.schedule), each.domains)))
        return found

    def check_domains(self) -> None:
        """Refuse a corpus whose domains are not those of the weights, or have too little text to train on.

        Raises:
            UserError: it names the domain.
        """
        try:
            if not isinstance(self.config.weights, str):
                check_weights(self.config.weights, self.corpus.domains)
            check_budget(self.weights, self.config.budget, self.config.training.batch_tokens)
        except ValueError as error:
            raise UserError(str(error)) from None
        length = self.config.training.sequence_length
        for domain, tokens in (self.corpus.train_tokens or {}).items():
            if tokens <= length:
                raise UserError(
                    f"domain {domain} has {tokens:,} training tokens, and training.sequence_length is {length}: a "
                    "sequence takes one token more. Give more text of it, or shorten the sequence"
                )

    def check_ladder(self) -> None:
        """Refuse a ladder that costs more than `ladder.max_share` allows.

        Raises:
            UserError: with both costs, and what to change.
        """
        targets = [request.target for _, request in (*self.ladder(), *self.rate_sweep())]
        check_ladder(targets, self.training, self.size(self.config.model), self.config.budget, self.config.ladder)

    @property
    def search_shape(self) -> ModelShape:
        """The model of the search's trials."""
        return self.config.model if self.config.search.at == "target" else self.config.ladder.shapes[-1]

    def search(self) -> SplitFamily:
        """The splits that the search tries some of."""
        shape = self.search_shape
        workers = in_group(self.config.resources.specialist_workers) if shape == self.config.model else 0
        return self._family(shape, self._whole(self.config.search.budget or self.config.budget), workers)

    def final(self, split: Split | None = None) -> SplitFamily:
        """The splits of the budget for the target model; domains train on their own actors.

        split: the one that is trained, None for any that is none at all: unsplit training has a learning rate of its
        own where rates were swept.
        """
        return self._family(self.config.model, self.budget, self.config.resources.specialist_workers, split)

    def base(self, split: Split) -> Request | None:
        """The trunk that the specialists start from, or the unsplit model where no domain has a stretch of its own.

        None where the split is at zero tokens.
        """
        family = self.final(split)
        domain = next((d for d, tokens in split.specialize_tokens.items() if tokens), None)
        trunk = (
            Target.trunk(family.recipe, split.leaf(domain), family.schedule)
            if domain is not None
            else Target.leaf(family.recipe, split.leaf(next(iter(self.weights))), family.schedule)
        )
        return None if trunk is None else Request(trunk, mixture_workers=family.mixture_workers)

    def specialists(self, split: Split) -> list[Request]:
        """Every domain's finished model, in the order of the weights, scored on all domains."""
        return self.final(split).requests(split, list(self.weights))

    def baselines(self) -> dict[str, Split]:
        """By name, the splits that the planned one is compared with."""
        family = self.final()
        fractions = self.config.evaluate.baselines
        return {strategy(f): family.split(f) for f in fractions}

    def proof(self, planned: float) -> dict[str, Split]:
        """By name, the splits that a proof measures: the planned one, unsplit, and those of `proof.fractions`."""
        family = self.final()
        fractions = dict.fromkeys([1.0, *self.config.proof.fractions])
        return {PLANNED: family.split(planned)} | {strategy(f): family.split(f) for f in fractions}

    def compared(self, split: Split) -> list[Request]:
        """Every domain's model of a strategy, in the order of the weights, each scored on its own domain.

        A domain needs no actor of its own here, where one worker holds the model.
        """
        workers = in_group(self.config.resources.specialist_workers)
        return self._family(self.config.model, self.budget, workers, split).requests(split)

    def reference(self, split: Split) -> Request | None:
        """The unsplit model of the split's D, scored on all domains: the base, finished. None where D is 0."""
        if split.pretrain_tokens == 0:
            return None
        family = self.final(split)
        target = Target.leaf(family.recipe, Leaf(split.pretrain_tokens), family.schedule)
        return Request(target, tuple(self.weights), mixture_workers=family.mixture_workers)

    def routers(self, merged: ModelShape, tokens: int) -> Target:
        """The routers of a merged model, and nothing else of it, trained on the mixture as any model of the run.

        They read the mixture from its start: text that the base has seen, and so all experts alike. The learning rate
        is the configured one: at the demo's size a fifth of it gave 0.006 nats more, five times it 0.0004 less.
        """
        recipe = replace(self.recipe(merged), trainable=ROUTERS)
        return Target.leaf(recipe, Leaf(self.training.round_tokens(tokens)), self.training.schedule)

    def _family(self, shape: ModelShape, budget: int, domain_workers: int, split: Split | None = None) -> SplitFamily:
        params, fraction = self.size(shape).params, split.fraction if split is not None else 0.0
        # the search tries the ladder's last shape at the ladder's rate: its trials join the ladder's table
        swept = self.rates if shape == self.config.model else None
        rate = swept.multiple(params, budget, fraction) if swept is not None else 1.0
        return SplitFamily(
            self.recipe(shape, rate=rate),
            params,
            budget,
            self.weights,
            self.training.schedule,
            self.config.resources.base_workers if shape == self.config.model else 0,
            domain_workers,
            self.text,
        )


def labels(shapes: Sequence[ModelShape]) -> list[str]:
    """A name for each shape that people can tell from the others': no two different shapes share one."""
    named = [shape.label for shape in shapes]
    for place, shape in enumerate(shapes):
        twins = [s for s in shapes if s.label == shape.label and s != shape]
        if twins and shape.path is not None:
            parts = shape.path.rstrip("/").split("/")
            others = [s.path.rstrip("/").split("/") if s.path else [] for s in twins]
            depth = next((n for n in range(2, len(parts)) if all(o[-n:] != parts[-n:] for o in others)), len(parts))
            named[place] = "/".join(parts[-depth:])
        elif twins:
            named[place] += f"-i{shape.mlp_width}-a{shape.head_count}-kv{shape.kv_head_count}"
    return named
