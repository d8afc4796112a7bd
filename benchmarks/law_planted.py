"""Planted truths: does the fit recover a known law's predictions and plans from 60 noisy runs?

Each registered two-stage form is the truth in turn, with the trainer's decay of the learning rate and constants that
put the optimum at 0.2 < s < 0.8 for 1.3B parameters, 240B tokens and K = 16 at a constant rate. (Under forms of one
stage no split pays, s* = 1.) A table is 60 runs:

- independent: six sizes from 20M to 500M; each with D' = 0 at D = 1, 4, 14, 50B, and on two of these D (1 and 14B,
  or 4 and 50B, in turn) three D' from 0.03 D to 10B. Noise 0.3 % of the loss, independent.
- tree: five sizes, the smallest trained with two seeds, rows as above. Noise 0.15 % per trunk (a size and seed),
  0.15 % per branch (a trunk, D and kind of leaf), 0.1 % per row.

Judged at 2.7B parameters, D = 500B, D' = 100B (10 times the largest), and by the regret of the plan for 1.3B and 240B:
the true loss at the planned split minus the true minimum, both on a grid of s. "further" adds three noisy runs at 500M
(the largest size) at a quarter of the budget, at the planned split and 0.15 to either side, and fits again.

    python -m benchmarks.law_planted --seeds 100 --simulations 200 --out benchmarks/results/law/planted.json
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa

from benchmarks.law_common import RESULTS, machine
from splitray.law import Law, fit
from splitray.law.forms import find
from splitray.law.forms.schedule import CONSTANT_RATE, SCHEDULE, RateSchedule

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DECAY = RateSchedule(0.15, 0.05)  # the trainer's own, which every table has unless --constant-rate
DOMAINS, PARAMS, BUDGET = 16, 1.3e9, 240e9
TARGET = (2.7e9, 500e9, 100e9)
# Coefficients are given by their value at N = 1e9, D = 1e10 (tokens relative to 1e10), exponents as they are.
_GAP = {
    "E": 1.7,
    "A": 0.35,
    "alpha": 0.34,
    "B": 0.35,
    "beta": 0.33,
    "c": 0.05,
    "rho": 1.5,
    "G": 0.25,
    "tau": 0.01,
    "r": 0.1,
    "gamma": 0.25,
}
TRUTHS: dict[str, dict[str, float]] = {
    "release": {
        "E": 1.7,
        "A": 0.35,
        "alpha": 0.34,
        "B": 0.35,
        "beta": 0.32,
        "c": 0.05,
        "lam": 0.2,
        "delta": 0.3,
        "p": 0.4,
        "q": 0.1,
        "gamma": 0.5,
    },
    "mixture_gap": _GAP,
    "ossifying_gap": _GAP | {"gamma": 0.6, "sigma": 0.04},
    "learning_gap": {name: _GAP[name] for name in ("E", "A", "alpha", "rho", "G", "tau", "r")}
    | {"L0": 10.4, "w": 1e-4, "u": 0.1, "beta": 0.35, "gamma": 0.5},
    "effective_tokens": {"E": 1.7, "A": 0.35, "alpha": 0.34, "B": 0.35, "beta": 0.3, "kappa": 0.4, "p": 0.5, "q": 0.1},
    "shared_specific": {
        "E": 1.6,
        "A": 0.35,
        "alpha": 0.34,
        "B": 0.2,
        "beta": 0.35,
        "rho": 0.5,
        "C": 0.25,
        "gamma": 0.3,
        "kappa": 0.05,
        "p": 0.5,
        "q": 0.1,
    },
    "capacity_release": {
        "E": 1.7,
        "A": 0.35,
        "alpha": 0.34,
        "B": 0.3,
        "beta": 0.33,
        "omega": 0.2,
        "lam": 0.4,
        "delta": 0.03,
        "p": 0.4,
        "gamma": 0.5,
    },
    "multiplicative": {
        "E": 1.7,
        "A": 0.35,
        "alpha": 0.34,
        "B": 0.35,
        "beta": 0.3,
        "rho": 1.0,
        "tau": 0.02,
        "gamma": 0.15,
        "h": 0.05,
    },
}
SIZES = (20e6, 40e6, 80e6, 160e6, 300e6, 500e6)
TREE = ((20e6, 0), (20e6, 1), (45e6, 0), (105e6, 0), (240e6, 0), (500e6, 0))  # (params, seed)
BASES = (1e9, 4e9, 14e9, 50e9)
GRID = np.unique(np.concatenate([np.linspace(0, 1, 1001), np.geomspace(1e-4, 1, 200)]))


def truth(name: str, schedule: RateSchedule = CONSTANT_RATE) -> Law:
    """The planted law, for runs of a schedule."""
    form, given = find(name), TRUTHS[name]
    centre = {"params": 1e9, "tokens": 1e10}
    constants = {}
    for constant in form.constants:
        value = given.get(constant.name, 0.0) if constant.name in form.added else given[constant.name]
        for axis, power, sign in constant.powers():
            value *= centre[axis] ** (sign * (given.get(power, 0.0) if isinstance(power, str) else power))
        constants[constant.name] = value
    return replace(Law.known(name, constants), schedules=(schedule,))


def ladder(kind: str) -> list[dict[str, Any]]:
    trunks = TREE if kind == "tree" else tuple((size, 0) for size in SIZES)
    rows = []
    for params, seed in trunks:
        trunk, turn = f"{params:g}/{seed}", sorted({size for size, _ in trunks}).index(params) % 2
        for tokens in BASES:
            rows.append((params, tokens, 0.0, seed, trunk, f"{trunk}/{tokens:g}/mixture"))
        for tokens in BASES[turn::2]:
            for special in np.geomspace(0.03 * tokens, 10e9, 3):
                rows.append((params, tokens, float(special), seed, trunk, f"{trunk}/{tokens:g}/domain"))
    names = ("params", "pretrain_tokens", "specialize_tokens", "seed", "trunk", "branch")
    return [dict(zip(names, row), domain="domain") for row in rows]


def observe(law: Law, rows: list[dict[str, Any]], kind: str, random: np.random.Generator) -> pa.Table:
    """The rows with losses of the true law, noise added; tree columns only where the noise has that shape."""
    if kind == "tree":
        noise = 0.001 * random.standard_normal(len(rows))
        for column in ("trunk", "branch"):
            names, code = np.unique([row[column] for row in rows], return_inverse=True)
            noise += 0.0015 * random.standard_normal(len(names))[code]
    else:
        noise = 0.003 * random.standard_normal(len(rows))
        rows = [{k: v for k, v in row.items() if k not in ("seed", "trunk", "branch")} for row in rows]
    params, base, special = (
        np.array([row[k] for row in rows]) for k in ("params", "pretrain_tokens", "specialize_tokens")
    )
    losses = law.predict(params, base, special) * np.exp(noise)
    rows = [row | dict(zip(SCHEDULE, law.schedule.plain(), strict=True)) for row in rows]
    return pa.Table.from_pylist(rows).append_column("loss", pa.array(losses))


def curve(predict: Callable[..., Any], params: float = PARAMS, budget: float = BUDGET) -> np.ndarray:
    loss = np.asarray(predict(params, GRID * budget, (1 - GRID) * budget / DOMAINS))
    finite: np.ndarray = np.where(np.isfinite(loss), loss, np.inf)
    return finite


def judge(law: Law, true: Law) -> dict[str, Any]:
    mine, theirs = curve(law.predict), curve(true.predict)
    split = GRID[mine.argmin()]
    expected = float(true.predict(*TARGET))
    result = {
        "error": abs(float(law.predict(*TARGET)) / expected - 1),
        "regret": float(theirs[mine.argmin()] - theirs.min()),
        "split": float(split),
        "form": law.form,
        "fit_warnings": [warning.code for warning in law.warnings],
    }
    if law.draws:
        low, high = np.quantile(law.predict_draws(*TARGET), [0.1, 0.9])
        splits = GRID[curve(law.predict_draws).argmin(axis=1)]
        left, right = np.quantile(splits, [0.1, 0.9])
        best = GRID[theirs.argmin()]
        result |= {"holds_loss": bool(low <= expected <= high), "holds_split": bool(left <= best <= right)}
    return result


def further(law: Law, true: Law, rows: list[dict[str, Any]], table: pa.Table, random: np.random.Generator) -> pa.Table:
    split = GRID[curve(law.predict).argmin()]
    extra = [
        {"params": SIZES[-1], "pretrain_tokens": s * BUDGET / 4, "specialize_tokens": (1 - s) * BUDGET / 4 / DOMAINS}
        for s in np.clip([split - 0.15, split, split + 0.15], 0.05, 0.95)
    ]
    seen = observe(true, [row | {"domain": "domain"} for row in extra], "independent", random)
    return pa.concat_tables([table, seen.select(table.column_names)])


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    error, regret = (np.array([r[k] for r in records]) for k in ("error", "regret"))
    result: dict[str, Any] = {
        "seeds": len(records),
        "error_median": float(np.median(error)),
        "error_p95": float(np.quantile(error, 0.95)),
        "within_2_percent": float((error <= 0.02).mean()),
        "regret_median": float(np.median(regret)),
        "regret_p95": float(np.quantile(regret, 0.95)),
        "regret_within_0.003": float((regret <= 0.003).mean()),
        "regret_within_0.015": float((regret <= 0.015).mean()),
    }
    for key in ("holds_loss", "holds_split"):
        held = [r[key] for r in records if key in r]
        if held:
            result[f"{key}_80"] = float(np.mean(held))
    names, counts = np.unique([r["form"] for r in records], return_counts=True)
    codes, times = np.unique([c for r in records for c in r["fit_warnings"]], return_counts=True)
    result["forms"] = {str(n): int(c) for n, c in zip(names, counts)}
    result["fit_warnings"] = {str(n): int(c) for n, c in zip(codes, times)}
    return result


def true_splits(schedule: RateSchedule) -> dict[str, float]:
    """The best split fraction of every planted law under a schedule."""
    return {name: float(GRID[curve(truth(name, schedule).predict).argmin()]) for name in TRUTHS}


def write(
    path: Path, found: dict[str, Any], started: float, settings: dict[str, Any], splits: dict[str, float]
) -> None:
    record = {
        "machine": machine(),
        "true_split": splits,
        "minutes": round((time.time() - started) / 60, 1),
        "settings": settings,
        "results": {key: summary(records) for key, records in sorted(found.items()) if records},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def figure(path: Path, found: dict[str, Any]) -> None:
    """Part of the tables whose error, and whose regret, is at most x; solid: form known, dashed: auto."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for key, records in sorted(found.items()):
        name, kind, label = key.split(" | ")
        if kind != "independent" or label not in ("known", "auto"):
            continue
        style = {"ls": "-" if label == "known" else "--", "color": f"C{list(TRUTHS).index(name)}", "lw": 1.2}
        for axis, field, scale in ((axes[0], "error", 100.0), (axes[1], "regret", 1.0)):
            values = np.sort([max(r[field], 1e-6) * scale for r in records])
            text = name if label == "known" else None
            axis.step(values, np.arange(1, len(values) + 1) / len(values), where="post", label=text, **style)
    for axis, limit, text in (
        (axes[0], 2.0, "error at 2.7B, 600B tokens (%)"),
        (axes[1], 0.003, "regret (nats per token)"),
    ):
        axis.axvline(limit, color="black", lw=0.8, ls=":")
        axis.set(xscale="log", xlabel=text, ylim=(0, 1.02))
    axes[0].set_ylabel("part of the tables")
    axes[1].legend(
        fontsize=7, frameon=False, title="truth", title_fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5)
    )
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="tables for prediction, regret and further runs")
    parser.add_argument("--simulations", type=int, default=200, help="tables for coverage")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long, whatever is done")
    parser.add_argument("--constant-rate", action="store_true", help="no decay, as in the first release's tables")
    parser.add_argument("--known", action="store_true", help="only fits of the true form, without the contest")
    parser.add_argument("--truths", nargs="*", default=list(TRUTHS))
    parser.add_argument("--out", type=Path, default=RESULTS / "planted.json")
    args = parser.parse_args()
    started, found = time.time(), dict[str, Any]()
    schedule = CONSTANT_RATE if args.constant_rate else DECAY
    settings = {"schedule": str(schedule), "draws": args.draws, "known": args.known}
    splits = true_splits(schedule)
    for seed in range(max(args.seeds, args.simulations)):
        for name in args.truths:
            true = truth(name, schedule)
            for kind in ("independent", "tree"):
                if kind == "tree" and seed >= args.simulations:
                    continue
                random = np.random.default_rng([seed, kind == "tree", list(TRUTHS).index(name)])
                rows = ladder(kind)
                table = observe(true, rows, kind, random)
                laws = {"known": fit(table, form=name, seed=seed, bootstrap=args.draws)}
                if not args.known:
                    laws["auto"] = fit(table, seed=seed, bootstrap=args.draws)
                if kind == "independent" and seed < args.seeds and not args.known:
                    laws["auto, further"] = fit(further(laws["auto"], true, rows, table, random), seed=seed)
                for label, law in laws.items():
                    found.setdefault(f"{name} | {kind} | {label}", []).append(judge(law, true))
            if time.time() - started > 60 * args.minutes:
                break
        if time.time() - started > 60 * args.minutes:
            break
        write(args.out, found, started, settings, splits)
    write(args.out, found, started, settings, splits)
    figure(args.out, found)
    for key, records in sorted(found.items()):
        s = summary(records)
        print(
            f"{key:44s} n {s['seeds']:3d}  error median {100 * s['error_median']:.2f} % p95"
            f" {100 * s['error_p95']:.2f} %  <=2 % {s['within_2_percent']:.2f}  regret <=.003"
            f" {s['regret_within_0.003']:.2f} <=.015 {s['regret_within_0.015']:.2f}  80 % intervals hold loss"
            f" {s.get('holds_loss_80', float('nan')):.2f} split {s.get('holds_split_80', float('nan')):.2f}"
        )


if __name__ == "__main__":
    main()
