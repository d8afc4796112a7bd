"""The work of the filter's passes over one unit of files: plain functions, which `apply` runs on Ray Data."""

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from splitray.corpus.clean import Document, clean_documents, row_of
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.shards import read_table, write_table
from splitray.corpus.sources import SourceFile
from splitray.storage.folder import Folder
from splitray.storage.local import local_copy
from splitray.study.contamination import ExamIndex
from splitray.study.filter import DomainFilter
from splitray.study.quality import quality

_BLOCK = 4000  # documents of one file of scores: some MB of text
SCORED = np.dtype([("score", "<f4"), ("quality", "<f4"), ("bytes", "<u4"), ("order", "<u8")])  # order: hash of the id


def score_unit(
    item: dict[str, Any], target: Folder, settings: CorpusSettings, model: Folder, with_exams: bool
) -> dict[str, Any]:
    """Read, clean and score one unit of files; documents that share text with exams are left out.

    Writes `scored/<name>.parquet` with id, document, group, text, score and quality. `document` is the id of what a
    piece was cut from, and its own id where it is whole; so is the group where no column gives one. Returns the names,
    a row of type `SCORED` for each document, and counts as JSON: of what was skipped, and of what was contaminated in
    which way.

    Args:
        model: the folder that holds `filter` and, where there are exams, `exams`.
    """
    tally, leaked = Counter[str](), Counter[str]()
    files = [SourceFile(**plain) for plain in json.loads(item["files"])]
    raw = (document for file in files for document in read_file(file, settings, tally))
    documents = clean_documents(raw, settings.min_characters, settings.max_characters, tally)
    names, rows = [], []
    for number, block in enumerate(_blocks(documents)):
        kept = _uncontaminated(block, model, leaked) if with_exams else block
        if not kept:
            continue
        name, texts = f"{item['unit']:06d}-{number:04d}", [document.text for document in kept]
        scored = np.zeros(len(kept), dtype=SCORED)
        scored["score"], scored["quality"] = _filter((model / "filter").address).probability(texts), quality(texts)
        scored["bytes"], scored["order"] = [len(text.encode()) for text in texts], [d.order for d in kept]
        whole = [d.id if d.order == d.row else row_of(d.id) for d in kept]
        # a file's name would be one group for all of the file, and no longer tell which pieces belong together
        groups = whole if settings.group_column is None else [d.group for d in kept]
        columns = {"id": [d.id for d in kept], "document": whole, "group": groups, "text": texts}
        scores = {column: scored[column] for column in ("score", "quality")}
        write_table(target, f"scored/{name}.parquet", pa.table(columns | scores))
        names.append(name)
        rows.append(scored.tobytes())
    return {"unit": item["unit"], "names": names, "rows": rows, "tally": json.dumps([tally, leaked])}


def cut(item: dict[str, Any], target: Folder) -> dict[str, Any]:
    """Write those documents of one file of scores whose bit is set in `rows` to `<arm>/<name>.parquet`."""
    table = read_table(target, f"scored/{item['name']}.parquet")
    chosen = np.unpackbits(np.frombuffer(item["rows"], dtype=np.uint8), count=len(table))
    kept = table.filter(pa.array(chosen.astype(bool)))
    write_table(target, f"{item['arm']}/{item['name']}.parquet", kept)
    size = sum(len(text.encode()) for text in kept["text"].to_pylist())
    return {"arm": item["arm"], "documents": len(kept), "bytes": size}


def _blocks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while block := list(islice(documents, _BLOCK)):
        yield block


def _uncontaminated(block: list[Document], model: Folder, leaked: Counter[str]) -> list[Document]:
    found = _exams((model / "exams").address).find([document.text for document in block])
    leaked.update({"13-grams": int(found.grams.sum()), "near-duplicates": int(found.near.sum())})
    leaked["documents"] += int(found.any.sum())
    return [document for document, out in zip(block, found.any, strict=True) if not out]


@lru_cache(maxsize=1)
def _filter(address: str) -> DomainFilter:
    return DomainFilter.load(local_copy(address))


@lru_cache(maxsize=1)
def _exams(address: str) -> ExamIndex:
    return ExamIndex.load(local_copy(address))
