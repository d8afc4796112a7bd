"""When equal hours and equal tokens say different things, on a finished run: `python -m benchmarks.equal_hours RUN`.

The law and the speeds are the run's own. The hours go from a tenth to a hundred times those that the unsplit model of
its budget takes. For each of them the planner chooses the size and the split, with ladder and search outside and
inside the hours. Beside it stands the plan at equal tokens, for the target on what the hours buy its unsplit model.
The result is `equal_hours.json`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from splitray.law import Law, answer
from splitray.law.planning.hours import HoursPlan, plan_for_hours
from splitray.results.summary import Summary

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with a plan at equal hours in its summary")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/equal_hours"))
    options = parser.parse_args()
    record = json.loads((options.run / "summary.json").read_text())
    summary, law = Summary.parse(record.get("record", record)), Law.load(options.run / "law_final.json")
    at = summary.equal_hours
    if at is None or summary.final_plan is None:
        parser.error(f"{options.run} has no plan at equal hours")
    speeds = [size.speed for size in at.plan.sizes]
    asked = summary.final_plan.question
    own = next(speed for speed in speeds if speed.params == asked.params)
    base = own.hours(summary.budget, 0.0, 1)
    rows = []
    for factor in FACTORS:
        hours = factor * base
        tokens = (hours - own.start_hours) * 3600 * own.shared
        row: dict[str, Any] = {"hours": hours}
        if tokens > 0:
            plan = answer(law, replace(asked, budget=tokens))
            row["equal_tokens"] = {
                "params": asked.params,
                "tokens": tokens,
                "split_fraction": plan.split_fraction.plain(),
                "gain": plan.gain.plain(),
            }
        for name, ladder in (("outside", 0.0), ("inside", at.finding_hours)):
            row[name] = short(plan_for_hours(law, asked, hours=hours, speeds=speeds, ladder_hours=min(ladder, hours)))
        rows.append(row)
    result = {
        "machine": describe(),
        "device": at.device,
        "finding_hours": at.finding_hours,
        "speeds": [vars(speed) for speed in speeds],
        "of_the_run": {"hours": at.plan.hours, "budget": summary.budget, "plan": short(at.plan)},
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "equal_hours.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def short(plan: HoursPlan) -> dict[str, Any]:
    """A plan for hours in a few numbers."""
    best = plan.chosen
    return {
        "params": best.params,
        "tokens": best.budget,
        "split_fraction": best.split_fraction.plain(),
        "unsplit_params": plan.unsplit.params,
        "gain": plan.gain.plain(),
    }


if __name__ == "__main__":
    main()
