"""Forecasts: written from the law before what they predict is trained, committed, and only then scored.

A forecast file holds one budget line of one size, or the ladder's largest D at one size. Its rows count when the file
was not changed after the commit that added it, and that commit is older than the start of the leaf's own last segment.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from proof.analysis import over_domains, replicate_noise, share
from proof.bench import Bench
from proof.programme import ROOT, Cell, plain
from proof.table import SCHEMA
from splitray import law as laws
from splitray.errors import SplitrayError, UserError
from splitray.law.question import Question
from splitray.law.sweep import loss_curve
from splitray.split import whole_budget
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf

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
        params, table = int(bench.recipe(cells[0]).values["params"]), self.law.runs.table
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


# scoring


def committed(path: Path) -> float | None:
    """When a file was committed, seconds since 1970; None where it was not, or was changed since.

    A forecast that was removed and made anew, for a proof that begins anew, counts from its second commit.
    """
    last = _git("log", "-n1", "--no-renames", "--name-status", "--format=%ct", "--", str(path)).split()
    if last[1:2] != ["A"] or _git("status", "--porcelain", "--", str(path)):
        return None
    return float(last[0])


def of_line(folder: Path, shape: ModelShape, budget: int) -> tuple[dict[str, Any], float | None] | None:
    """The forecast of a budget line and when it was committed, see `committed`; None where there is no forecast."""
    path = folder / f"{name_of(shape, budget)}.json"
    return _read(path) if path.exists() else None


def _read(path: Path) -> tuple[dict[str, Any], float | None]:
    return json.loads(path.read_text()), committed(path)


def score(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """Every forecast beside what was measured at seed 0; those that do not count say why, and carry no error."""
    results = []
    for path in sorted(folder.glob("*.json")):
        forecast, since = _read(path)
        shape = ModelShape(**forecast["shape"])
        for row in forecast["rows"]:
            own = row["domain"] if row["specialize_tokens"] else None
            leaf = Leaf(row["pretrain_tokens"], row["specialize_tokens"], own)
            found = next(iter(bench.rows([Cell(shape, leaf, (row["domain"],))])), None)
            if found is None:
                continue
            told = {"budget": forecast.get("budget"), "params": forecast["params"], **row}
            told |= {
                "shape": forecast["shape"],
                "form": max(forecast["law"]["mixture"], key=forecast["law"]["mixture"].get),
            }
            told["new_size"] = forecast["params"] > forecast["largest_fitted"]["params"]
            if since is None:
                told["refused"] = "the forecast is not committed, or was changed after its commit"
            elif found["began"] <= since:
                told["refused"] = "the leaf began before the forecast was committed"
            else:
                told |= judge(row, found["loss"])
            results.append(told)
    return results


def judge(row: dict[str, Any], loss: float) -> dict[str, Any]:
    """Errors of one forecast against the measured loss, relative, and whether the interval holds it."""
    return {
        "loss": loss,
        "error": row["value"] / loss - 1,
        "chinchilla_error": row["chinchilla"] / loss - 1,
        "held": bool(row["low"] <= loss <= row["high"]),
    }


def summary(scores: Sequence[dict[str, Any]], noise: float = 0.0) -> dict[str, Any]:
    """Mean relative errors over what counts, by domain too; hit rate; the error of loss differences to unsplit.

    `beyond` are the sizes that the law had not seen and the largest budget, each on its own. Differences are of means
    over domains; `noise`, the relative deviation of such a mean, says how large their error is by that alone.
    """
    counted = [s for s in scores if "error" in s]
    if not counted:
        return {"scored": 0, "refused": len(scores)}
    largest = max((s["budget"] for s in counted if s["budget"]), default=None)
    kinds = {
        "more tokens": [s for s in counted if s["budget"] is None],
        "lines": [s for s in counted if s["budget"]],
    }
    beyond = {
        "a new size": [s for s in counted if s["new_size"]],
        "the largest budget": [s for s in counted if s["budget"] and s["budget"] == largest],
    }
    gaps, level = _differences(kinds["lines"])
    return {
        "scored": len(counted),
        "refused": len(scores) - len(counted),
        "mean_relative_error": _mean("error", counted),
        "mean_relative_error_chinchilla": _mean("chinchilla_error", counted),
        "by_kind": _errors(kinds),
        "beyond": _errors(beyond),
        "by_domain": _errors({d: [s for s in counted if s["domain"] == d] for d in {s["domain"] for s in counted}}),
        "by_size": _errors({str(n): [s for s in counted if s["params"] == n] for n in {s["params"] for s in counted}}),
        "by_form": _errors({n: [s for s in kinds["lines"] if s["form"] == n] for n in {s["form"] for s in counted}}),
        "held": share(sum(s["held"] for s in counted), len(counted)),
        "difference_error": {
            "mean_absolute": float(np.mean(np.abs(gaps))),
            "bias": float(np.mean(gaps)),
            "of": len(gaps),
            # the mean of |x| for a normal x whose deviation is sqrt(2) noise
            "by_noise_alone": 2 / np.sqrt(np.pi) * noise * level,
        }
        if gaps
        else None,
    }


def _mean(name: str, rows: Sequence[dict[str, Any]]) -> float:
    return float(np.mean([abs(r[name]) for r in rows]))


def _errors(groups: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    return {
        name: {"error": _mean("error", group), "chinchilla": _mean("chinchilla_error", group), "of": len(group)}
        for name, group in sorted(groups.items())
        if group
    }


def _differences(rows: Sequence[dict[str, Any]]) -> tuple[list[float], float]:
    """Predicted less measured difference to unsplit of each point of a line, means over domains; and the mean loss."""
    lines: dict[tuple[int, int], dict[int, list[dict[str, Any]]]] = {}
    for s in rows:
        lines.setdefault((s["params"], s["budget"]), {}).setdefault(s["specialize_tokens"], []).append(s)
    gaps = []
    for points in lines.values():
        unsplit = {s["domain"]: s for s in points.pop(0, [])}
        for point in points.values():
            if {s["domain"] for s in point} == set(unsplit):
                errors = [_missed(s) - _missed(unsplit[s["domain"]]) for s in point]
                gaps.append(float(np.mean(errors)))
    return gaps, float(np.mean([s["loss"] for s in rows])) if rows else 0.0


def _missed(row: Mapping[str, Any]) -> float:
    return float(row["value"] - row["loss"])


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
