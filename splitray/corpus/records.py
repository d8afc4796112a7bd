"""Rows of tables as raw documents."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile


@dataclass(frozen=True)
class Raw:
    """A document as it stands in its file. `group` is what must not be torn apart by the split.

    `domain` is the one that it is given, as the sources write it; None where domains are found.
    """

    id: str
    group: str
    text: str
    container: str
    domain: str | None = None


def columns_of(settings: CorpusSettings) -> list[str]:
    """The columns that are read: text, and id, group and domain where the settings name them."""
    named = (settings.text_column, settings.id_column, settings.group_column, settings.domain_column)
    return sorted({column for column in named if column is not None})


def document(
    record: Mapping[str, object], row: int, file: SourceFile, settings: CorpusSettings, tally: Counter[str]
) -> Iterator[Raw]:
    """The document of one row; none, and a count in `tally`, where its text is no text or its domain is not given."""
    text = record[settings.text_column]
    if text is None:
        tally["empty"] += 1
        return
    if not isinstance(text, str):
        tally["text is not a string"] += 1
        return
    domain = file.domain
    if settings.domain_column is not None:
        value = record.get(settings.domain_column)
        domain = "" if value is None else str(value).strip()
        if not domain:
            tally[no_domain(settings)] += 1
            return
    identity = record.get(settings.id_column) if settings.id_column else None
    group = record.get(settings.group_column) if settings.group_column else file.name
    own = f"{file.name}:{row}" if identity is None else str(identity)
    yield Raw(own, own if group is None else str(group), text, file.container, domain)


def no_domain(settings: CorpusSettings) -> str:
    """Why a row is left out that says nothing of its domain."""
    return f"no domain in column {settings.domain_column!r}"
