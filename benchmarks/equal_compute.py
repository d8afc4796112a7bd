"""The proof: do the paper's claims hold here, on real text, at equal compute? See docs/proof.md for what came out.

    python -m benchmarks.equal_compute                    # everything; continues where it stopped
    python -m benchmarks.equal_compute --minutes 60       # stops cleanly after an hour
    python -m benchmarks.equal_compute --part grid        # one part
    python -m benchmarks.equal_compute --quick            # own tiny settings, from nothing in minutes

Parts, in order: corpus, sweep (learning rates), grid (the ladder; its largest D is forecast first), forecast (of the
budget lines), decide and bowl (the forecasts' runs: loss against split fraction), allocation (D'_k by the law),
clusterings (other seeds of the corpus), nearness (other corpora), multiplier, search, routing, rates (planned and
unsplit, each at its own), blind (fresh lines, forecast by the law as it is now and by the first release's, trained in
stages of two hours and scored), page. A forecast is to be committed before what it predicts is trained. The command
stops there and goes on once it is (--no-commit: goes on at once, and does not score it).

Every run is a leaf of the library's tree; losses are kept in the committed table `metrics.csv`, and what
stands there is not trained again. Needs ../shared/data/corpus; the store goes to runs/.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.proof import blind, blind_scoring, forecast, routing
from benchmarks.proof.bench import Bench, OutOfTime
from benchmarks.proof.blind_lines import BlindLine, blind_lines
from benchmarks.proof.figures import draw
from benchmarks.proof.further import allocate, allocated_cells, other_cells, other_sizes, surface
from benchmarks.proof.measured import decided_cells, decisive, own_rates, rated_cells
from benchmarks.proof.page import page
from benchmarks.proof.programme import ROOT, Cell, Variant, full, plain, quick
from benchmarks.proof.results import assemble, doubled_shapes
from benchmarks.proof.search import Ladders, compare, overall, stale
from benchmarks.proof.table import Table
from splitray.errors import SplitrayError, UserError
from splitray.law.planning.question import Question
from splitray.training.settings import ModelShape

PARTS = (
    "corpus",
    "sweep",
    "grid",
    "forecast",
    "decide",
    "bowl",
    "allocation",
    "clusterings",
    "nearness",
    "multiplier",
    "search",
    "routing",
    "rates",
    "blind",
    "page",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="one part (may be repeated); default all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop cleanly after so many")
    parser.add_argument("--lines", type=int, help="forecast and bowl: the cheapest so many budget lines; default all")
    parser.add_argument("--no-commit", action="store_true", help="train what is forecast but not committed; not scored")
    parser.add_argument("--quick", action="store_true", help="tiny settings; results stay in runs/equal_compute_quick")
    options = parser.parse_args()
    programme = quick() if options.quick else full()
    runs = ROOT / "runs" / programme.config.name
    results = runs / "results" if options.quick else ROOT / "benchmarks/results/equal_compute"
    deadline = time.monotonic() + 60 * options.minutes
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {text}", flush=True)

    bench = Bench(programme, runs, Table.open(results / "metrics.csv"), deadline, say)
    proof = Proof(bench, results, options.lines, not (options.quick or options.no_commit), say)
    try:
        for part in options.part or PARTS:
            say(f"== {part}")
            getattr(proof, part)()
    except OutOfTime as error:
        say(f"time is up ({error}); the same command continues")
    except forecast.Uncommitted as error:
        say(str(error))
    except SplitrayError as error:
        print(f"equal_compute: {error}", file=sys.stderr)
        return 1
    return 0


class Proof:
    """The parts, each a method; each finds what stands and does the rest."""

    def __init__(self, bench: Bench, results: Path, lines: int | None, gated: bool, say: Callable[[str], None]) -> None:
        self.bench, self.results, self.lines, self.gated, self.say = bench, results, lines, gated, say
        self.programme = bench.programme
        self.committed = not results.is_relative_to(ROOT / "runs")

    @property
    def domains(self) -> list[str]:
        return self.bench.corpus.domains

    def corpus(self) -> None:
        counts = [self.bench.corpus.counts(d, "train")["tokens"] for d in self.domains]
        self.say(f"   {len(counts)} domains of {min(counts):,} to {max(counts):,} training tokens")

    def sweep(self) -> None:
        for sweep in self.programme.sweeps()[:-1]:  # the decisive line is forecast before anything of it is trained
            self.bench.train(list(self.programme.sweep(sweep, self.domains)))

    def grid(self) -> None:
        largest = max(self.programme.config.ladder.pretrain_tokens)
        for stage in self.programme.stages(self.domains):
            late = list(dict.fromkeys(cell.shape for cell in stage if cell.leaf.pretrain_tokens == largest))
            if late and self.bench.missing(stage):
                self._wait(forecast.write_late(self.bench, self.results / "forecasts", late))
            self.bench.train(stage)

    def forecast(self) -> None:
        self._wait(forecast.write_lines(self.bench, self.results / "forecasts", self.lines))

    def _wait(self, paths: Sequence[Path]) -> None:
        """Go no further until forecasts are committed, unless the user waived it; they are not scored then."""
        mine = [p for p in paths if forecast.committed(p) is None] if self.gated else []
        if absent := [p.stem for p in mine if not p.exists()]:
            raise UserError(f"{', '.join(absent)}: not forecast; --part forecast first, or --no-commit")
        if mine:
            names = " ".join(str(p.relative_to(ROOT)) for p in mine)
            raise forecast.Uncommitted(f"commit {names}, once and for all, and start again: then it is a forecast")

    def decide(self) -> None:
        """The wide bowl, then the planned, the best measured and the unsplit strategy on fresh seeds."""
        if self.programme.wide not in self.programme.bowls()[: self.lines]:
            self.say("   nothing to decide: the wide line is not among the first that --lines names")
            return
        self._bowls([self.programme.wide])
        strategies = decisive(self.bench, self.results)
        if strategies is None:
            return
        for seed in self.programme.fresh:
            cells = (decided_cells(self.bench, fraction, seed) for fraction in strategies.values())
            self.bench.train(list(dict.fromkeys(chain(*cells))))

    def rates(self) -> None:
        """Planned and unsplit on the decisive line once more, each at the learning rate that is best for it there."""
        strategies = decisive(self.bench, self.results)
        if strategies is None:
            return
        self.bench.train(list(self.programme.sweep(self.programme.sweeps()[-1], self.domains)))
        rates = own_rates(self.bench)
        assert rates is not None
        every = (rated_cells(self.bench, strategies["planned"], seed, rates) for seed in self.programme.fresh)
        self.bench.train(list(chain(*chain(*every))))  # at once: unsplit training is one long trunk, on one host

    def bowl(self) -> None:
        lines = self.programme.bowls()[: self.lines]
        for i in range(0, len(lines), 2):  # two at a time, so that both hosts are busy
            self._bowls(lines[i : i + 2])

    def blind(self) -> None:
        """Forecast the blind lines; once that is committed train them, stage by stage; score what stands.

        A stage ends where the table is to be committed: the same command goes on then.
        """
        lines = blind_lines(self.programme, not self.committed)
        self._wait(blind.write(self.bench, self.results, lines))
        for number, stage in enumerate(blind.stages(self.bench, self.results, lines), 1):
            self.say(f"   stage {number}: {', '.join(line.name for line in stage)}")
            if sum([self._blind_line(line) for line in stage]) and self.gated:
                self._write_blind(lines)
                names = f"{self.bench.table.path.name} and blind.json in {self.results.relative_to(ROOT)}"
                raise forecast.Uncommitted(f"stage {number} is trained: commit {names}, and start again")
        self._write_blind(lines)

    def _blind_line(self, line: BlindLine) -> bool:
        """Train what a line lacks; whether there was something."""
        there = self.bench
        if line.corpus is not None:
            self.bench.close()  # its hosts hold the CPUs that building the corpus waits for
            there = self.bench.on(line.corpus)
        try:
            cells = blind.cells(there, self.results, line)
            lacking = bool(there.missing(cells))
            there.train(cells)
        finally:
            if there is not self.bench:
                there.close()
        return lacking

    def _write_blind(self, lines: Sequence[BlindLine]) -> None:
        noise = forecast.noise_of(forecast.ladder_rows(self.bench), min(self.programme.budgets) // 4)
        self._write("blind.json", blind_scoring.score(self.bench, self.results, lines, noise["mean"], self.gated))

    def _bowls(self, lines: Sequence[tuple[ModelShape, int, bool]]) -> None:
        every = (self.programme.line(s, b, self.programme.fractions, self.domains, w) for s, b, w in lines)
        cells = list(dict.fromkeys(chain(*every)))
        if self.bench.missing(cells):
            self._wait([self.results / "forecasts" / f"{forecast.name_of(s, b)}.json" for s, b, _ in lines])
        self.bench.train(cells)

    def allocation(self) -> None:
        """D'_k by the law against equal ones at the planned split; commit the allocation before it is trained."""
        told = allocate(self.bench, self.results)
        if told is None:
            self.say("   nothing to allocate: the decisive bowl is not measured, or its plan is not to split")
            return
        self._wait([self.results / "allocation.json"])
        for seed in self.programme.fresh:
            pair = (allocated_cells(self.bench, told, seed, by_law) for by_law in (True, False))
            self.bench.train(list(dict.fromkeys(chain(*pair))))

    def clusterings(self) -> None:
        """Planned and unsplit once more on corpora of other clustering seeds."""
        strategies = decisive(self.bench, self.results)
        if strategies is None:
            return
        self.bench.train(decided_cells(self.bench, strategies["planned"], 0))
        for variant in self.programme.clusterings:
            self._elsewhere(
                variant,
                lambda other: chain(*(decided_cells(other, strategies[name], 0) for name in ("planned", "unsplit"))),
            )

    def nearness(self) -> None:
        """A bowl and a multiplier on corpora whose domains lie nearer to one another."""
        for variant in self.programme.nearness:
            self._elsewhere(variant, lambda other: self.programme.near(other.corpus.domains))

    def _elsewhere(self, variant: Variant, cells: Callable[[Bench], Iterable[Cell]]) -> None:
        """Train cells on another corpus; one bench at a time holds the cluster."""
        self.bench.close()  # its hosts hold the CPUs that building the corpus waits for
        other = self.bench.on(variant)
        try:
            other.train(list(dict.fromkeys(cells(other))))
        finally:
            other.close()

    def multiplier(self) -> None:
        """Unsplit training on more tokens, at the sizes that have a split at the smallest budget to compare with, and
        both at other sizes for the same FLOPs.
        """
        programme, domains, cells = self.programme, self.domains, list[Cell]()
        for shape in doubled_shapes(self.bench):
            line = programme.line(shape, min(programme.budgets), programme.fractions, domains, False)
            if not self.bench.missing(list(line)):
                cells += [cell for cell in programme.doubled(domains) if cell.shape == shape]
        for size in other_sizes(self.bench, self.results):
            cells += chain(*other_cells(self.bench, size))
        self.bench.train(list(dict.fromkeys(cells)))  # at once: each is one long trunk, on one host

    def search(self) -> None:
        """Searches on every bowl; on one also over the specialists' learning rate, whose models are trained here."""
        known, made = self._assembled(), []
        if not known["noise"]["cells"]:
            return
        domains, tokens = self.domains, known["grid"]["tokens_trained"]
        ladders = Ladders.of(forecast.ladder_rows(self.bench), known["noise"], tokens, self.programme.resamples)
        shape = plain(self.programme.config.ladder.shapes[self.programme.surface])

        def asked(line: Mapping[str, Any]) -> Question:
            return Question(line["params"], line["budget"], len(domains))

        for line in known["bowls"]:
            made.append(compare(line, None, ladders, asked(line), self.programme.searches))
        for line in sorted((x for x in known["bowls"] if x["shape"] == shape), key=lambda x: x["budget"])[:1]:
            self.bench.train(list(dict.fromkeys(self.programme.searched(domains))))
            made.append(compare(line, surface(self.bench), ladders, asked(line), self.programme.searches))
        if made:
            fresh = (self._read(self.results / "search.json") or {}).get("fresh")  # benchmarks/blind_search.py's
            found = {"forms": [law.form for law in ladders.laws], "overall": overall(made), "lines": made}
            self._write("search.json", found | ({"fresh": fresh} if fresh else {}))

    def routing(self) -> None:
        """Five ways to choose a model at the proof's K and at others, and exams. Each K is written when it ends."""
        found = (self._read(self.results / "routing.json") or {}).get("lines", {})
        for number, bench in routing.lines_by_domains(self.bench):
            line = routing.planned_line(bench, self.results)
            if line is None:
                continue
            keys = [bench.target(cell).key for cell in line.cells]
            if (found.get(str(number)) or {}).get("models") == keys:
                continue
            bench.restore(line.cells)
            mixture = routing.mixture_of(bench, line)
            one: dict[str, Any] = {"models": keys, "split_fraction": line.fraction}
            one |= routing.choices(bench, line, mixture)
            if bench is self.bench:
                one["exams"] = routing.exams(bench, line, mixture, ROOT / "../shared/data/exams")
            else:
                bench.close()
            found[str(number)] = one
            self._write("routing.json", {"machine": describe("torch", "transformers"), "lines": found})

    def page(self) -> None:
        """The results so far, figures and the page.

        Results of another corpus stay, and the page is made from them: runs here could only take their place.
        """
        known = self._read(self.results / "results.json")
        if known is not None and known["corpus"]["content_hash"] != self.bench.corpus.content_hash:
            self.say("   results.json is of another corpus, and stays")
        else:
            known = self._assembled()
            self._write("results.json", known | {"machine": describe("ray", "torch", "deepspeed", "numpy", "scipy")})
            self.say(f"   figures: {', '.join(draw(known, self.results)) or 'none yet'}")
        names = ("search.json", "routing.json", "routing_first_release.json", "blind.json")
        search, mixture, first, blind = (self._read(self.results / name) for name in names)
        if search is not None and stale(search["lines"], known["bowls"]):
            self.say("   search.json is of other bowls: --part search")
            search = None
        # a quick proof stays with its own results
        target = ROOT / "docs/proof.md" if self.committed else self.results / "proof.md"
        book = self._read(ROOT / "benchmarks/results/phonebook/phonebook.json") if self.committed else None
        known["command"] = "python -m benchmarks.equal_compute" + ("" if self.committed else " --quick")
        there = "../benchmarks/results/"
        folders = {"proof": f"{there}equal_compute/" if self.committed else "", "phonebook": f"{there}phonebook/"}
        target.write_text(page(known, search, (mixture, first), blind, book, folders))
        self.say(f"   {target.relative_to(ROOT)}")

    def _assembled(self) -> dict[str, Any]:
        return assemble(self.bench, self.results)

    def _write(self, name: str, value: Any) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        (self.results / name).write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")

    def _read(self, path: Path) -> Any:
        return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
