"""What the blind forecasts were worth, by law: regrets, differences, losses, and whether the intervals hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.proof import blind, forecast
from benchmarks.proof.bench import Bench
from benchmarks.proof.blind_lines import HALF, BlindLine
from splitray.law.arrays import Array
from splitray.proof.bowl import LEAST, Bowl, mean_regret
from splitray.proof.forecast import LEVEL
from splitray.proof.statistics import interval_score

_COUNTED = 0.25  # differences count from this split fraction on


def score(bench: Bench, folder: Path, lines: Sequence[BlindLine], noise: float, gated: bool) -> dict[str, Any]:
    """Every line that stands, and the sums over lines.

    Args:
        noise: relative deviation of a mean loss over the ladder's domains.
        gated: lines whose forecast was not committed before their training are listed, and not counted.
    """
    found = [told for line in lines if (told := _line(bench, folder, line, noise, gated)) is not None]
    counted = [told for told in found if told["blind"]]
    inner = [told for told in counted if told["optimum"]["value"] < 1]
    return {
        "lines": [{name: value for name, value in told.items() if not name.startswith("_")} for told in found],
        "inner": {name: _regret(inner, name) for name in (*blind.LAWS, "half")},
        "unsplit": {name: _regret([t for t in counted if t not in inner], name) for name in (*blind.LAWS, "half")},
        "sums": {name: _sums(counted, name) for name in blind.LAWS},
    }


def _line(bench: Bench, folder: Path, line: BlindLine, noise: float, gated: bool) -> dict[str, Any] | None:
    path = blind.path_of(folder, line)
    if not path.exists():
        return None
    there = bench if line.corpus is None else bench.on(line.corpus)
    if not there.has_corpus:
        return None
    record = json.loads(path.read_text())
    planned = {name: record[name]["plan"]["split_fraction"]["value"] for name in blind.LAWS if name in record}
    points = blind.measured(
        there, line, sorted({*there.programme.fractions, *blind.deciding(planned["now"])}), (0, 1, 2)
    )
    if len(points) < LEAST + 1 or 1.0 not in points:
        return None
    fractions, means = np.array(list(points)), np.array([v.mean() for v in points.values()])
    bowl = Bowl(fractions, means, float(noise * means.mean()))
    since = forecast.committed(path) if gated else 0.0
    # leaves without a base may belong to the ladder's trunk
    began = min(r["began"] for r in there.rows(blind.cells(there, folder, line)) if r["specialize_tokens"])
    told: dict[str, Any] = {
        "line": record["line"],
        "blind": since is not None and began > since,
        "split_fraction": fractions.tolist(),
        "loss": means.tolist(),
        "seeds": [len(v) for v in points.values()],
        "noise": bowl.noise,
        "optimum": bowl.optimum().plain(),
        "half": asdict(bowl.regret(HALF)),
        "_bowl": bowl,
        "_stops": planned | {"half": HALF},
    }
    first = {s: v[0] for s, v in points.items()}
    held = blind.losses(there, line)
    for name in planned:
        told[name] = _scored(record[name], bowl, first, held)
    return told


def _scored(
    record: Mapping[str, Any], bowl: Bowl, first: Mapping[float, float], held: Mapping[Any, float]
) -> dict[str, Any]:
    """One law on one line; errors are lists, so that sums can weigh them."""
    split, optimum = record["plan"]["split_fraction"], record["optimum"]
    losses = [
        (r, held[key])
        for r in record["rows"]
        if (key := (r["pretrain_tokens"], r["specialize_tokens"], r["domain"])) in held
    ]
    near = {
        s: next((m for m in first if abs(m - s) < 0.01), None)
        for s in (d["split_fraction"] for d in record["differences"])
    }
    apart = [(d, first[m] - first[1.0]) for d in record["differences"] if (m := near[d["split_fraction"]]) is not None]
    return {
        "planned": split,
        "regret": asdict(bowl.regret(split["value"])),
        "optimum_held": bool(optimum["low"] <= bowl.best[0] <= optimum["high"]),
        "optimum_score": interval_score(optimum["low"], optimum["high"], bowl.best[0], LEVEL),
        "loss_errors": [r["value"] / loss - 1 for r, loss in losses],
        "loss_held": [bool(r["low"] <= loss <= r["high"]) for r, loss in losses],
        "loss_width": [(r["high"] - r["low"]) / loss for r, loss in losses],
        "loss_score": [interval_score(r["low"], r["high"], loss, LEVEL) / loss for r, loss in losses],
        "difference_errors": [d["value"] - gap for d, gap in apart if d["split_fraction"] >= _COUNTED],
        "difference_held": [bool(d["low"] <= gap <= d["high"]) for d, gap in apart],
        "difference_width": [d["high"] - d["low"] for d, _ in apart],
        "difference_score": [interval_score(d["low"], d["high"], gap, LEVEL) for d, gap in apart],
    }


def _regret(lines: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    stops = [(told["_bowl"], told["_stops"][name]) for told in lines if name in told["_stops"]]
    return asdict(mean_regret(stops)) | {"lines": len(stops)} if stops else None


def _sums(lines: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    mine = [told[name] for told in lines if name in told]
    if not mine:
        return None
    result: dict[str, Any] = {"lines": len(mine)}
    for kind in ("loss", "difference"):
        errors, hits = ([x for told in mine for x in told[f"{kind}_{part}"]] for part in ("errors", "held"))
        if not errors:
            continue
        result[kind] = {
            "mean_absolute_error": float(np.mean(np.abs(errors))),
            "bias": float(np.mean(errors)),
            "held": float(np.mean(hits)),
            "width": float(np.mean([x for told in mine for x in told[f"{kind}_width"]])),
            "score": float(np.mean([x for told in mine for x in told[f"{kind}_score"]])),
            # points of a line share their errors: a line counts as one trial, held where most of it is
            "by_line": _binomial([float(np.mean(told[f"{kind}_held"])) > 0.5 for told in mine if told[f"{kind}_held"]]),
            "share_by_line": [float(np.mean(told[f"{kind}_held"])) for told in mine if told[f"{kind}_held"]],
        }
    result["optimum"] = _binomial([told["optimum_held"] for told in mine])
    result["optimum"]["score"] = float(np.mean([told["optimum_score"] for told in mine]))
    return result


def _binomial(hits: Sequence[bool] | Array) -> dict[str, Any]:
    """How many lines were held, and the two-sided probability of so few or many at the intervals' level."""
    return {
        "held": int(np.sum(hits)),
        "of": len(hits),
        "p": float(binomtest(int(np.sum(hits)), len(hits), LEVEL).pvalue),
    }
