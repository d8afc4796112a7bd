"""Which number of domains to plan for: ladders on clusterings of one corpus, their choice, and what was measured.

    python -m benchmarks.choose_domains 4=A/runs.parquet 8=B/runs.parquet 16=C/runs.parquet --params 1.4M --budget 16.8M
        [--measured 4=3.912:3.880 8=... 16=...] [--out choice.json]

Every run folder is of one configuration but for `corpus.domains`; its ladder's table is `runs.parquet`. `--measured`
has the losses of the unsplit model and of the best measured split on all domains, for each number: then the choice is
scored by the gain that it gives up. The choice is the one that `splitray plan --domains 4,8,16` makes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.law_common import machine
from splitray.law import fit
from splitray.law.planning.domains import CLUSTERING, choose_domains
from splitray.law.planning.question import Question
from splitray.law.runs import load_table
from splitray.units import parse_count


def tables(given: dict[int, str]) -> pa.Table:
    """The rows of all ladders, each with its number of domains; columns that all of them have."""
    read = {count: load_table(path)[0] for count, path in given.items()}
    first = next(iter(read.values()))
    shared = [name for name in first.column_names if all(name in table.column_names for table in read.values())]
    parts = []
    for count, table in read.items():
        parts.append(table.select(shared).append_column(CLUSTERING, pa.array([count] * table.num_rows)))
    return pa.concat_tables(parts)


def chosen(rows: pa.Table, counts: Sequence[int], question: Question, draws: int) -> dict[str, Any]:
    """What the choice says of each number."""
    choice = choose_domains(rows, counts, question, lambda part: fit(part, bootstrap=draws))
    return {
        "chosen": choice.best.domains,
        "candidates": [
            {
                "domains": each.domains,
                "forms": each.law.mixture,
                "split_fraction": each.plan.split_fraction.plain(),
                "gain": each.plan.gain.plain(),
                "gains_most_in": each.best_in,
            }
            for each in choice.candidates
        ],
    }


def scored(record: dict[str, Any], measured: dict[int, str]) -> dict[str, Any]:
    """Measured gains by number, and what the chosen one gives up of the largest."""
    gains = {}
    for count, pair in measured.items():
        unsplit, split = (float(loss) for loss in pair.split(":"))
        gains[count] = unsplit - split
    return {"measured_gains": gains, "given_up": max(gains.values()) - gains[record["chosen"]]}


def _pairs(given: Sequence[str]) -> dict[int, str]:
    return {int(count): value for count, _, value in (each.partition("=") for each in given)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="K=TABLE")
    parser.add_argument("--params", required=True)
    parser.add_argument("--budget", required=True)
    parser.add_argument("--measured", nargs="*", default=[], metavar="K=UNSPLIT:SPLIT")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    by_count = _pairs(given.tables)
    question = Question(float(parse_count(given.params)), float(parse_count(given.budget)), 1)
    record = {"machine": machine()} | chosen(tables(by_count), list(by_count), question, given.draws)
    if given.measured:
        record |= scored(record, _pairs(given.measured))
    print(json.dumps(record, indent=1))
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
