"""How fast the fit is: against plain scipy L-BFGS over the 4500-start grid of Besiroglu et al. on the same objective.

Both fit Chinchilla's 240 points by Huber with delta 1e-3, one thread, in one run. The baseline is the replication's
own recipe: log-sum-exp of three terms, starts on the grid of Hoffmann et al. (a, b in 0..25 by 5, e in -1..1 by 0.5,
alpha, beta in 0..2 by 0.5), one scipy L-BFGS each, with the analytic gradient. CPU time of the process is the measure
(`wall` beside it): the machine may be shared.

Then the refits of the two-stage forms, on the proof's ladder, and a plan.

    python -m benchmarks.law_speed
    python -m benchmarks.law_speed --two-stage   # the second part alone, into the same file
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
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


def _two_stage() -> dict[str, Any]:
    """Refits of every two-stage form to the proof's ladder, and a plan with as many draws by the slowest of them."""
    table = ladder()
    runs, found, slowest = read_runs(table), dict[str, Any](), ("", 0.0)
    for form in REGISTRY.values():
        if not form.splits:
            continue
        fitted = fit_form(form, runs, Objective(), seed=0)
        noise = tree_noise(fitted, runs, 0)
        made = [timed(lambda f=fitted, n=noise: bootstrap(f, runs, DRAWS, 0, n))[1] for _ in range(2)]  # type: ignore[misc]
        found[form.name] = min(made, key=lambda t: t["cpu_s"])
        slowest = max(slowest, (form.name, found[form.name]["cpu_s"]), key=lambda pair: pair[1])
    law = fit(table, form=slowest[0], bootstrap=DRAWS)
    planned = [timed(lambda: plan(law, params=763_104, budget=4_194_304, domains=8))[1] for _ in range(3)]
    return {"rows": len(runs), "refits": found, "plan": min(planned, key=lambda t: t["cpu_s"]), "plan_form": slowest[0]}


def _say(two_stage: dict[str, Any]) -> None:
    for name, took in two_stage["refits"].items():
        print(f"{DRAWS} refits of {name} to {two_stage['rows']} rows: {took['cpu_s']:.2f} s CPU")
    print(f"plan with {DRAWS} draws of {two_stage['plan_form']}: {two_stage['plan']['cpu_s']:.2f} s CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--two-stage", action="store_true", help="refits of two-stage forms and a plan alone")
    if parser.parse_args().two_stage:
        record = json.loads((RESULTS / "speed.json").read_text())
        record["two_stage"] = _two_stage() | {"machine": machine()}
        (RESULTS / "speed.json").write_text(json.dumps(record, indent=1) + "\n")
        _say(record["two_stage"])
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
    two_stage = _two_stage()
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
