"""Extrapolation on real tables, small to large, every form beside the others.

Errors are means of |predicted / observed - 1| in %; fits see nothing of the rows they are scored on.

- ladder: the proof's own (benchmarks/results/equal_compute/metrics.csv, docs/proof.md), four sizes, three domains, a
  law per domain, hidden as the pilot's.
- pilot: 80 rows, three sizes, two domains, a law per domain and a law with shared exponents. In-sample; largest D'
  hidden (2M tokens); largest D hidden (8M); largest N hidden (0.85M).
- chinchilla: fitted below 3e20 FLOPs (177 points), scored above (63); "seen" was fitted on all 240.
- loss_to_loss: fitted below 400M parameters, scored above, by training set.
- protein: fitted at 25M, 85M and 200M, scored on 470M, from scratch (D = 0) and with transfer apart.

    python -m benchmarks.law_extrapolation
"""

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from benchmarks.law_common import RESULTS, machine, table
from benchmarks.law_replication import chinchilla
from benchmarks.proof.programme import full
from splitray.law import Law, fit
from splitray.law.fitting.choose import held_out, hidden
from splitray.law.fitting.objective import Objective
from splitray.law.fitting.regression import fit_form
from splitray.law.forms import REGISTRY
from splitray.law.runs import Runs, read_runs

POINT = ("params", "pretrain_tokens", "specialize_tokens")
# Mean errors of the project's own first look at the pilot table (DESIGN.md), by domain from low to high.
FIRST_LOOK = {
    "additive": {"in_sample": (3.3, 3.6), "specialize": (3.4, 4.0), "size": (6.0, 6.2)},
    "effective_tokens": {"in_sample": (1.3, 1.8), "specialize": (1.3, 3.0), "size": (3.6, 4.0)},
    "release": {"in_sample": (0.6, 0.7), "specialize": (0.7, 2.1), "size": (1.4, 1.5)},
}


def percent(law: Law, rows: pa.Table, domain: str | None = None) -> dict[str, float]:
    params, base, special = (rows[name].to_numpy() for name in POINT)
    predicted = law.predict(params, base, special, domain)
    error = 100 * (predicted / rows["loss"].to_numpy() - 1)
    return {"rows": len(rows), "mean": float(np.abs(error).mean()), "bias": float(error.mean())}


def ladder() -> pa.Table:
    """The rows of the ladder of the proof: its sizes, token counts, domains, corpus and shared learning rate."""
    plan = full().config.ladder
    shapes, special = [shape.label for shape in plan.shapes], (0, *plan.specialize_tokens)
    rows = [
        row
        for row in pyarrow.csv.read_csv(RESULTS.parent / "equal_compute/metrics.csv").to_pylist()
        if row["shape"] in shapes
        and row["seed"] < plan.seeds  # blind lines of the same size and D have seeds of their own
        and row["pretrain_tokens"] in plan.pretrain_tokens
        and row["specialize_tokens"] in special
    ]
    usual = {
        (s, Counter((r["learning_rate"], r["corpus"]) for r in rows if r["shape"] == s).most_common(1)[0][0])
        for s in shapes
    }
    rows = [r for r in rows if (r["shape"], (r["learning_rate"], r["corpus"])) in usual]
    known = {r["domain"] for r in rows if r["specialize_tokens"]}
    return pa.Table.from_pylist([r for r in rows if r["domain"] in known])


def pilot() -> dict[str, Any]:
    return by_form(read_runs(table("pilot_two_stage.csv")), (False, True))


def by_form(runs: Runs, shares: tuple[bool, ...]) -> dict[str, Any]:
    """Mean errors in % of every form, by what is hidden and by domain."""
    masks = hidden(runs)
    result = {}
    for name, form in REGISTRY.items():
        for share in shares:
            fitted = fit_form(form, runs, Objective(), seed=0, share=share)
            errors = {"in_sample": fitted.residuals()}
            errors |= dict(zip(masks, held_out(fitted, np.stack(list(masks.values())), seed=0)))
            kept = {"in_sample": np.ones(len(runs), dtype=bool)} | masks
            result[f"{name}, {'shared exponents' if share else 'each domain alone'}"] = {
                protocol: {
                    domain: float(100 * np.abs(np.expm1(error[kept[protocol] & (runs.group == place)])).mean())
                    for place, domain in enumerate(runs.domains)
                }
                for protocol, error in errors.items()
            }
    return result


def compute() -> dict[str, Any]:
    runs = chinchilla()
    small = pc.less(runs["flops"], 3e20)
    below, above = runs.filter(small), runs.filter(pc.invert(small))
    return {
        objective: {
            "unseen": percent(fit(below, form="chinchilla", objective=objective), above),
            "seen": percent(fit(runs, form="chinchilla", objective=objective), above),
        }
        for objective in ("huber_log", "huber_log:0.003", "huber_log:0.01", "squared")
    }


def sets() -> dict[str, Any]:
    runs = pyarrow.csv.read_csv(table("loss_to_loss.csv"))
    small = pc.less(runs["params"], 4e8)
    result: dict[str, Any] = {}
    for share in (False, True):
        unseen = fit(runs.filter(small), form="chinchilla", objective="huber_log:1e-3", share=share)
        seen = fit(runs, form="chinchilla", objective="huber_log:1e-3", share=share)
        above = runs.filter(pc.invert(small))
        for domain in unseen.domains:
            rows = above.filter(pc.equal(above["domain"], domain))
            result.setdefault(domain, {})["shared exponents" if share else "alone"] = {
                "unseen": percent(unseen, rows, domain),
                "seen": percent(seen, rows, domain),
            }
    return result


def protein() -> dict[str, Any]:
    runs = pyarrow.csv.read_csv(table("protein_transfer.csv"))
    small = pc.less(runs["params"], 4e8)
    below, above = runs.filter(small), runs.filter(pc.invert(small))
    scratch = pc.equal(above["pretrain_tokens"], 0.0)
    parts = {"scratch": above.filter(scratch), "transfer": above.filter(pc.invert(scratch))}
    result = {}
    for name in (*REGISTRY, "auto"):
        law = fit(below, form=name)
        result[name] = dict[str, Any]({part: percent(law, rows) for part, rows in parts.items()})
        result[name] |= {"mixture": law.mixture, "fit_warnings": [warning.code for warning in law.warnings]}
    return result


def main() -> None:
    record = {
        "machine": machine(),
        "ladder": by_form(read_runs(ladder()), (False,)),
        "pilot": pilot(),
        "pilot_first_look": FIRST_LOOK,
        "chinchilla": compute(),
        "loss_to_loss": sets(),
        "protein": protein(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "extrapolation.json").write_text(json.dumps(record, indent=1) + "\n")
    for source in ("ladder", "pilot"):
        for name, parts in record[source].items():
            print(source, f"{name:36s}", {k: "/".join(f"{e:.2f}" for e in v.values()) for k, v in parts.items()})
    for objective, parts in record["chinchilla"].items():
        print(f"chinchilla {objective:16s} unseen {parts['unseen']['mean']:.2f} %, seen {parts['seen']['mean']:.2f} %")
    for domain, parts in record["loss_to_loss"].items():
        line = {k: f"unseen {v['unseen']['mean']:.2f} seen {v['seen']['mean']:.2f}" for k, v in parts.items()}
        print(f"loss_to_loss {domain:18s}", line)
    for name, parts in record["protein"].items():
        print(f"protein {name:18s} scratch {parts['scratch']['mean']:.2f} % transfer {parts['transfer']['mean']:.2f} %")


if __name__ == "__main__":
    main()
