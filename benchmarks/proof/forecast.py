"""Forecasts: written from the law before what they predict is trained, committed, and only then scored.

A forecast file holds one budget line of one size, or the ladder's largest D at one size. Its rows count when git
knows exactly one version of the file, the working copy is that version, and the commit is older than the start of the
leaf's own last segment.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from proof.analysis import replicate_noise, share
from proof.bench import Bench
from proof.programme import ROOT, Cell, plain
from proof.table import SCHEMA
from splitray import law as laws
from splitray.law.question import Question
from splitray.law.sweep import loss_curve
from splitray.split import whole_budget
from splitray.training.settings import ModelShape

LEVEL = 0.8
_CURVE = np.linspace(0.0, 1.0, 101)


def name_of(shape: ModelShape, budget: int) -> str:
    return f"{shape.label}-{budget}"


def ladder_rows(bench: Bench) -> list[dict[str, Any]]:
    """What the law is fitted on: the grid's rows of the ladder's domains that stand."""
    domains = bench.corpus.domains
    known = set(bench.programme.ladder_domains(domains))
    return [row for row in bench.rows(list(bench.programme.grid(domains))) if row["domain"] in known]


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


def write(bench: Bench, folder: Path, first: int | None = None) -> list[Path]:
    """Forecast what is to come: the ladder's largest D at each size, then the `first` budget lines; the new files.

    Lines wait for the better law, until the largest D of the first two sizes is begun, unless `first` asks for them.
    """
    programme, domains = bench.programme, bench.corpus.domains
    late = {f"late-{shape.label}": programme.late(shape, domains) for shape in programme.config.ladder.shapes}
    begun = all(bench.rows(cells) for cells in list(late.values())[:2])
    rows, written = ladder_rows(bench), list[Path]()
    lines = {name_of(*line[:2]): line for line in programme.bowls()[:first]} if begun or first else {}
    open_lines = {name: line for name, line in lines.items() if not _complete(bench, *line)}
    wanted = [
        n for n in (*late, *open_lines) if not (folder / f"{n}.json").exists() and not bench.rows(late.get(n, []))
    ]
    if not wanted:
        return []
    oracle = Oracle.of(rows, programme.config.law.bootstrap)
    folder.mkdir(parents=True, exist_ok=True)
    oracle.law.save(folder.parent / "law.json")
    for name in wanted:
        told = oracle.told(bench, late[name]) if name in late else oracle.line(bench, *open_lines[name])
        (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
        written.append(folder / f"{name}.json")
    return written


def _complete(bench: Bench, shape: ModelShape, budget: int, wide: bool) -> bool:
    line = bench.programme.line(shape, budget, bench.programme.fractions, bench.corpus.domains, wide)
    return not bench.missing(list(line))


# scoring


def committed(path: Path) -> float | None:
    """When the only version of a file was committed, seconds since 1970; None where git knows none or several."""
    times = _git("log", "--format=%ct", "--", str(path)).split()
    if len(times) != 1 or _git("status", "--porcelain", "--", str(path)):
        return None
    return float(times[0])


def score(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """Every forecast beside what was measured at seed 0; those that do not count say why, and carry no error."""
    results = []
    rates = {shape.label: bench.programme.config.training.peak(shape.width) for shape in bench.programme.shapes}
    measured = {
        (r["params"], r["pretrain_tokens"], r["specialize_tokens"], r["domain"]): r
        for r in bench.table.sorted()
        if r["seed"] == bench.programme.config.seed and np.isclose(r["learning_rate"], rates.get(r["shape"], 0.0))
    }
    for path in sorted(folder.glob("*.json")):
        forecast, since = json.loads(path.read_text()), committed(path)
        for row in forecast["rows"]:
            key = (forecast["params"], row["pretrain_tokens"], row["specialize_tokens"], row["domain"])
            found = measured.get(key)
            if found is None:
                continue
            told = {"budget": forecast.get("budget"), "params": forecast["params"], **row}
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


def summary(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean relative errors over what counts, by domain too; hit rate; the error of loss differences to unsplit."""
    counted = [s for s in scores if "error" in s]
    if not counted:
        return {"scored": 0, "refused": len(scores)}
    domains = sorted({s["domain"] for s in counted})

    def mean(name: str, rows: Sequence[dict[str, Any]]) -> float:
        return float(np.mean([abs(r[name]) for r in rows]))

    kinds = {"more tokens": [s for s in counted if s["budget"] is None], "lines": [s for s in counted if s["budget"]]}
    gaps = []
    for s in counted:
        if s["budget"] is None:
            continue
        line = [o for o in counted if all(o[n] == s[n] for n in ("params", "budget", "domain"))]
        unsplit = [o for o in line if o["specialize_tokens"] == 0]
        if unsplit and s["specialize_tokens"]:
            gaps.append((s["value"] - unsplit[0]["value"]) - (s["loss"] - unsplit[0]["loss"]))
    return {
        "scored": len(counted),
        "refused": len(scores) - len(counted),
        "new_size": sum(s["new_size"] for s in counted),
        "mean_relative_error": mean("error", counted),
        "mean_relative_error_chinchilla": mean("chinchilla_error", counted),
        "by_kind": {k: {"error": mean("error", v), "of": len(v)} for k, v in kinds.items() if v},
        "by_domain": {d: mean("error", [s for s in counted if s["domain"] == d]) for d in domains},
        "by_size": {
            str(n): mean("error", [s for s in counted if s["params"] == n])
            for n in sorted({s["params"] for s in counted})
        },
        "held": share(sum(s["held"] for s in counted), len(counted)),
        "difference_error": {
            "mean_absolute": float(np.mean(np.abs(gaps))),
            "bias": float(np.mean(gaps)),
            "of": len(gaps),
        }
        if gaps
        else None,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
