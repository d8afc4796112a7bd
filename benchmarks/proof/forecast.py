"""Forecasts: written from the law before what they predict is trained, committed, and only then scored.

A forecast file holds one budget line of one size, or the ladder's largest D at one size. Its rows count when the file
was not changed after the commit that added it, and that commit is older than the start of the leaf's own last segment.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from proof.analysis import over_domains, replicate_noise
from proof.bench import Bench
from proof.programme import ROOT, Cell, plain
from proof.table import SCHEMA
from splitray import law as laws
from splitray.errors import SplitrayError, UserError
from splitray.law.planning.question import Question
from splitray.law.planning.sweep import loss_curve
from splitray.training.settings import ModelShape
from splitray.training.split import whole_budget

LEVEL = 0.8
_CURVE = np.linspace(0.0, 1.0, 101)


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
    return replicate_noise(rows) | {"mean": replicate_noise(over_domains(long))["rest"], "mean_from": least}


def fit(rows: Sequence[dict[str, Any]], bootstrap: int, form: str = "auto") -> laws.Law:
    return laws.fit(pa.Table.from_pylist(list(rows), SCHEMA), form=form, bootstrap=bootstrap)


@dataclass(frozen=True)
class Oracle:
    """The law as it is fitted now, a Chinchilla law beside it that knows no D', and the noise of a single run.

    noise: standard deviation of log loss, from replicated seeds where there are any, else the law's residuals.
    """

    law: laws.Law
    flat: laws.Law
    noise: float

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], bootstrap: int) -> "Oracle":
        law, noise = fit(rows, bootstrap), replicate_noise(rows)
        assert law.noise is not None
        # the residuals also hold what the form cannot follow, and a new run will stand as far off the law
        every = max(float(np.hypot(noise["seed"], noise["rest"])), law.noise) if noise["cells"] else law.noise
        return cls(law, fit(rows, 0, form="chinchilla"), every)

    def row(self, cell: Cell, domain: str, params: float) -> dict[str, Any]:
        """The predicted loss of a leaf, and the interval of a single run: the law's draws, each with a run's noise."""
        point = (params, cell.leaf.pretrain_tokens, cell.leaf.specialize_tokens)
        draws = self.law.predict_draws(*point, domain)
        draws = draws * np.exp(self.noise * np.random.default_rng(0).standard_normal(draws.shape))
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return {
            "pretrain_tokens": cell.leaf.pretrain_tokens,
            "specialize_tokens": cell.leaf.specialize_tokens,
            "domain": domain,
            "value": float(self.law.predict(*point, domain)),
            "low": float(low),
            "high": float(high),
            "chinchilla": float(self.flat.predict(*point, domain)),
        }

    def told(self, bench: Bench, cells: Sequence[Cell]) -> dict[str, Any]:
        """What every forecast says of itself, and its rows."""
        params, table = int(bench.recipe(cells[0]).params), self.law.runs.table
        return {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _git("rev-parse", "HEAD"),
            "shape": plain(cells[0].shape),
            "params": params,
            "level": LEVEL,
            "law": {"mixture": self.law.mixture, "rows": len(self.law.runs), "noise": self.law.noise},
            "run_noise": self.noise,
            "largest_fitted": {n: int(max(table[n].to_pylist())) for n in ("params", "pretrain_tokens")},
            "rows": [
                self.row(cell, domain, params)
                for cell in cells
                for domain in cell.domains
                if domain in self.law.domains
            ],
        }

    def line(self, bench: Bench, shape: ModelShape, budget: int, wide: bool) -> dict[str, Any]:
        """The forecast of a budget line: its rows, the plan, and the whole curve with its band."""
        programme, domains = bench.programme, bench.corpus.domains
        budget = whole_budget(budget, len(domains), programme.batch)
        told = self.told(bench, list(programme.line(shape, budget, programme.fractions, domains, wide)))
        params = told["params"]
        planned = laws.plan(self.law, params=params, budget=budget, domains=len(domains), level=LEVEL)
        curve, band = loss_curve(self.law, Question(params, budget, len(domains)), _CURVE, LEVEL)
        assert band is not None
        names = ("split_fraction", "predicted_loss", "unsplit_loss", "gain", "split_threshold", "compute_multiplier")
        return told | {
            "budget": budget,
            "plan": {name: getattr(planned, name).plain() for name in names},
            "warnings": [str(warning) for warning in planned.warnings],
            "curve": {"split_fraction": _CURVE.tolist(), "loss": curve.tolist(), "band": band.tolist()},
        }


class Uncommitted(SplitrayError):
    """Forecasts are to be committed before what they predict is trained; the same command goes on then."""


def write_late(bench: Bench, folder: Path, shapes: Sequence[ModelShape]) -> list[Path]:
    """Forecast the ladder's largest D at these sizes from all that stands of the rest; their files, old and new."""
    cells = {f"late-{shape.label}": bench.programme.late(shape, bench.corpus.domains) for shape in shapes}
    return _write(bench, folder, {n: lambda o, c=c: o.told(bench, c) for n, c in cells.items() if bench.missing(c)})


def write_lines(bench: Bench, folder: Path, first: int | None = None) -> list[Path]:
    """Forecast the cheapest `first` budget lines, or all once the whole ladder stands; their files, old and new."""
    missing = bench.missing(bench.programme.grid(bench.corpus.domains))
    if first is None and missing:
        raise UserError(f"{len(missing)} leaves of the ladder are not trained: --part grid first, or --lines N")
    lines = [line for line in bench.programme.bowls()[:first] if not _complete(bench, *line)]
    return _write(bench, folder, {name_of(*line[:2]): lambda o, x=line: o.line(bench, *x) for line in lines})


def _write(bench: Bench, folder: Path, wanted: Mapping[str, Callable[[Oracle], dict[str, Any]]]) -> list[Path]:
    paths = {folder / f"{name}.json": told for name, told in wanted.items()}
    fresh = [path for path in paths if not path.exists()]
    if fresh:
        oracle = Oracle.of(ladder_rows(bench), bench.programme.config.law.bootstrap)
        folder.mkdir(parents=True, exist_ok=True)
        oracle.law.save(folder.parent / "law.json")
        for path in fresh:
            path.write_text(json.dumps(paths[path](oracle), indent=1) + "\n")
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
