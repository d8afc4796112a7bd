"""How fast the fit is: against plain scipy L-BFGS over the 4500-start grid of Besiroglu et al. on the same objective.

Both fit Chinchilla's 240 points by Huber with delta 1e-3, one thread, in one run. The baseline is the replication's
own recipe: log-sum-exp of three terms, starts on the grid of Hoffmann et al. (a, b in 0..25 by 5, e in -1..1 by 0.5,
alpha, beta in 0..2 by 0.5), one scipy L-BFGS each, with the analytic gradient. CPU time of the process is the measure
(`wall` beside it): the machine may be shared.

Then the refits of the two-stage forms, on the proof's ladder, and a plan.

    python -m benchmarks.law_speed
    python -m benchmarks.law_speed --forms release mixture_gap    # these refits alone, into the same file
    python -m benchmarks.law_speed --plan                         # and a plan by the slowest form in it
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from benchmarks.law_common import RESULTS, machine
from benchmarks.law_extrapolation import ladder
from benchmarks.law_replication import chinchilla
from splitray.law import fit, plan
from splitray.law.fitting.objective import Objective
from splitray.law.fitting.regression import fit_form
from splitray.law.fitting.uncertainty import bootstrap, tree_noise
from splitray.law.forms import REGISTRY, find
from splitray.law.runs import read_runs

T = TypeVar("T")
DELTA, REPEATS, DRAWS = 1e-3, 5, 1000


def timed(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def baseline(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> float:
    x, y, goal = np.log(N), np.log(D), np.log(loss)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = v
        terms = np.stack([a - alpha * x, b - beta * y, np.full_like(x, e)])
        total = logsumexp(terms, axis=0)
        residual = total - goal
        size = np.abs(residual)
        pull = np.clip(residual, -DELTA, DELTA)
        share = np.exp(terms - total) * pull
        slope = [share[0].sum(), share[1].sum(), share[2].sum(), -(share[0] * x).sum(), -(share[1] * y).sum()]
        losses = np.where(size < DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA))
        return float(losses.sum()), np.array(slope)

    coarse, fine, middle = np.arange(0, 30, 5), np.arange(0, 2.5, 0.5), np.arange(-1, 1.5, 0.5)
    grid = itertools.product(coarse, coarse, middle, fine, fine)
    return min(float(minimize(objective, start, jac=True, method="L-BFGS-B").fun) for start in grid)


def _refits(names: Sequence[str], repeats: int) -> dict[str, Any]:
    """Refits of two-stage forms to the proof's ladder, the quickest of so many times."""
    runs, found = read_runs(ladder()), dict[str, Any]()
    for name in names:
        fitted = fit_form(find(name), runs, Objective(), seed=0)
        noise = tree_noise(fitted, runs, 0)
        made = [timed(lambda f=fitted, n=noise: bootstrap(f, runs, DRAWS, 0, n))[1] for _ in range(repeats)]  # type: ignore[misc]
        found[name] = min(made, key=lambda t: t["cpu_s"])
    return found


def _plan(refits: dict[str, Any], repeats: int) -> dict[str, Any]:
    """A plan with as many draws, by the form with the slowest refits."""
    slowest = max(refits, key=lambda name: refits[name]["cpu_s"])
    law = fit(ladder(), form=slowest, bootstrap=DRAWS)
    planned = [timed(lambda: plan(law, params=763_104, budget=4_194_304, domains=8))[1] for _ in range(repeats)]
    return {"plan": min(planned, key=lambda t: t["cpu_s"]), "plan_form": slowest}


def _say(two_stage: dict[str, Any]) -> None:
    for name, took in two_stage["refits"].items():
        print(f"{DRAWS} refits of {name} to {two_stage['rows']} rows: {took['cpu_s']:.2f} s CPU")
    if "plan" in two_stage:
        print(f"plan with {DRAWS} draws of {two_stage['plan_form']}: {two_stage['plan']['cpu_s']:.2f} s CPU")


def main() -> None:
    every = [form.name for form in REGISTRY.values() if form.splits]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", nargs="*", choices=every, help="refits of these two-stage forms alone")
    parser.add_argument("--plan", action="store_true", help="a plan alone, by the slowest form in the file")
    parser.add_argument("--repeats", type=int, default=2, help="of each, the quickest counts")
    given = parser.parse_args()
    if given.forms or given.plan:
        record = json.loads((RESULTS / "speed.json").read_text())
        part = record.setdefault("two_stage", {"rows": len(read_runs(ladder())), "refits": {}})
        part["machine"] = machine()
        if given.forms:
            part["refits"] |= _refits(given.forms, given.repeats)
        if given.plan:
            part |= _plan(part["refits"], given.repeats)
        (RESULTS / "speed.json").write_text(json.dumps(record, indent=1) + "\n")
        _say(part)
        return
    table = chinchilla()
    runs = read_runs(table)
    fit(table, form="chinchilla")  # imports and first-call costs are not what is measured
    ours = [timed(lambda: fit(table, form="chinchilla")) for _ in range(REPEATS)]
    law, quick = min(ours, key=lambda pair: pair[1]["cpu_s"])
    fitted = fit_form(find("chinchilla"), runs, Objective(delta=DELTA), seed=0)
    refits = min(
        (timed(lambda: bootstrap(fitted, runs, DRAWS, 0, None))[1] for _ in range(3)), key=lambda t: t["cpu_s"]
    )
    refit = _refits(every, given.repeats)
    two_stage = {"rows": len(read_runs(ladder())), "refits": refit} | _plan(refit, given.repeats)
    worst, slow = timed(lambda: baseline(runs.params, runs.pretrain_tokens, runs.loss))
    record = {
        "machine": machine(),
        "starts_of_baseline": 6 * 6 * 5 * 5 * 5,
        "baseline": slow | {"objective": worst},
        "splitray": quick | {"objective": law.objective, "best_of": REPEATS},
        "times_faster_cpu": slow["cpu_s"] / quick["cpu_s"],
        "times_faster_wall": slow["wall_s"] / quick["wall_s"],
        "bootstrap_refits": DRAWS,
        "bootstrap": refits,
        "two_stage": two_stage,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "speed.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"baseline   {slow['cpu_s']:8.2f} s CPU, objective {worst:.13f}")
    print(f"splitray   {quick['cpu_s']:8.3f} s CPU, objective {law.objective:.13f}")
    print(f"times faster: {record['times_faster_cpu']:.0f} (CPU), {record['times_faster_wall']:.0f} (wall)")
    _say(two_stage)
    print(f"{DRAWS} bootstrap refits: {refits['cpu_s']:.2f} s CPU, {refits['wall_s']:.2f} s wall")


if __name__ == "__main__":
    main()
