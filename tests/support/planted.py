"""A corpus with known domains: each has words of its own, all share some. And what the reading pass makes of files."""

import json
import random
from collections import Counter
from pathlib import Path

from splitray.corpus.clean import Document, clean_documents
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile, list_sources
from splitray.corpus.units import plan_units


def documents(domains: int = 3, each: int = 150, seed: int = 0, words: int = 80) -> list[dict[str, str]]:
    """Rows of id, text, group (five documents each) and domain, shuffled."""
    draw = random.Random(seed)

    def vocabulary(count: int) -> list[str]:
        return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(count)]

    shared = vocabulary(100)
    rows = []
    for domain in range(domains):
        own = vocabulary(300)
        for number in range(each):
            text = " ".join(draw.choice(own if draw.random() < 0.6 else shared) for _ in range(words))
            rows.append(
                {"id": f"{domain}-{number}", "text": text, "group": f"g{domain}-{number // 5}", "domain": domain}
            )
    draw.shuffle(rows)
    return rows


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_all(settings: CorpusSettings) -> tuple[list[Document], Counter[str]]:
    """Documents and counts of what the sources give, by the functions that the tasks run."""
    files, tally = list_sources(settings)
    units = plan_units(files, settings, tally)
    plain = [SourceFile(**{**p, "rows": p["rows"] and tuple(p["rows"])}) for unit in units for p in unit]
    raw = (document for file in plain for document in read_file(file, settings, tally))
    return list(clean_documents(raw, settings.min_characters, settings.max_characters, tally)), tally
