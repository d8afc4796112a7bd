"""The specialists of a finished run as one model with experts, and its loss beside theirs. No Ray."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from splitray.corpus import Corpus
from splitray.errors import CorruptError, UserError
from splitray.evaluate.compare import Scores, difference, mean
from splitray.evaluate.loss import Validation, document_losses, validation_groups, validation_key
from splitray.evaluate.measure import loss_key
from splitray.export.huggingface import write_model
from splitray.export.moe import average, merge
from splitray.pipeline.programme import Programme
from splitray.pipeline.verify import RunCheck
from splitray.results.evaluation import PLANNED, UNSPLIT, Compared, EvaluationResult
from splitray.results.folders import BASE, EVALUATION
from splitray.results.merged import MERGED, LossRow, MergedEvaluation
from splitray.results.stages import CorpusResult, SearchResult, SpecialistsResult
from splitray.storage.folder import Folder
from splitray.storage.local import local_copy
from splitray.storage.store import Store
from splitray.training.folder import load_exported
from splitray.training.recipe import Recipe
from splitray.training.split import Split

_USE = "to use on any text: each token goes to some of the specialists' MLPs, which a router of each layer chooses"
ByDomain = Mapping[str, Scores]


@dataclass(frozen=True)
class MergeSettings:
    """How specialists are merged.

    Args:
        active: experts that a token passes.
        shared: attention, norms, embeddings and head are the specialists' mean, or the finished base's.
        router_tokens: training tokens of each domain that the routers are fitted on, at most.
    """

    active: int = 2
    shared: Literal["average", "base"] = "average"
    router_tokens: int = 65536


def merge_run(run: RunCheck, store: Store, target: Folder, settings: MergeSettings) -> MergedEvaluation:
    """Merge the specialists of a checked run, measure the result, and write it into a folder.

    Args:
        run: a finished run whose check found no fault.
        store: has the corpus, for the routers and for the validation documents.

    Raises:
        UserError: the run has no specialists or is not evaluated, or they cannot be merged.
    """
    specialists, evaluated = run.result(SpecialistsResult), run.result(EvaluationResult)
    if specialists is None or evaluated is None:
        raise UserError(f"{run.folder.uri} is not evaluated yet: finish the run first, with splitray run")
    programme = run.programme()
    models = {s.domain: _load(run.folder / s.path) for s in specialists.specialists}
    shared = None
    if settings.shared == "base":
        if evaluated.base is None:
            raise UserError(f"{run.folder.uri} has no base, since its plan splits at zero: use the average")
        shared = _load(run.folder / evaluated.base.path)
    corpus = _corpus(run, store)
    texts = {domain: _training(corpus, domain, settings.router_tokens) for domain in models}
    recipe = programme.final().recipe
    merged = merge(models, texts, recipe.sequence_length, settings.active, shared)
    limit = programme.config.evaluate.validation_tokens
    measure = _Measure(corpus, store, recipe, programme.weights, limit)
    ours = measure.of(merged)
    record = MergedEvaluation(
        architecture=type(merged).__name__,
        experts=tuple(models),
        active=settings.active,
        shared=settings.shared,
        router_tokens=min(len(text) for text in texts.values()) // recipe.sequence_length * recipe.sequence_length,
        params=_count(merged),
        active_params=_count(merged) - (len(models) - settings.active) * _expert(merged, len(models)),
        rows=tuple(_rows(measure, run, ours, measure.of(average(list(models.values()))))),
        by_domain={domain: scores.loss for domain, scores in ours.items()},
        validation_tokens=limit,
    )
    card = {"run": programme.config.name, "use": _USE, "architecture": record.architecture, "merged": True}
    sources = {s.path: s.key for s in specialists.specialists}
    if shared is not None and evaluated.base is not None:
        sources[BASE] = evaluated.base.key
    tokenizer = local_copy((run.folder / specialists.specialists[0].path).address)
    write_model(merged, tokenizer, target, card, sources=sources, records={EVALUATION: MERGED.close(record.plain())})
    return record


def _load(folder: Folder) -> Any:
    return load_exported(local_copy(folder.address))


def _corpus(run: RunCheck, store: Store) -> Corpus:
    result = run.result(CorpusResult)
    assert result is not None, "a run with specialists has a corpus"
    if store.find(result.key) is None:
        raise UserError(
            f"the store {store.root.uri} holds no {result.key}, the run's corpus, on which the routers are fitted: "
            "give the run's store with --store"
        )
    return Corpus.open(store, result.key)


def _training(corpus: Corpus, domain: str, limit: int) -> np.ndarray:
    """The first training tokens of a domain, int64; shards are ordered by hash, so they are a fair sample."""
    pieces, left = [], limit
    for shard in corpus.tokens(domain, "train"):
        pieces.append(np.asarray(shard[:left]).astype(np.int64))
        left -= len(pieces[-1])
        if left <= 0:
            break
    return np.concatenate(pieces)


@dataclass(frozen=True)
class _Measure:
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
            found[domain] = Scores(nats, tokens, text.text_bytes, self._groups(domain)[: len(nats)])
        return found

    def held(self, keys: Mapping[str, str]) -> dict[str, Scores] | None:
        """What the store has of some models, each on its own domain; None where a part is missing or damaged."""
        found = {}
        for domain, key in keys.items():
            published = self.store.find(loss_key(key, validation_key(self.corpus, self.limit), domain))
            if published is None:
                return None
            try:
                found[domain] = Scores.of(published, self._groups(domain))
            except CorruptError:
                return None
        return found

    def _groups(self, domain: str) -> np.ndarray:
        return validation_groups(self.corpus, domain)

    def row(self, name: str, scores: ByDomain, ours: ByDomain | None) -> LossRow:
        """A row of the table, with the difference of `ours` to it."""
        gap = difference(ours, scores, self.weights) if ours is not None else None
        return LossRow(
            name,
            mean({d: s.loss for d, s in scores.items()}, self.weights),
            mean({d: s.bits_per_byte for d, s in scores.items()}, self.weights),
            gap,
        )


def _rows(measure: _Measure, run: RunCheck, ours: ByDomain, averaged: ByDomain) -> Iterator[LossRow]:
    """The merged model first, then the others from the best informed to the simplest."""
    evaluated, programme, searched = run.result(EvaluationResult), run.programme(), run.result(SearchResult)
    assert evaluated is not None and searched is not None
    yield measure.row("one model with experts", ours, None)
    planned = programme.final().split(searched.final_plan.split_fraction.value)
    yield from _compared(
        measure, "specialist of the known domain", evaluated.strategy(PLANNED), planned, programme, ours
    )
    if (mixture := evaluated.mixture) is not None:
        yield LossRow("mixture of all models", mixture.loss, mixture.bits_per_byte)
    routed = evaluated.routed
    yield LossRow(f"routed by {routed.prefix_characters} characters", routed.loss, routed.bits_per_byte)
    unsplit = programme.final().split(1.0)
    yield from _compared(
        measure, "unsplit model of as many tokens", evaluated.strategy(UNSPLIT), unsplit, programme, ours
    )
    yield from _base(measure, evaluated, ours)
    yield measure.row("average of the specialists' weights", averaged, ours)


def _base(measure: _Measure, evaluated: EvaluationResult, ours: ByDomain) -> Iterator[LossRow]:
    """The finished base: it is the row of the loss matrix that is no domain's."""
    base = evaluated.base
    if base is not None and (held := measure.held(dict.fromkeys(measure.weights, base.key))) is not None:
        yield measure.row("base", held, ours)
        return
    matrix = evaluated.matrix
    for place, name in enumerate(matrix.models):
        if name not in matrix.domains:
            losses, bits = (dict(zip(matrix.domains, rows[place])) for rows in (matrix.loss, matrix.bits_per_byte))
            yield LossRow("base", mean(losses, measure.weights), mean(bits, measure.weights))


def _compared(
    measure: _Measure, name: str, recorded: Compared | None, split: Split, programme: Programme, ours: ByDomain
) -> Iterator[LossRow]:
    """A strategy of the run's comparison: from its losses by document where the store has them, else as recorded."""
    keys = {d: r.target.key for d, r in zip(programme.weights, programme.compared(split), strict=True)}
    if (held := measure.held(keys)) is not None:
        yield measure.row(name, held, ours)
    elif recorded is not None:
        yield LossRow(name, recorded.loss, recorded.bits_per_byte)


def _count(model: Any) -> int:
    return sum(int(p.numel()) for p in model.parameters())


def _expert(model: Any, experts: int) -> int:
    """Weights of one expert, all layers together."""
    return sum(int(p.numel()) for n, p in model.named_parameters() if ".mlp.experts." in n) // experts
