"""Forecasts: written from the law before what they predict is trained, committed, and only then scored.

A forecast file holds one budget line of one size. Its rows count when git knows exactly one version of the file, the
working copy is that version, and the commit is older than the start of the leaf's own last segment.
"""

import json
import subprocess
from collections.abc import Sequence
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


def write(bench: Bench, folder: Path, first: int | None = None) -> list[Path]:
    """Forecast each of the `first` budget lines of which nothing is trained and no forecast stands; the new files."""
    rows = ladder_rows(bench)
    lines = [line for line in bench.programme.bowls()[:first] if not (folder / f"{name_of(*line[:2])}.json").exists()]
    lines = [line for line in lines if not _begun(bench, *line)]
    if not lines:
        return []
    law = fit(rows, bench.programme.config.law.bootstrap)
    flat = fit(rows, 0, form="chinchilla")
    noise = replicate_noise(rows)
    folder.mkdir(parents=True, exist_ok=True)
    law.save(folder.parent / "law.json")
    written = []
    for shape, budget, wide in lines:
        path = folder / f"{name_of(shape, budget)}.json"
        path.write_text(json.dumps(_forecast(bench, law, flat, noise, shape, budget, wide), indent=1) + "\n")
        written.append(path)
    return written


def _begun(bench: Bench, shape: ModelShape, budget: int, wide: bool) -> bool:
    cells = bench.programme.line(shape, budget, bench.programme.fractions, bench.corpus.domains, wide)
    return bool(bench.rows([cell for cell in cells if cell.leaf.domain is not None]))


def _forecast(
    bench: Bench, law: laws.Law, flat: laws.Law, noise: dict[str, float], shape: ModelShape, budget: int, wide: bool
) -> dict[str, Any]:
    programme, domains = bench.programme, bench.corpus.domains
    budget = whole_budget(budget, len(domains), programme.batch)
    cells = list(programme.line(shape, budget, programme.fractions, domains, wide))
    params = float(bench.recipe(cells[0]).values["params"])
    planned = laws.plan(law, params=params, budget=budget, domains=len(domains), level=LEVEL)
    curve, band = loss_curve(law, Question(params, budget, len(domains)), _CURVE, LEVEL)
    assert band is not None
    every = np.hypot(noise["seed"], noise["rest"]) if noise["cells"] else float(law.noise or 0.0)
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "shape": plain(shape),
        "params": int(params),
        "budget": budget,
        "level": LEVEL,
        "law": {"mixture": law.mixture, "rows": len(law.runs), "noise": law.noise, "run_noise": float(every)},
        "largest_fitted": {n: int(max(law.runs.table[n].to_pylist())) for n in ("params", "pretrain_tokens")},
        "plan": {n: getattr(planned, n).plain() for n in ("split_fraction", "predicted_loss", "unsplit_loss", "gain")}
        | {n: getattr(planned, n).plain() for n in ("split_threshold", "compute_multiplier")},
        "warnings": [str(warning) for warning in planned.warnings],
        "curve": {"split_fraction": _CURVE.tolist(), "loss": curve.tolist(), "band": band.tolist()},
        "rows": [
            _row(law, flat, cell, domain, params, float(every))
            for cell in cells
            for domain in cell.domains
            if domain in law.domains
        ],
    }


def _row(law: laws.Law, flat: laws.Law, cell: Cell, domain: str, params: float, noise: float) -> dict[str, Any]:
    """The predicted loss of one leaf with the interval of a single run: the law's draws, each with a run's noise."""
    point = (params, cell.leaf.pretrain_tokens, cell.leaf.specialize_tokens)
    draws = law.predict_draws(*point, domain)
    draws = draws * np.exp(noise * np.random.default_rng(0).standard_normal(draws.shape))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "pretrain_tokens": cell.leaf.pretrain_tokens,
        "specialize_tokens": cell.leaf.specialize_tokens,
        "domain": domain,
        "value": float(law.predict(*point, domain)),
        "low": float(low),
        "high": float(high),
        "chinchilla": float(flat.predict(*point, domain)),
    }


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
            told = {"budget": forecast["budget"], "params": forecast["params"], **row}
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

    gaps = []
    for s in counted:
        line = [o for o in counted if all(o[n] == s[n] for n in ("params", "budget", "domain"))]
        unsplit = [o for o in line if o["specialize_tokens"] == 0]
        if unsplit and s["specialize_tokens"]:
            gaps.append((s["value"] - unsplit[0]["value"]) - (s["loss"] - unsplit[0]["loss"]))
    return {
        "scored": len(counted),
        "refused": len(scores) - len(counted),
        "mean_relative_error": mean("error", counted),
        "mean_relative_error_chinchilla": mean("chinchilla_error", counted),
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
