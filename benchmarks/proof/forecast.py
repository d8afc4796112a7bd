"""Forecasts: written from the law before what they predict is trained, committed, and only then scored.

A forecast file holds one budget line of one size, or the ladder's largest D at one size. Its rows count when the file
was not changed after the commit that added it, and that commit is older than the start of the leaf's own last segment.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.proof.bench import Bench
from benchmarks.proof.programme import ROOT, Cell, plain
from benchmarks.proof.table import SCHEMA
from splitray import law as laws
from splitray.errors import SplitrayError, UserError
from splitray.law.planning.question import Question
from splitray.proof.forecast import LEVEL, Forecaster, Place, PlannedSplit, curve_of
from splitray.proof.statistics import over_domains, replicate_noise
from splitray.results.codec import to_json
from splitray.training.settings import ModelShape
from splitray.training.split import whole_budget


def name_of(shape: ModelShape, budget: int) -> str:
    return f"{shape.label}-{budget}"


def ladder_rows(bench: Bench) -> list[dict[str, Any]]:
    """What the law is fitted on: the grid's rows of the ladder's domains that stand."""
    domains = bench.corpus.domains
    known = set(bench.programme.ladder_domains(domains))
    return [row for row in bench.rows(list(bench.programme.grid(domains))) if row["domain"] in known]


def noise_of(rows: Sequence[dict[str, Any]], least: int = 0) -> dict[str, float]:
    """`replicate_noise` of single domains, and as `mean` what is a run's own of the mean over domains.

    least: D, in tokens, of the cells that `mean` is from. Noise falls with D: in the full proof it is 0.47, 0.28 and
    0.11 % of the loss at 98K, 295K and 983K tokens, and the inside of a bowl has long runs.
    """
    long = [row for row in rows if row["pretrain_tokens"] >= least]
    mean = replicate_noise(over_domains(long)).rest
    return asdict(replicate_noise(rows)) | {"mean": mean, "mean_from": least}


def fit(rows: Sequence[dict[str, Any]], bootstrap: int, form: str = "auto") -> laws.Law:
    return laws.fit(_table(rows), form=form, bootstrap=bootstrap)


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), SCHEMA)


def forecaster(rows: Sequence[dict[str, Any]], bootstrap: int) -> Forecaster:
    """The library's forecaster, from the law as it is fitted now."""
    return Forecaster.of(fit(rows, bootstrap), _table(rows))


def of_cells(made: Forecaster, bench: Bench, cells: Sequence[Cell]) -> dict[str, Any]:
    """What every forecast says of itself, and its rows."""
    places = [Place(c.leaf.pretrain_tokens, c.leaf.specialize_tokens, domain) for c in cells for domain in c.domains]
    told = made.forecast(places, int(bench.recipe(cells[0]).params)).plain()
    return told | {"commit": _git("rev-parse", "HEAD"), "shape": plain(cells[0].shape)}


def of_budget(made: Forecaster, bench: Bench, shape: ModelShape, budget: int, wide: bool) -> dict[str, Any]:
    """The forecast of a budget line: its rows, the plan, and the whole curve with its band."""
    programme, domains = bench.programme, bench.corpus.domains
    budget = whole_budget(budget, len(domains), programme.batch)
    told = of_cells(made, bench, list(programme.line(shape, budget, programme.fractions, domains, wide)))
    params = told["params"]
    plan = laws.plan(made.law, params=params, budget=budget, domains=len(domains), level=LEVEL)
    return told | {
        "budget": budget,
        "plan": to_json(PlannedSplit.of(plan)),
        "warnings": [str(warning) for warning in plan.warnings],
        "curve": to_json(curve_of(made.law, Question(params, budget, len(domains)))),
    }


class Uncommitted(SplitrayError):
    """Forecasts are to be committed before what they predict is trained; the same command goes on then."""


def _of_line(made: Forecaster, bench: Bench, line: tuple[ModelShape, int, bool]) -> dict[str, Any]:
    return of_budget(made, bench, *line)


def write_late(bench: Bench, folder: Path, shapes: Sequence[ModelShape]) -> list[Path]:
    """Forecast the ladder's largest D at these sizes from all that stands of the rest; their files, old and new."""
    cells = {f"late-{shape.label}": bench.programme.late(shape, bench.corpus.domains) for shape in shapes}
    return _write(
        bench, folder, {n: partial(of_cells, bench=bench, cells=c) for n, c in cells.items() if bench.missing(c)}
    )


def write_lines(bench: Bench, folder: Path, first: int | None = None) -> list[Path]:
    """Forecast the cheapest `first` budget lines, or all once the whole ladder stands; their files, old and new."""
    missing = bench.missing(bench.programme.grid(bench.corpus.domains))
    if first is None and missing:
        raise UserError(f"{len(missing)} leaves of the ladder are not trained: --part grid first, or --lines N")
    lines = [line for line in bench.programme.bowls()[:first] if not _complete(bench, *line)]
    return _write(bench, folder, {name_of(*line[:2]): partial(_of_line, bench=bench, line=line) for line in lines})


def _write(bench: Bench, folder: Path, wanted: Mapping[str, Callable[[Forecaster], dict[str, Any]]]) -> list[Path]:
    paths = {folder / f"{name}.json": told for name, told in wanted.items()}
    fresh = [path for path in paths if not path.exists()]
    if fresh:
        made = forecaster(ladder_rows(bench), bench.programme.config.law.bootstrap)
        folder.mkdir(parents=True, exist_ok=True)
        made.law.save(folder.parent / "law.json")
        for path in fresh:
            path.write_text(json.dumps(paths[path](made), indent=1) + "\n")
    return list(paths)


def _complete(bench: Bench, shape: ModelShape, budget: int, wide: bool) -> bool:
    line = bench.programme.line(shape, budget, bench.programme.fractions, bench.corpus.domains, wide)
    return not bench.missing(list(line))


# commits


def committed(path: Path) -> float | None:
    """When a file was committed, seconds since 1970; None where it was not, or was changed since.

    A forecast that was removed and made anew, for a proof that begins anew, counts from its second commit.
    """
    whole_history()
    last = _git("log", "-n1", "--no-renames", "--name-status", "--format=%ct", "--", str(path)).split()
    if last[1:2] != ["A"] or _git("status", "--porcelain", "--", str(path)):
        return None
    return float(last[0])


def of_line(folder: Path, shape: ModelShape, budget: int) -> tuple[dict[str, Any], float | None] | None:
    """The forecast of a budget line and when it was committed, see `committed`; None where there is no forecast."""
    path = folder / f"{name_of(shape, budget)}.json"
    return (json.loads(path.read_text()), committed(path)) if path.exists() else None


@cache
def whole_history() -> None:
    """A shallow clone tells every file to be as old as its last commit: no forecast would count."""
    if _git("rev-parse", "--is-shallow-repository") == "true":
        raise UserError("this clone is shallow, and forecasts count by their commits: git fetch --unshallow")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", "") or str(error)).strip()
        raise UserError(f"forecasts count by their commits, and git cannot be asked for them: {why}") from None
    return done.stdout.strip()
