"""Labelled examples of a topic out of files: a fixed sample of either class, read on Ray Data."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from splitray.corpus.clean import Document, clean_documents, row_of
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings, Source
from splitray.corpus.sources import SourceFile, list_sources
from splitray.corpus.units import plan_units
from splitray.errors import UserError
from splitray.settings import Settings
from splitray.study.apply import Passes
from splitray.study.filter import Examples

_log = logging.getLogger(__name__)
_SPARE, _LEAST = 4, 200  # a unit gives that many times its share of a class, and at least so many


class ExampleSettings(Settings):
    """Which documents are examples of the topic, and which of other text. One of three ways is given."""

    names: list[str] = Field(
        [], description="Globs. Documents of the corpus whose file fits one are of the topic, and all others are not."
    )
    column: str | None = Field(
        None, min_length=1, description="Column of the corpus's tables that says what a document is of; with `values`."
    )
    values: list[str] = Field([], description="Values of `column` that mean the topic; all others do not.")
    topic: list[Source] = Field([], description="Files of the topic, read as those of `corpus.sources`.")
    other: list[Source] = Field(
        [], description="Files of other text, beside `topic`; by default the corpus itself, which has little of it."
    )
    documents: int = Field(4000, ge=100, description="Examples at most, half of them of the topic; chosen by hash.")

    @model_validator(mode="after")
    def _one_way(self) -> "ExampleSettings":
        ways = [bool(self.names), self.column is not None, bool(self.topic)]
        if sum(ways) != 1:
            raise ValueError("say what is of the topic in one way: `names`, `column` with `values`, or `topic`")
        if (self.column is None) == bool(self.values):
            raise ValueError("`column` and `values` go together: the values of the column that mean the topic")
        if self.other and not self.topic:
            raise ValueError("`other` stands beside `topic`: give files of the topic too")
        return self


@dataclass(frozen=True)
class Labelled:
    """Examples, and the share of the topic where all of the corpus is labelled; None where only they are."""

    examples: Examples
    share: float | None


def read_examples(asked: ExampleSettings, corpus: CorpusSettings, runs: Passes) -> Labelled:
    """The examples that the settings describe.

    Raises:
        UserError: there is none of the topic, or none of other text.
    """
    sides: list[tuple[CorpusSettings, bool | None]]
    if asked.topic:
        others = corpus if not asked.other else _of(corpus, asked.other)
        sides = [(_of(corpus, asked.topic), True), (others, False)]
    else:
        labelled = corpus if asked.column is None else corpus.model_copy(update={"domain_column": asked.column})
        sides = [(labelled, None)]
    found, counts = list[dict[str, Any]](), Counter[bool]()
    for settings, label in sides:
        rows, counted = _sample(asked, settings, label, runs)
        found += rows
        counts.update(counted)
    for label, told in ((True, "the topic"), (False, "other text")):
        if not counts[label]:
            raise UserError(f"topic.examples: no document is of {told}: {_ways(asked)}")
    picked = [row for label in (True, False) for row in _lowest(found, label, asked.documents // 2)]
    share = None if asked.topic else counts[True] / counts.total()
    _log.info(f"filter: {counts[True]:,} documents of the topic and {counts[False]:,} of other text are labelled")
    texts, groups = [row["text"] for row in picked], [row["group"] for row in picked]
    return Labelled(Examples(texts, np.array([row["label"] for row in picked]), groups), share)


def _of(corpus: CorpusSettings, sources: Sequence[str]) -> CorpusSettings:
    return corpus.model_copy(update={"sources": list(sources), "source_domains": None, "domain_column": None})


def _ways(asked: ExampleSettings) -> str:
    if asked.names:
        return f"names are {', '.join(asked.names)}"
    return f"column {asked.column!r} has the values {', '.join(asked.values)}" if asked.column else "look at its files"


def _lowest(rows: Sequence[dict[str, Any]], label: bool, count: int) -> list[dict[str, Any]]:
    return sorted((row for row in rows if row["label"] is label), key=lambda row: int(row["order"]))[:count]


def _sample(
    asked: ExampleSettings, settings: CorpusSettings, label: bool | None, runs: Passes
) -> tuple[list[dict[str, Any]], Counter[bool]]:
    """Documents of either class with the lowest hashes, more than are wanted; how many there are of each."""
    files, passed = list_sources(settings)
    units = plan_units(files, settings, passed)
    most = max(_LEAST, _SPARE * asked.documents // len(units))
    work = partial(sample_unit, settings=settings, asked=asked, label=label, most=most)
    items = [{"unit": number, "files": json.dumps(unit)} for number, unit in enumerate(units)]
    rows, counts = list[dict[str, Any]](), Counter[bool]()
    for result in sorted(runs.over("read examples", work, items), key=lambda row: int(row["unit"])):
        rows += json.loads(result["rows"])
        counts.update({True: result["topic"], False: result["other"]})
    return rows, counts


def sample_unit(
    item: dict[str, Any], settings: CorpusSettings, asked: ExampleSettings, label: bool | None, most: int
) -> dict[str, Any]:
    """The `most` documents of either class with the lowest hashes in one unit of files, and the count of each.

    Args:
        label: of all documents; None where names or a column tell it.
    """
    tally = Counter[str]()
    files = [SourceFile(**plain) for plain in json.loads(item["files"])]
    raw = (document for file in files for document in read_file(file, settings, tally))
    rows, counts = list[dict[str, Any]](), Counter[bool]()
    for document in clean_documents(raw, settings.min_characters, settings.max_characters, tally):
        own = _label(document, asked) if label is None else label
        counts[own] += 1
        whole = document.id if document.order == document.row else row_of(document.id)
        group = whole if settings.group_column is None else document.group
        rows.append({"text": document.text, "group": group, "label": own, "order": str(document.order)})
    kept = [row for side in (True, False) for row in _lowest(rows, side, most)]
    return {"unit": item["unit"], "rows": json.dumps(kept), "topic": counts[True], "other": counts[False]}


def _label(document: Document, asked: ExampleSettings) -> bool:
    if asked.column is not None:
        return document.domain in asked.values
    return any(fnmatch(name, glob) for glob in asked.names for name in (document.container, document.id))
