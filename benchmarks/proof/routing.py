"""Specialists with a router against the unsplit model, on the decisive budget line: validation text and exams."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.proof import exams
from benchmarks.proof.bench import Bench
from benchmarks.proof.measured import decided_cells, decisive
from benchmarks.proof.programme import Cell
from splitray.corpus.tokenizer import Encoder
from splitray.evaluate.compare import Scores, chosen, difference, mean, routed

_LONGER = (1, 5)  # times the configured prefix; 25 times it is more than any validation document has


def routed_cells(bench: Bench, folder: Path) -> list[Cell]:
    """The unsplit model and the specialists of the planned fraction, each scored on every domain; none where the plan
    is not to split. Of a fresh seed: the bowl's own runs made the choice.
    """
    strategies = decisive(bench, folder)
    if strategies is None:
        return []
    domains, seed = tuple(bench.corpus.domains), bench.programme.fresh[0]
    split, unsplit = (decided_cells(bench, strategies[name], seed) for name in ("planned", "unsplit"))
    return [replace(cell, domains=domains) for cell in (*split, *unsplit)] if len(split) > 1 else []


def routed_losses(bench: Bench, cells: Sequence[Cell]) -> dict[str, Any]:
    """Loss of the specialists that a router picks from a document's first characters, beside known assignment.

    `by_prefix` begins with the configured prefix; a longer one follows. The loss is of whole documents, the prefix
    too, which is the part `share` of their characters.
    """
    domains, least = bench.corpus.domains, bench.programme.config.evaluate.prefix_characters
    scores = {(cell.leaf.domain, d): bench.scores(cell, d) for cell in cells for d in domains}
    specialists = {home: {d: scores[home, d] for d in domains} for home in domains}
    unsplit: dict[str, Scores] = {d: scores[None, d] for d in domains}
    router, told = bench.corpus.router(), list[dict[str, Any]]()
    texts = {d: bench.corpus.documents(d, "validation")["text"].to_pylist()[: len(unsplit[d].tokens)] for d in domains}
    for characters in (least * factor for factor in _LONGER):
        routes = {d: router.route([text[:characters] for text in texts[d]]) for d in domains}
        gap = difference(chosen(specialists, routes, domains), unsplit, bench.weights)
        losses = routed(specialists, routes, domains, bench.weights)
        seen = sum(min(len(text), characters) for each in texts.values() for text in each)
        share = seen / sum(len(text) for each in texts.values() for text in each)
        told.append(
            {"prefix_characters": characters, "share": share, **asdict(losses), "routed less unsplit": gap.plain()}
        )
    return {"by_prefix": told, "unsplit": mean({d: unsplit[d].loss for d in domains}, bench.weights)}


def exam_scores(bench: Bench, cells: Sequence[Cell], folder: Path, most: int) -> dict[str, Any]:
    """The choice tasks in `folder` that are there, at most so many questions of each; see `proof.exams`."""
    models = {cell.leaf.domain: bench.model(cell) for cell in cells}
    unsplit, specialists = models[None], {d: models[d] for d in bench.corpus.domains}
    router, encoder = bench.corpus.router(), Encoder(bench.corpus.tokenizer_path())
    length = bench.programme.config.training.sequence_length
    found = {name: folder / f"{name}.jsonl" for name in exams.SETS}
    return {
        name: exams.compare(exams.read(path, most), specialists, unsplit, router, encoder, length)
        for name, path in found.items()
        if path.exists()
    }
