"""The specialists of a finished run as one model with experts, and its loss beside theirs. No Ray."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from splitray.corpus import Corpus
from splitray.errors import UserError
from splitray.export.huggingface import write_model
from splitray.export.moe import average, idle, merge
from splitray.law import Law
from splitray.pipeline.merged_losses import ByDomain, Measure, Others
from splitray.pipeline.tuning import check_tuning, tune_routers
from splitray.pipeline.verify import RunCheck
from splitray.results.evaluation import EvaluationResult
from splitray.results.folders import BASE, EVALUATION
from splitray.results.merged import MERGED, LossRow, MergedEvaluation, Tuning
from splitray.results.stages import CorpusResult, SearchResult, SpecialistsResult
from splitray.storage.folder import Folder
from splitray.storage.local import local_copy
from splitray.storage.store import Store
from splitray.training.folder import load_exported
from splitray.training.loop import Hooks

_FITTED, _TUNED = "one model with experts", "one model with experts, its routers tuned"
_USE = "to use on any text: each token goes to some of the specialists' MLPs, which a router of each layer chooses"


@dataclass(frozen=True)
class MergeSettings:
    """How specialists are merged.

    Args:
        active: experts that a token passes.
        shared: attention, norms, embeddings and head are the specialists' mean, or the finished base's.
        router_tokens: training tokens of each domain that the routers are fitted on, at most.
        tune_tokens: of the mixture that the routers alone are trained on afterwards. 0: they stay as they were fitted.
    """

    active: int = 2
    shared: Literal["average", "base"] = "average"
    router_tokens: int = 65536
    tune_tokens: int = 0


def merge_run(
    run: RunCheck, store: Store, target: Folder, settings: MergeSettings, hooks: Hooks | None = None
) -> MergedEvaluation:
    """Merge the specialists of a checked run, measure the result, and write it into a folder.

    Args:
        run: a finished run whose check found no fault.
        store: has the corpus, for the routers and for the validation documents.
        hooks: of the loop that trains the routers.

    Raises:
        UserError: the run has no specialists or is not evaluated, or they cannot be merged.
        Interrupted: `hooks.stop` said so. The same call continues.
    """
    specialists, searched = run.result(SpecialistsResult), run.result(SearchResult)
    evaluated = run.result(EvaluationResult)
    if specialists is None or searched is None or evaluated is None:
        raise UserError(f"{run.folder.uri} is not evaluated yet: finish the run first, with splitray run")
    programme = run.programme()
    if settings.tune_tokens:
        check_tuning(programme, settings.active, settings.tune_tokens)
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
    measure = Measure(corpus, store, recipe, programme.weights, limit)
    split = programme.final().split(searched.final_plan.split_fraction.value)
    others = Others(measure, programme, evaluated, split)
    ours, fitted, tuned = measure.of(merged), None, None
    if settings.tune_tokens:
        fitted, tuned = ours, tune_routers(merged, programme, corpus, store, settings.tune_tokens, hooks)
        ours = measure.of(merged)
    first = _first(others, ours, fitted, tuned.record if tuned else None, run)
    record = MergedEvaluation(
        architecture=type(merged).__name__,
        experts=tuple(models),
        active=settings.active,
        shared=settings.shared,
        router_tokens=min(len(text) for text in texts.values()) // recipe.sequence_length * recipe.sequence_length,
        params=_count(merged),
        active_params=_count(merged) - idle(merged),
        rows=(*first, *others.rows(ours, measure.of(average(list(models.values()))))),
        by_domain={domain: scores.loss for domain, scores in ours.items()},
        validation_tokens=limit,
        tuning=tuned.record if tuned else None,
    )
    key, lineage = (tuned.record.key, tuned.lineage) if tuned else (None, None)
    card = {"run": programme.config.name, "use": _USE, "architecture": record.architecture, "merged": True}
    card |= {"key": key} if key else {}
    sources = {s.path: s.key for s in specialists.specialists}
    if shared is not None and evaluated.base is not None:
        sources[BASE] = evaluated.base.key
    tokenizer = local_copy((run.folder / specialists.specialists[0].path).address)
    records = {EVALUATION: MERGED.close(record.plain())}
    write_model(merged, tokenizer, target, card, key, lineage, sources, records)
    return record


def _first(
    others: Others, ours: ByDomain, fitted: ByDomain | None, tuning: Tuning | None, run: RunCheck
) -> Iterator[LossRow]:
    """The merged model. A tuned one is followed by itself before it was tuned, and by the unsplit of as many tokens."""
    row, spent = others.measure.row, others.specialists
    if fitted is None or tuning is None:
        yield row(_FITTED, ours, None, spent)
        return
    yield row(_TUNED, ours, None, spent.plus(tuning.tokens, tuning.flops))
    yield row(_FITTED, fitted, ours, spent)
    if (longer := others.longer(_law(run), tuning.tokens)) is not None:
        yield longer


def _load(folder: Folder) -> Any:
    return load_exported(local_copy(folder.address))


def _law(run: RunCheck) -> Law:
    """The law as the search has left it."""
    return Law.load(run.folder.fetch("law_final.json", run.records["search"].files.get("law_final.json")))


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


def _count(model: Any) -> int:
    return sum(int(p.numel()) for p in model.parameters())
