"""Exported folders of an earlier splitray, which wrote no checksums: written anew from the store."""

from splitray.corpus import Corpus
from splitray.errors import CorruptError, UserError
from splitray.export.huggingface import export, export_router
from splitray.pipeline.verify import UNCHECKED, RunCheck
from splitray.results.findings import Findings
from splitray.results.folders import CARD, CHECKSUMS, ROUTER
from splitray.results.stages import CorpusResult
from splitray.storage.folder import Folder
from splitray.storage.store import Store


def renewed(folder: Folder, store: Store) -> tuple[RunCheck, list[str]]:
    """A checked run folder whose every export has checksums, and the folders that were written anew for that.

    Raises:
        CorruptError: the folder has faults that a new export does not mend, or the store lacks a model.
        UserError: it is no run folder, or the store has not its corpus.
    """
    run = RunCheck(folder, Findings())
    run.check()
    older = [place for place in run.models if not folder.exists(f"{place}/{CHECKSUMS}")]
    run.findings.faults = [f for f in run.findings.faults if f.what != UNCHECKED]
    run.refuse_faults()
    if not older:
        return run, []
    result = run.result(CorpusResult)
    if result is None or store.find(result.key) is None:
        raise UserError(
            f"{folder.uri}/{older[0]} was written by an earlier splitray, and the store {store.root.uri} has not the "
            "run's corpus, which is needed to write it anew: give the run's store with --store"
        )
    corpus = Corpus.open(store, result.key)
    for place in older:
        if place == ROUTER:
            export_router(corpus.router_path(), folder / place, corpus.key)
        else:
            card = {name: value for name, value in _card(folder / place).items() if name != "key"}
            export(store, run.models[place], corpus.tokenizer_path(), folder / place, card)
    return RunCheck.of(folder), older


def _card(folder: Folder) -> dict[str, object]:
    try:
        card = folder.read_json(CARD)
    except (FileNotFoundError, CorruptError):
        return {}
    return dict(card) if isinstance(card, dict) else {}
