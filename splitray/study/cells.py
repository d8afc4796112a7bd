"""The cells of a filtered corpus: what both filters say of a document. Every arm of a study is a union of cells.

So one corpus serves all arms: its domains are the cells, and no text is tokenized twice.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from splitray.corpus.shards import read_table, write_table
from splitray.errors import UserError
from splitray.results.study import FILTERED, GENERAL, MIX, QUALITY
from splitray.storage.folder import Folder
from splitray.study.apply import Passes
from splitray.study.target import FILTERED as FILTERED_FOLDER
from splitray.study.target import QUALITY as QUALITY_FOLDER

TOPIC_QUALITY, TOPIC, OTHER_QUALITY, REST = CELLS = ("topic-quality", "topic", "other-quality", "rest")
_OF_ARM = {FILTERED: (TOPIC_QUALITY, TOPIC), MIX: (TOPIC_QUALITY, TOPIC), QUALITY: (TOPIC_QUALITY, OTHER_QUALITY)}
FEWEST = 10  # documents of a cell that are held out, expected: of 10, none is held out once in 20,000 times
COLUMN = "cell"


def cells_of(arm: str, cells: Collection[str]) -> tuple[str, ...]:
    """The cells that an arm draws from, of those that a corpus has; all of them for the general one.

    The domain's own text is that of the arm `filtered`.
    """
    return tuple(sorted(cells)) if arm == GENERAL else tuple(cell for cell in _OF_ARM[arm] if cell in cells)


def joined(documents: Mapping[str, int], held_out: float) -> dict[str, str]:
    """By cell, the one that its documents go to: its own, or where too few of them would be held out, its neighbour's.

    The neighbour says the same of the topic, and another thing of quality.

    Args:
        documents: of each cell. held_out: share of them that is validation text.

    Raises:
        UserError: too little text is of the topic, or too little of it is not.
    """
    counts, place = {cell: documents.get(cell, 0) for cell in CELLS}, {cell: cell for cell in CELLS}
    for pair, told in (((TOPIC_QUALITY, TOPIC), "of the topic"), ((OTHER_QUALITY, REST), "of other text")):
        small, large = sorted(pair, key=counts.__getitem__)
        if counts[small] * held_out < FEWEST:
            place[small] = large
            counts[large] += counts[small]
        if counts[large] * held_out < FEWEST:
            raise UserError(
                f"the filter finds {counts[large]:,} documents {told}, and {FEWEST / held_out:,.0f} are needed so that "
                f"about {FEWEST} are held out: give more text, change topic.filter.precision, or raise "
                "corpus.validation_share"
            )
    return place


def label(
    filtered: Folder, target: Folder, names: Sequence[str], held_out: float, runs: Passes
) -> tuple[dict[str, int], dict[str, str]]:
    """Write every scored document with its cell; documents of each cell, and where the small ones went.

    Args:
        filtered: what `apply_filter` has written. target: a folder for `<name>.parquet`.
        names: of the files of scores.
        held_out: see `joined`.
    """
    items = [{"name": name} for name in sorted(names)]
    counts = dict.fromkeys(CELLS, 0)
    for row in runs.over("count cells", partial(_count, filtered=filtered), items):
        for cell in CELLS:
            counts[cell] += int(row[cell])
    place = joined(counts, held_out)
    list(runs.over("label documents", partial(_write, filtered=filtered, target=target, place=place), items))
    return counts, place


def _cells(filtered: Folder, name: str) -> tuple[pa.Table, list[str]]:
    """One file of scores, and the cell of each of its documents."""
    scored = read_table(filtered, f"scored/{name}.parquet")
    kept = dict[str, set[str]]()
    for arm in (FILTERED_FOLDER, QUALITY_FOLDER):
        there = filtered.exists(f"{arm}/{name}.parquet")
        kept[arm] = set(read_table(filtered, f"{arm}/{name}.parquet")["id"].to_pylist()) if there else set()
    names = {(True, True): TOPIC_QUALITY, (True, False): TOPIC, (False, True): OTHER_QUALITY, (False, False): REST}
    ids = scored["id"].to_pylist()
    return scored, [names[i in kept[FILTERED_FOLDER], i in kept[QUALITY_FOLDER]] for i in ids]


def _count(item: dict[str, Any], filtered: Folder) -> dict[str, Any]:
    _, cells = _cells(filtered, item["name"])
    return {cell: cells.count(cell) for cell in CELLS}


def _write(item: dict[str, Any], filtered: Folder, target: Folder, place: Mapping[str, str]) -> dict[str, Any]:
    scored, cells = _cells(filtered, item["name"])
    columns = {name: scored[name] for name in ("id", "document", "group", "text")}
    write_table(target, f"{item['name']}.parquet", pa.table(columns | {COLUMN: [place[cell] for cell in cells]}))
    return {"documents": len(scored)}
