"""Whether an exported folder is what was exported: its files, and the lineage of its weights. No model is loaded."""

import re
from typing import Any

from splitray.errors import CorruptError, StorageError, UserError
from splitray.export.huggingface import stored
from splitray.results.exported import ExportRecord, Lineage
from splitray.results.findings import Findings
from splitray.results.folders import CARD, CHECKSUMS, DOCUMENTS
from splitray.storage.folder import Folder
from splitray.training.recipe import Recipe
from splitray.training.tree import MIXTURE, Phase, Segment

_FREE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING)[\w.-]*|\.gitattributes", re.IGNORECASE)  # people may add these


def check_export(folder: Folder, place: str, findings: Findings) -> ExportRecord | None:
    """Compare an exported folder with its checksums, and recompute its key.

    Args:
        place: what faults call it, "" for the folder that was given.

    Returns:
        The folder's record, None where it has none that can be read.
    """
    at = f"{place}/" if place else ""
    try:
        record = ExportRecord.read(folder)
    except (CorruptError, UserError) as error:
        findings.fault(f"{at}{CHECKSUMS}", error)
        return None
    if record is None:
        return None
    findings.records += 1
    _check_files(folder, record, at, findings)
    if record.lineage is not None:
        _check_lineage(folder, record, record.lineage, at, findings)
    return record


def _check_files(folder: Folder, record: ExportRecord, at: str, findings: Findings) -> None:
    there = set(folder.names(recursive=True))
    for name, file in record.files.items():
        if name not in there:
            findings.fault(f"{at}{name}", "missing")
            continue
        try:
            size = folder.size(name)
            if size != file.bytes:
                findings.fault(f"{at}{name}", f"has {size} bytes, recorded are {file.bytes}")
            else:
                folder.fetch(name, file.sha256)
                findings.files += 1
        except (CorruptError, StorageError) as error:
            findings.fault(f"{at}{name}", f"its content has changed: {error}")
    for name in sorted(there - {*record.files, *DOCUMENTS, CHECKSUMS}):
        if not _FREE.fullmatch(name):
            findings.fault(f"{at}{name}", f"not among the files of {CHECKSUMS}: nothing says where it comes from")
    for name, sha256 in record.documents.items():
        if name not in there:
            findings.remark(f"{at}{name} was deleted")
        elif stored(folder, name).sha256 != sha256:
            findings.remark(f"{at}{name} was edited after it was written, which it is there for")


def _check_lineage(folder: Folder, record: ExportRecord, lineage: Lineage, at: str, findings: Findings) -> None:
    try:
        phases, key = phases_of(lineage), key_of(lineage)
    except (CorruptError, UserError, KeyError, TypeError, ValueError) as error:
        findings.fault(f"{at}{CHECKSUMS}", f"its lineage cannot be read: {error}")
        return
    findings.lineages += 1
    if key != record.key:
        findings.fault(f"{at}{CHECKSUMS}", f"its lineage is that of {key}, and it names {record.key}")
    try:
        card = folder.read_json(CARD)
    except (CorruptError, FileNotFoundError):
        return  # the file is reported as missing or changed
    for name, meant in _named(phases, record).items():
        if isinstance(card, dict) and card.get(name, meant) != meant:
            findings.fault(f"{at}{CARD}", f"says {name} = {card[name]}, by its lineage it is {meant}")


def _named(phases: tuple[Phase, ...], record: ExportRecord) -> dict[str, Any]:
    """What a card must say of a lineage. A plan that does not split gives one model of no domain to every domain."""
    drawn = [phase.end for phase in phases if phase.source == MIXTURE]
    pretrained = max(drawn, default=0)
    named = {"key": record.key, "pretrain_tokens": pretrained, "specialize_tokens": phases[-1].end - pretrained}
    return named | ({"domain": phases[-1].source} if phases[-1].source != MIXTURE else {})


def key_of(lineage: Lineage) -> str:
    """The key that a lineage has: recomputed, not read.

    Raises:
        CorruptError: it is no lineage.
    """
    return Segment(Recipe.from_json(lineage.recipe), phases_of(lineage)).key


def phases_of(lineage: Lineage) -> tuple[Phase, ...]:
    """The phases of a lineage."""
    return tuple(
        Phase(
            p["source"],
            p["end"],
            (p["decay"][0], p["decay"][1]) if p["decay"] else None,
            p.get("rate", 1.0),
            p.get("replay", 0.0),  # segments from before there was replay record none
        )
        for p in lineage.phases
    )
