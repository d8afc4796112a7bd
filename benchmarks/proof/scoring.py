"""What forecasts were worth: each beside the run it foretold, and the errors summed up."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import forecast
from benchmarks.proof.bench import Bench
from benchmarks.proof.programme import Cell
from splitray import law as laws
from splitray.proof.forecast import Forecast
from splitray.proof.scoring import ScoredLoss
from splitray.proof.statistics import proportion
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf


def score(bench: Bench, folder: Path, gated: bool = True) -> list[dict[str, Any]]:
    """Every forecast in `folder` beside what was measured at seed 0.

    gated: those that do not count say why, and carry no error; else all count.
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        held = Forecast.parse(record, str(path))
        since = forecast.committed(path) if gated else 0.0
        shape = ModelShape(**record["shape"])
        for row in held.rows:
            leaf = Leaf(row.pretrain_tokens, row.specialize_tokens, row.domain if row.specialize_tokens else None)
            found = next(iter(bench.rows([Cell(shape, leaf, (row.domain,))])), None)
            if found is None:
                continue
            told: dict[str, Any] = {"budget": held.budget, "params": held.params, **_plain(asdict(row), "known")}
            told |= {"shape": record["shape"], "form": held.law.form}
            told["new_size"] = held.params > held.largest_fitted["params"]
            if since is None:
                told["refused"] = "the forecast is not committed, or was changed after its commit"
            elif found["began"] <= since:
                told["refused"] = "the leaf began before the forecast was committed"
            else:
                told |= _plain(asdict(ScoredLoss.of(row, found["loss"])), "predicted")
            results.append(told)
    return results


def _plain(record: dict[str, Any], without: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != without}


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
    gaps = _differences(kinds["lines"])
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
        "held": asdict(proportion(sum(s["held"] for s in counted), len(counted))),
        "difference_error": _gap_errors(gaps, noise * float(np.mean([s["loss"] for s in kinds["lines"]])))
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


def _differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Predicted less measured difference to unsplit of each point of a line, of means over domains, in nats."""
    lines: dict[tuple[int, int], dict[int, list[dict[str, Any]]]] = {}
    for s in rows:
        lines.setdefault((s["params"], s["budget"]), {}).setdefault(s["specialize_tokens"], []).append(s)
    gaps = []
    for (params, budget), points in lines.items():
        unsplit = {s["domain"]: s for s in points.pop(0, [])}
        for point in points.values():
            if {s["domain"] for s in point} == set(unsplit):
                error = float(np.mean([_missed(s) - _missed(unsplit[s["domain"]]) for s in point]))
                fraction = point[0]["pretrain_tokens"] / budget
                gaps.append({"params": params, "budget": budget, "split_fraction": fraction, "error": error})
    return gaps


def _gap_errors(gaps: Sequence[dict[str, Any]], noise: float) -> dict[str, Any]:
    """Mean absolute errors of differences, over all, by split fraction and by line; `noise` of a mean loss, in nats."""
    errors = np.array([g["error"] for g in gaps])

    def by(name: Callable[[dict[str, Any]], str]) -> dict[str, float]:
        names = [name(g) for g in gaps]
        return {n: float(np.mean(np.abs(errors[[m == n for m in names]]))) for n in dict.fromkeys(names)}

    return {
        "mean_absolute": float(np.mean(np.abs(errors))),
        "bias": float(np.mean(errors)),
        "of": len(gaps),
        # the mean of |x| for a normal x whose deviation is sqrt(2) noise
        "by_noise_alone": 2 / np.sqrt(np.pi) * noise,
        "by_fraction": by(lambda g: f"{round(g['split_fraction'], 3):g}"),
        "by_line": by(lambda g: f"{g['params']}, {g['budget']}"),
    }


def _missed(row: Mapping[str, Any]) -> float:
    return float(row["value"] - row["loss"])


def withdrawn(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """Forecasts that a better one replaced before its line was trained (folder `withdrawn`), beside that one, on the
    same runs.
    """
    found = []
    for path in sorted((folder / "withdrawn").glob("*.json")):
        told: dict[str, Any] = {"name": path.stem}
        for name, place in (("withdrawn", path), ("standing", folder / "forecasts" / path.name)):
            rows = [
                s
                for s in score(bench, place.parent, gated=False)
                if forecast.name_of(ModelShape(**s["shape"]), s["budget"] or 0) == path.stem
            ]
            if rows:
                every = summary(rows)
                told[name] = {
                    "form": rows[0]["form"],
                    "error": every["mean_relative_error"],
                    "difference": (every["difference_error"] or {}).get("mean_absolute"),
                }
        if len(told) == 3:
            found.append(told)
    return found


def depth(bench: Bench, scores: Sequence[dict[str, Any]], law: Path) -> list[dict[str, Any]]:
    """Sizes that no fit saw, under one law on the smallest budget line: what width over depth does to its error."""
    lines = [s for s in scores if s["new_size"] and s["budget"] == min(bench.programme.budgets) and "error" in s]
    if not law.exists() or not lines:
        return []
    fitted, found = laws.Law.load(law), []
    for params in sorted({s["params"] for s in lines}):
        rows = [s for s in lines if s["params"] == params]
        errors = [
            float(fitted.predict(params, s["pretrain_tokens"], s["specialize_tokens"], s["domain"])) / s["loss"] - 1
            for s in rows
        ]
        told = {"params": params, "shape": rows[0]["shape"], "error": float(np.mean(np.abs(errors)))}
        found.append(told | {"bias": float(np.mean(errors))})
    return found
