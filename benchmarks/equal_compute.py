"""The proof: do the paper's claims hold here, on real text, at equal compute? See docs/proof.md for what came out.

    python benchmarks/equal_compute.py                    # everything; continues where it stopped
    python benchmarks/equal_compute.py --minutes 60       # stops cleanly after an hour
    python benchmarks/equal_compute.py --part grid        # one part
    python benchmarks/equal_compute.py --quick            # own tiny settings, from nothing in minutes

Parts, in order: corpus, sweep (learning rates), grid (the ladder), forecast (written before what they predict is
trained; commit them), decide and bowl (the forecasts' runs: loss against split fraction), multiplier, search, routing,
beyond, page. Every run is a leaf of the library's tree; losses are kept in the committed table `metrics.csv`, and what
stands there is not trained again. Needs ../shared/data/corpus; runs and store go to runs/equal_compute.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from proof.bench import Bench, OutOfTime
from proof.programme import ROOT, full, quick
from proof.table import Table

from splitray.errors import SplitrayError

PARTS = ("corpus", "sweep", "grid")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="one part (may be repeated); default all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop cleanly after so many")
    parser.add_argument("--quick", action="store_true", help="tiny settings; results stay in runs/equal_compute_quick")
    options = parser.parse_args()
    os.chdir(ROOT)  # the corpus's sources are named from here
    programme = quick() if options.quick else full()
    runs = ROOT / "runs" / programme.config.name
    results = runs / "results" if options.quick else ROOT / "benchmarks/results/equal_compute"
    deadline = time.monotonic() + 60 * options.minutes
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {text}", flush=True)

    bench = Bench(programme, runs, Table.open(results / "metrics.csv"), deadline, say)
    try:
        for part in options.part or PARTS:
            say(f"== {part}")
            run(part, bench, say)
    except OutOfTime as error:
        say(f"time is up ({error}); the same command continues")
    except SplitrayError as error:
        print(f"equal_compute: {error}", file=sys.stderr)
        return 1
    return 0


def run(part: str, bench: Bench, say: Callable[[str], None]) -> None:
    domains = bench.corpus.domains
    if part == "sweep":
        bench.train(list(bench.programme.sweep(domains)))
    elif part == "grid":
        cells = list(bench.programme.grid(domains))
        say(f"   {len(cells)} leaves, {bench.cost(cells)}")
        for stage in bench.programme.stages(domains):
            bench.train(stage)


if __name__ == "__main__":
    sys.exit(main())
