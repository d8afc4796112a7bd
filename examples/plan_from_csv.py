"""From a CSV of runs to a plan, on a laptop: no cluster, no GPU, no corpus.

    pip install .                             # from the checkout; no extras
    python examples/plan_from_csv.py          # the runs of the six-source ladder, beside this file
    python examples/plan_from_csv.py my_runs.csv --params 1.3e9 --budget 240e9 --domains 16

`runs.csv` has 72 small runs of three sizes, really trained on two of six domains. The run that they belong to then
trained the target at 3.1M tokens. Over all six domains the planned split was 0.425 nats below the unsplit model
(docs/measured.md).
"""

import argparse
import math
from pathlib import Path

import splitray
from splitray.law.planning.estimate import Estimate

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description="From a CSV of runs to a plan.")
    parser.add_argument("runs", nargs="?", default=HERE / "runs.csv", help="CSV or Parquet table of runs")
    parser.add_argument("--params", type=float, default=121_800, help="N, the parameters of each model")
    parser.add_argument("--budget", type=float, default=3_145_728, help="D_T, tokens of all final models together")
    parser.add_argument("--domains", type=int, default=6, help="K, the number of domains")
    parser.add_argument("--out", type=Path, default=Path("runs/example"), help="folder for law.json and plan.json")
    given = parser.parse_args()

    # 1. The law. `fit` lets the registered forms compete on rows that are hidden from them. Every bootstrap draw is a
    #    refit of the law, and their spread gives the intervals.
    law = splitray.fit(given.runs, bootstrap=200)
    print(f"law: {law.form}, noise {law.noise:.2%} of the loss")

    # 2. The plan: the best place to split this budget, for the law and for each of its draws.
    made = splitray.plan(law, params=given.params, budget=given.budget, domains=given.domains)
    print(f"split after {show(made.split_fraction, '.0%')} of {given.budget:,.0f} tokens")
    print(f"D  = {show(made.pretrain_tokens, ',.0f')} tokens of the mixture, for the base")
    print(f"D' = {show(made.specialize_tokens, ',.0f')} tokens of its domain, for each of {made.domains} specialists")
    print(f"loss {show(made.predicted_loss, '.3f')} nats per token, unsplit {show(made.unsplit_loss, '.3f')}")
    print(f"a split pays from {show(made.split_threshold, ',.0f')} tokens on")
    if math.isinf(made.compute_multiplier.value):
        print("unsplit training does not get there with any number of tokens")
    else:
        print(f"unsplit training needs {show(made.compute_multiplier, '.1f')} times the tokens to get there")

    # 3. What speaks against it. A plan repeats the warnings of its law, each with its reason and its cure.
    for warning in made.warnings:
        print(f"warning: {warning.message}\n  because {warning.reason}\n  cure: {warning.cure}")

    # 4. Keep both. `Law.load` and `Plan.load` read them back, and `splitray plan` takes a saved law instead of a table.
    given.out.mkdir(parents=True, exist_ok=True)
    law.save(given.out / "law.json")
    made.save(given.out / "plan.json")
    print(f"saved: {given.out}/law.json and {given.out}/plan.json")


def show(estimate: Estimate, form: str) -> str:
    """`24% (20% to 32%)`: the value with its 80 % interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


if __name__ == "__main__":
    main()
