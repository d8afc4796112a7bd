"""Does the ranking of candidate runs come true? Each candidate is trained (simulated), the law refitted.

A planted law, 45 runs (20M-320M, D 1-10B, D' 0-0.2 D), and ten candidates of equal stated cost, among them long runs
near the plan's size and repeats of rows that the table holds. For every seed the law is fitted, the candidates ranked,
and the best, the median and the last are each added (three seeds of it) before the law is fitted again: the change of
the 80 % interval of the planned split, and of its distance from the true optimum. 1.3B parameters, 240B tokens, K = 16.

    python -m benchmarks.law_next_run --seeds 20
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.law_planted import truth
from benchmarks.machine import describe
from splitray.errors import UserError
from splitray.law import Law, fit, plan
from splitray.law.planning.next_run import next_run
from splitray.law.planning.question import Question

RESULTS = Path(__file__).resolve().parent / "results" / "law_claims"
QUESTION = Question(1.3e9, 240e9, 16)
PLACES = [(n, d, r * d) for n in (2e7, 4e7, 8e7, 1.6e8, 3.2e8) for d in (1e9, 3e9, 1e10) for r in (0, 0.05, 0.2)]
OFFERED = [(1.3e9, 1e11, 5e9), (1.3e9, 1e11, 0.0), (5e8, 1e11, 5e9), (5e8, 1e11, 0.0), (5e8, 2e10, 1e9)]
OFFERED += [(5e8, 2e10, 1e8), (5e8, 3e9, 5e9), (2e7, 1e9, 0.0), (2e7, 1e9, 2e8), (4e7, 1e9, 0.0)]
SEEDS_OF_A_RUN = 3


def observe(law: Law, places: list[tuple[float, float, float]], noise: float, seed: int) -> pa.Table:
    params, shared, special = np.array(places, dtype=float).T
    loss = law.predict(params, shared, special)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(loss.size))
    columns = {"params": params, "pretrain_tokens": shared, "specialize_tokens": special}
    return pa.table({**columns, "domain": ["all"] * loss.size, "loss": loss})


def one(form: str, noise: float, seed: int, draws: int) -> dict[str, Any] | None:
    known = truth(form)
    best = plan(known, params=1.3e9, budget=240e9, domains=16).split_fraction.value
    runs = observe(known, PLACES, noise, seed)
    candidates = pa.table(dict(zip(("params", "pretrain_tokens", "specialize_tokens"), np.array(OFFERED).T)))
    candidates = candidates.append_column("tokens", pa.array([1e10] * len(OFFERED)))

    def split(table: pa.Table) -> tuple[Law, float, float]:
        law = fit(table, form=form, bootstrap=draws)
        found = plan(law, params=1.3e9, budget=240e9, domains=16).split_fraction
        assert found.low is not None and found.high is not None, "with draws it has an interval"
        return law, found.high - found.low, abs(found.value - best)

    try:
        law, width, error = split(runs)
        ranked = next_run(law, QUESTION, candidates)
        result = {"before": {"width": width, "error": error}}
        for name, run in (("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("last", ranked[-1])):
            where = [(run.params, run.pretrain_tokens, run.specialize_tokens)] * SEEDS_OF_A_RUN
            _, width, error = split(pa.concat_tables([runs, observe(known, where, noise, 1000 + seed)]))
            result[name] = {"width": width, "error": error, "expected_shrinkage": run.shrinkage}
    except UserError:
        return None  # the fit refuses a form that the noise makes rise with tokens
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--draws", type=int, default=150)
    given = parser.parse_args()
    table: dict[str, Any] = {}
    for form in ("effective_tokens", "shared_specific", "mixture_gap", "release"):
        for noise in (0.001, 0.003):
            found = [r for seed in range(given.seeds) if (r := one(form, noise, seed, given.draws)) is not None]
            row: dict[str, Any] = {"seeds": len(found)}
            for name in ("before", "best", "median", "last") if found else ():
                row[name] = {key: float(np.mean([r[name][key] for r in found])) for key in found[0][name]}
            table[f"{form}, noise {noise:.1%}"] = row
            print(form, noise, json.dumps(row))
    record = {"candidates": OFFERED, "seeds_of_a_run": SEEDS_OF_A_RUN, "results": table}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "next_run.json").write_text(
        json.dumps(record | {"machine": describe("numpy", "scipy")}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
