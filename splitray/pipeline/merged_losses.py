"""The loss of a merged model beside those of a run's other models, with what the training of each has cost. No Ray."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splitray.corpus import Corpus
from splitray.errors import CorruptError
from splitray.evaluate.compare import Scores, difference, mean
from splitray.evaluate.loss import Validation, document_losses, validation_groups, validation_key
from splitray.evaluate.measure import loss_key
from splitray.executor.request import Request
from splitray.law import Law
from splitray.pipeline.programme import Programme
from splitray.results.evaluation import PLANNED, UNSPLIT, Compared, EvaluationResult
from splitray.results.merged import LossRow
from splitray.storage.store import Store
from splitray.training.recipe import Recipe
from splitray.training.split import Split
from splitray.training.tree import Target, by_recipe, grow

ByDomain = Mapping[str, Scores]
_LONGER = "unsplit model with the tuning's tokens, by the law"


@dataclass(frozen=True)
class Spent:
    """What models were trained on together, stretches that they share counted once.

    flops: None where the shape of a model is not known.
    """

    tokens: int | None = None
    flops: float | None = None

    @classmethod
    def of(cls, programme: Programme, requests: Sequence[Request]) -> "Spent":
        """What it takes to train some models from nothing: the tree's own account."""
        targets: dict[str, Target] = {r.target.key: r.target for r in requests}
        segments = [s for some in by_recipe(targets.values(), _recipe) for s in grow(some, lambda line: [])]
        costs = [programme.flops(s.recipe.params, s.tokens) for s in segments]
        known = [cost for cost in costs if cost is not None]
        return cls(sum(s.tokens for s in segments), sum(known) if len(known) == len(costs) else None)

    def plus(self, tokens: int, flops: float | None) -> "Spent":
        """With some training more."""
        assert self.tokens is not None
        return Spent(self.tokens + tokens, None if self.flops is None or flops is None else self.flops + flops)


def _recipe(target: Target) -> Recipe:
    return target.recipe


@dataclass(frozen=True)
class Measure:
    """Losses by document: measured here, or read from the store."""

    corpus: Corpus
    store: Store
    recipe: Recipe
    weights: Mapping[str, float]
    limit: int

    def of(self, model: Any) -> dict[str, Scores]:
        found = {}
        for domain in self.weights:
            text = Validation.of(self.corpus, domain, self.limit)
            nats, tokens = document_losses(model, self.recipe, text)
            groups = validation_groups(self.corpus, domain)[: len(nats)]
            found[domain] = Scores(nats, tokens, text.text_bytes, groups)
        return found

    def held(self, keys: Mapping[str, str]) -> dict[str, Scores] | None:
        """What the store has of some models, each on its own domain; None where a part is missing or damaged."""
        found = {}
        for domain, key in keys.items():
            published = self.store.find(loss_key(key, validation_key(self.corpus, self.limit), domain))
            if published is None:
                return None
            try:
                found[domain] = Scores.of(published, validation_groups(self.corpus, domain))
            except CorruptError:
                return None
        return found

    def row(self, name: str, scores: ByDomain, ours: ByDomain | None, spent: Spent) -> LossRow:
        """A row of the table, with the difference of `ours` to it."""
        return LossRow(
            name,
            mean({d: s.loss for d, s in scores.items()}, self.weights),
            mean({d: s.bits_per_byte for d, s in scores.items()}, self.weights),
            difference(ours, scores, self.weights) if ours is not None else None,
            spent.tokens,
            spent.flops,
        )


@dataclass(frozen=True)
class Others:
    """The models of a finished run that a merged one is held against.

    Args:
        planned: the split that its specialists come from.
    """

    measure: Measure
    programme: Programme
    evaluated: EvaluationResult
    planned: Split

    @property
    def specialists(self) -> Spent:
        """What the specialists have cost."""
        return Spent.of(self.programme, self.programme.compared(self.planned))

    def rows(self, ours: ByDomain, averaged: ByDomain) -> Iterator[LossRow]:
        """From the best informed to the simplest."""
        evaluated, programme = self.evaluated, self.programme
        spent, reference = self.specialists, programme.reference(self.planned)
        finished = [] if reference is None else [reference]
        name = "specialist of the known domain"
        yield from self._compared(name, evaluated.strategy(PLANNED), self.planned, ours)
        if (mixture := evaluated.mixture) is not None:
            both = Spent.of(programme, [*programme.compared(self.planned), *finished])
            yield LossRow(
                "mixture of all models", mixture.loss, mixture.bits_per_byte, tokens=both.tokens, flops=both.flops
            )
        routed = evaluated.routed
        name = f"routed by {routed.prefix_characters} characters"
        yield LossRow(name, routed.loss, routed.bits_per_byte, tokens=spent.tokens, flops=spent.flops)
        unsplit = programme.final().split(1.0)
        yield from self._compared("unsplit model of as many tokens", evaluated.strategy(UNSPLIT), unsplit, ours)
        yield from self._base(ours, Spent.of(programme, finished) if finished else Spent())
        yield self.measure.row("average of the specialists' weights", averaged, ours, spent)

    def longer(self, law: Law, tokens: int) -> LossRow | None:
        """The unsplit model with some tokens more, which nobody has trained; None where it was not compared.

        It is the loss that was measured, times the ratio that the law predicts over the domains that it knows. A law
        that is off by some share is off in both. Bits follow nats.
        """
        unsplit, programme = self.evaluated.strategy(UNSPLIT), self.programme
        if unsplit is None:
            return None
        params, budget = programme.final().params, programme.budget
        known = {domain: weight for domain, weight in programme.weights.items() if domain in law.domains}
        before, after = (
            sum(weight * float(law.predict(params, whole, 0.0, domain)) for domain, weight in known.items())
            for whole in (budget, budget + tokens)
        )
        ratio = after / before
        spent = Spent.of(programme, programme.compared(programme.final().split(1.0)))
        spent = spent.plus(tokens, programme.flops(params, tokens))
        found = unsplit.loss * ratio, unsplit.bits_per_byte * ratio
        return LossRow(_LONGER, *found, tokens=spent.tokens, flops=spent.flops)

    def _base(self, ours: ByDomain, spent: Spent) -> Iterator[LossRow]:
        """The finished base: it is the row of the loss matrix that is no domain's."""
        base, measure = self.evaluated.base, self.measure
        if base is not None and (held := measure.held(dict.fromkeys(measure.weights, base.key))) is not None:
            yield measure.row("base", held, ours, spent)
            return
        matrix = self.evaluated.matrix
        for place, name in enumerate(matrix.models):
            if name not in matrix.domains:
                losses, bits = (dict(zip(matrix.domains, rows[place])) for rows in (matrix.loss, matrix.bits_per_byte))
                found = mean(losses, measure.weights), mean(bits, measure.weights)
                yield LossRow("base", *found, tokens=spent.tokens, flops=spent.flops)

    def _compared(self, name: str, recorded: Compared | None, split: Split, ours: ByDomain) -> Iterator[LossRow]:
        """A strategy of the run's comparison: by document where the store has its losses, else as recorded."""
        requests = self.programme.compared(split)
        spent = Spent.of(self.programme, requests)
        keys = {d: r.target.key for d, r in zip(self.programme.weights, requests, strict=True)}
        if (held := self.measure.held(keys)) is not None:
            yield self.measure.row(name, held, ours, spent)
        elif recorded is not None:
            yield LossRow(name, recorded.loss, recorded.bits_per_byte, tokens=spent.tokens, flops=spent.flops)
