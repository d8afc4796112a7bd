"""The deeper check of a run folder: beside the store that its models and numbers come from."""

from splitray.corpus.corpus import Corpus, content_hash
from splitray.errors import CorruptError, SplitrayError, StorageError
from splitray.evaluate.loss import validation_key
from splitray.evaluate.measure import loss_key
from splitray.export.check import key_of
from splitray.export.huggingface import lineage_of
from splitray.pipeline.verify import RunCheck
from splitray.results.evaluation import EvaluationResult
from splitray.results.folders import MOE, ROUTER
from splitray.results.stages import CorpusResult, SpecialistsResult
from splitray.storage.store import Published, Store
from splitray.units import some_of

_NAMED = 3  # tensors in one message


def check_store(run: RunCheck, store: Store) -> None:
    """Compare a checked run folder with its store: corpus, weights tensor by tensor, lineages, losses.

    What the store has pruned is a remark. Only what it has can be compared.
    """
    corpus = _check_corpus(run, store)
    for place, key in run.models.items():
        if place != ROUTER:
            _check_segment(run, store, place, key)
    if run.merged is not None and run.merged.key is not None:
        _check_segment(run, store, MOE, run.merged.key)
    if corpus is not None:
        _check_losses(run, store, corpus)


def _check_corpus(run: RunCheck, store: Store) -> Corpus | None:
    result, findings = run.result(CorpusResult), run.findings
    if result is None:
        return None
    published = store.find(result.key)
    if published is None:
        findings.remark(f"the store holds no {result.key}, so the corpus was not checked")
        return None
    if not _check_files(run, published):
        return None
    corpus = Corpus(store, published)
    try:
        recomputed = content_hash(corpus.manifest)
    except (SplitrayError, KeyError) as error:
        findings.fault(f"{result.key}/manifest.json", error)
        return None
    findings.lineages += 1
    if recomputed != corpus.content_hash:
        findings.fault(f"{result.key}/manifest.json", "its content hash is not that of its shards")
    for place, record in run.exports.items():
        named = record.lineage.recipe.get("corpus") if record.lineage else None
        if named not in (None, corpus.content_hash):
            findings.fault(place, f"was trained on the corpus {named:.16}..., the run's is {recomputed:.16}...")
    return corpus


def _check_files(run: RunCheck, published: Published) -> bool:
    """Whether all files of an artifact are as its marker says; nothing is invalidated here, unlike in a run."""
    whole = True
    for name in published.files:
        try:
            published.fetch(name)
            run.findings.files += 1
        except (CorruptError, StorageError) as error:
            run.findings.fault(f"store: {published.key}/{name}", error)
            whole = False
    return whole


def _check_segment(run: RunCheck, store: Store, place: str, key: str) -> None:
    published, findings = store.find(key), run.findings
    if published is None:
        findings.remark(f"the store holds no {key} any more, so the weights of {place} were not compared")
        return
    findings.records += 1
    lineage = lineage_of(published)
    if lineage is not None:
        findings.lineages += 1
        if (recomputed := key_of(lineage)) != key:
            findings.fault(f"store: {key}", f"its marker has the lineage of {recomputed}")
    if _check_files(run, published):
        _compare_weights(run, published, place)
    parent = published.meta.get("parent")
    while parent is not None:
        above = store.find(parent)
        if above is None:
            findings.remark(f"the store holds no {parent}, an ancestor of {place}")
            return
        findings.records += 1
        parent = above.meta.get("parent")


def _compare_weights(run: RunCheck, published: Published, place: str) -> None:
    """Every parameter of the exported model beside the store's, bit by bit, as `transformers` loads it.

    Where a segment trained some of the weights, these are compared: the store has no others.
    """
    import torch

    from splitray.storage.local import local_copy
    from splitray.training.folder import load_exported
    from splitray.training.state import load

    try:
        model = load_exported(local_copy((run.folder / place).address))
        weights = load(published, moments=False).weights
    except (OSError, ValueError, RuntimeError, SplitrayError) as error:
        run.findings.fault(place, f"cannot be loaded: {error}")
        return
    exported = dict(model.named_parameters())
    partly = "trainable" in published.meta.get("recipe", {})
    different = sorted(weights.keys() - exported.keys() if partly else weights.keys() ^ exported.keys())
    for name in weights.keys() & exported.keys():
        run.findings.tensors += 1
        if not torch.equal(exported[name].detach().float(), weights[name].float()):
            different.append(name)
    if different:
        named = some_of(sorted(different), _NAMED)
        run.findings.fault(place, f"its weights are not those of {published.key} in the store: {named}")


def _check_losses(run: RunCheck, store: Store, corpus: Corpus) -> None:
    """The loss matrix beside the losses by document that the store holds."""
    evaluated, specialists = run.result(EvaluationResult), run.result(SpecialistsResult)
    if evaluated is None or specialists is None or run.config is None:
        return
    validation = validation_key(corpus, run.config.evaluate.validation_tokens)
    keys = {s.domain: s.key for s in specialists.specialists}
    matrix = evaluated.matrix
    for model, row in zip(matrix.models, matrix.loss, strict=True):
        key = keys.get(model) or (evaluated.base.key if evaluated.base else None)
        for domain, loss in zip(matrix.domains, row, strict=True):
            held = store.find(loss_key(key, validation, domain)) if key else None
            if held is None:
                continue
            run.findings.records += 1
            if abs(held.recorded("loss") - loss) > 1e-9 * abs(loss):
                run.findings.fault(
                    "stages/evaluate.json",
                    f"says that {model} has the loss {loss:.6f} on {domain}; the store has {held.recorded('loss'):.6f}",
                )
