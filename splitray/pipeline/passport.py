"""The documents beside a run's models: a card for each, and one summary of what they were trained on."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from splitray.errors import CorruptError, UserError
from splitray.export.cards import write_card, write_run_card
from splitray.export.facts import ModelFacts, RunFacts
from splitray.export.huggingface import stored
from splitray.export.training_content import write_training_content
from splitray.pipeline.ledger import starts
from splitray.report.text import on_law_domains
from splitray.results.evaluation import PLANNED
from splitray.results.exported import ExportRecord
from splitray.results.folders import CARD, EVALUATION, MOE, README, ROUTER, TRAINING_CONTENT
from splitray.results.ledger import StageSpending, StartRecord
from splitray.results.merged import MERGED, MergedEvaluation
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from splitray.training.recipe import Recipe
from splitray.training.tree import flops

_log = logging.getLogger(__name__)
_WRITTEN = "documents.json"  # in the run folder: what its own documents were when they were written


def write_passports(run: Folder, models: Iterable[str], elsewhere: Folder | None = None) -> list[str]:
    """Write the documents of a run and of its exported models.

    One that somebody has edited is left as it is; delete it to have it written anew.

    Args:
        models: the folders of the run's models, by what its stages have recorded; a merged one is found by itself.
        elsewhere: a merged model that lies outside of the run folder.

    Returns:
        What was written, by address.

    Raises:
        UserError: the run has no summary yet.
    """
    try:
        summary = Summary.parse(run.read_checksummed("summary.json"), f"{run.uri}/summary.json")
    except FileNotFoundError:
        raise UserError(f"{run.uri} has no summary.json yet: finish the run first, with splitray run") from None
    facts = _facts(run, summary)
    folders = {place: run / place for place in models if place != ROUTER}
    if run.exists(f"{MOE}/{CARD}"):
        folders[MOE] = run / MOE
    found = [(folder, model) for place, folder in folders.items() if (model := _model(folder, place, summary))]
    if elsewhere is not None and (model := _model(elsewhere, MOE, summary)) is not None:
        found.append((elsewhere, model))
    content, written = write_training_content(facts), []
    for folder, model in found:
        texts = {README: write_card(facts, model), TRAINING_CONTENT: content}
        kept, names = _keep(folder, texts, model.record.documents)
        written += names
        if kept != model.record.documents:
            replace(model.record, documents=kept).write(folder)
    if found:
        texts = {README: write_run_card(facts, [model for _, model in found]), TRAINING_CONTENT: content}
        before = run.read_checksummed(_WRITTEN) if run.exists(_WRITTEN) else {}
        kept, names = _keep(run, texts, before)
        written += names
        if kept != before:
            run.write_checksummed(_WRITTEN, dict(kept))
    return written


def _keep(folder: Folder, texts: Mapping[str, str], before: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Write those documents that nobody has edited; SHA-256 of each as it was written, and what was written now."""
    kept, written = dict(before), []
    for name, text in texts.items():
        content = text.encode()
        now = stored(folder, name).sha256 if folder.exists(name) else None
        if now is not None and now != before.get(name):
            _log.info("%s/%s was edited and is left as it is; delete it to have it written anew", folder.uri, name)
            continue
        kept[name] = hashlib.sha256(content).hexdigest()
        if now != kept[name]:
            folder.write(name, content)
            written.append(f"{folder.uri}/{name}")
    return kept, written


def _facts(run: Folder, summary: Summary) -> RunFacts:
    plan, evaluation = summary.final_plan or summary.plan, summary.evaluation
    planned = evaluation.strategy(PLANNED) if evaluation else None
    return RunFacts(
        summary,
        tuple(_spent(starts(run))),
        plan.predicted_loss if plan else None,
        on_law_domains(planned, summary) if planned else None,
    )


def _spent(ledger: Iterable[StartRecord]) -> Iterator[StageSpending]:
    """What all starts together have spent, by stage."""
    total: dict[str, StageSpending] = {}
    for stage in (stage for start in ledger for stage in start.stages):
        total[stage.stage] = total.get(stage.stage, StageSpending(stage.stage)).plus(stage)
    yield from total.values()


def _model(folder: Folder, place: str, summary: Summary) -> ModelFacts | None:
    """A model's folder; None where an earlier splitray wrote it, or it is gone."""
    try:
        record = ExportRecord.read(folder)
        card = folder.read_json(CARD)
    except (FileNotFoundError, CorruptError) as error:
        _log.warning("%s gets no card: %s", folder.uri, error)
        return None
    if record is None:
        _log.warning("%s gets no card: an earlier splitray wrote it, without checksums", folder.uri)
        return None
    if place == MOE:
        merged = MergedEvaluation.parse(folder.read_checksummed(EVALUATION, MERGED), f"{folder.uri}/{EVALUATION}")
        return ModelFacts(place, card, record, merged.params, None, merged)
    cost = None
    if record.lineage is not None and summary.config["model"].get("layers"):
        recipe, shape = Recipe.from_json(record.lineage.recipe), summary.config["model"]
        tokens = int(record.lineage.phases[-1]["end"])
        cost = flops(recipe.params, tokens, shape["layers"], shape["hidden"], recipe.sequence_length)
    return ModelFacts(place, card, record, summary.params, cost)
