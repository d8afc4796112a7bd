"""Trials until a search is within 0.003 nats of the best split, on lines that tuned neither the law nor the search.

These are the lines of the blind test (benchmarks/proof/blind_lines.py) that are trained. Nothing is trained here. The
objective is the smooth curve through a line's measured means, so a trial may fall between measured fractions. The law
is fitted to the proof's ladder alone, and asked for each line's own learning-rate schedule. Twenty ladders that might
have been guide a search each. Random search and Optuna's TPE (three random trials first) have a hundred seeds each.

    python -m benchmarks.blind_search    # writes `fresh` into benchmarks/results/equal_compute/search.json
"""

import argparse
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.law_extrapolation import ladder
from benchmarks.proof.programme import ROOT, full
from benchmarks.proof.search import Ladders, compare, overall
from splitray.law.forms.schedule import RateSchedule
from splitray.law.planning.question import Question

TOLERANCE = 0.003  # nats
RESULTS = ROOT / "benchmarks/results/equal_compute"


def asked(line: Mapping[str, Any], forecast: Mapping[str, Any]) -> Question:
    """What a line's forecast asked the law.

    Args:
        line: as in the forecast: its schedule, where it is another than the ladder's.
        forecast: today's law's, with the size and the budget.
    """
    programme = full()
    training = programme.config.training
    schedule = RateSchedule(
        line["decay_fraction"] or training.decay_fraction, training.min_lr_ratio, line["specialist_lr_multiplier"]
    )
    return Question(forecast["params"], forecast["budget"], programme.config.corpus.domains, schedule=schedule)


@cache
def ladders() -> Ladders:
    """Twenty ladders like the proof's."""
    results = json.loads((RESULTS / "results.json").read_text())
    tokens = results["grid"]["tokens_trained"]
    return Ladders.of(ladder().to_pylist(), results["noise"], tokens, full().resamples)


def searched(told: Mapping[str, Any]) -> dict[str, Any]:
    """One line of blind.json, searched."""
    forecast = json.loads((RESULTS / f"blind/{told['line']['name']}.json").read_text())["now"]
    question = asked(told["line"], forecast)
    line = {"shape": told["line"]["shape"], "params": question.params, "budget": question.budget}
    line |= {name: told[name] for name in ("split_fraction", "loss", "noise")}
    found = compare(line, None, ladders(), question, full().searches, TOLERANCE)
    return {"name": told["line"]["name"], "optimum": told["optimum"]["value"]} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blind", type=Path, default=RESULTS / "blind.json", help="the scored blind lines")
    parser.add_argument("--out", type=Path, default=RESULTS / "search.json")
    given = parser.parse_args()
    record = json.loads(given.out.read_text())
    known = {(line["name"], *line["loss"]): line for line in record.get("fresh", {}).get("lines", [])}
    made = []
    for told in json.loads(given.blind.read_text())["lines"]:
        line = known.get((told["line"]["name"], *told["loss"])) or searched(told)
        made.append(line)
        means = ", ".join(f"{n} {line[n]['mean_trials']:.1f}" for n in ("law-guided", "law alone", "random", "TPE"))
        print(f"{line['name']:16s} trials: {means}", flush=True)
        record["fresh"] = {"overall": overall(made), "lines": made}
        given.out.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
