"""Does a sweep of learning rates at small sizes foretell the best rate of a larger model, and what is that worth?

    python -m benchmarks.rates

The proof swept three rates at four sizes, for unsplit training and for a split at one half. `ladder.rates` would have
swept the two smallest. Their fit foretells the best rate of the other sweeps. What a rate costs is read off the
parabola through the three measured rates of that sweep, so that no model is trained here. The proof swept the small
sizes at one budget only, and `ladder.rates` sweeps two: what tokens change is left to the prior here. These sweeps were
seen when `splitray/ladder/rates.py` was written; nothing in it was fitted to them but the least curvature.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.law_common import machine
from splitray.ladder.rates import fit_rates
from splitray.results.rates import Rates

METRICS = Path(__file__).parent / "results" / "equal_compute" / "metrics.csv"
OUT = Path(__file__).parent / "results" / "rates" / "rates.json"
SMALL = 2  # sizes that the ladder would sweep
DOMAINS = 8


def sweeps() -> list[dict[str, Any]]:
    """Rows of the proof's sweeps, as `fit_rates` takes them."""
    cells: dict[tuple[float, int, int], dict[float, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    with METRICS.open() as file:
        for row in csv.DictReader(file):
            if row["seed"] != "0" or row["specialist_lr_multiplier"] != "1" or row["decay_fraction"] != "0.15":
                continue
            place = float(row["params"]), int(row["pretrain_tokens"]), int(row["specialize_tokens"])
            cells[place][float(row["learning_rate"])][row["domain"]] = float(row["loss"])
    found = []
    for (params, shared, special), by_rate in cells.items():
        budget = shared + DOMAINS * special
        if len(by_rate) < 3 or (special and shared * 2 != budget):
            continue
        rates = sorted(by_rate)
        middle = rates[len(rates) // 2]
        domains = set.intersection(*(set(losses) for losses in by_rate.values()))
        for rate, losses in by_rate.items():
            for domain in sorted(domains):
                found.append(
                    {
                        "params": params,
                        "budget": budget,
                        "fraction": shared / budget,
                        "multiple": rate / middle,
                        "domain": domain,
                        "loss": losses[domain],
                    }
                )
    return found


def scored(rates: Rates, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each sweep: its best rate, the foretold one, and what that and the configured one cost in nats."""
    curves: dict[tuple[float, int, float], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        curves[row["params"], row["budget"], row["fraction"]][row["multiple"]].append(row["loss"])
    result = []
    for (params, budget, fraction), curve in sorted(curves.items()):
        x = np.log2(sorted(curve))
        parabola = np.polynomial.Polynomial.fit(x, [np.mean(curve[m]) for m in sorted(curve)], 2).convert()
        inside = np.linspace(x[0], x[-1], 401)
        least = inside[int(np.argmin(parabola(inside)))]
        foretold = float(np.log2(rates.multiple(params, budget, fraction)))
        result.append(
            {
                "params": params,
                "budget": budget,
                "fraction": fraction,
                "best_multiple": float(2**least),
                "foretold_multiple": float(2**foretold),
                "configured_costs": float(parabola(0.0) - parabola(least)),
                "foretold_costs": float(parabola(np.clip(foretold, x[0], x[-1])) - parabola(least)),
            }
        )
    return result


def main() -> None:
    rows = sweeps()
    small = sorted({row["params"] for row in rows})[:SMALL]
    rates = fit_rates([row for row in rows if row["params"] in small])
    found = scored(rates, [row for row in rows if row["params"] not in small])
    costs = {name: float(np.mean([each[name] for each in found])) for name in ("configured_costs", "foretold_costs")}
    record = {"machine": machine(), "swept": small, "rates": vars(rates), "larger": found, "mean": costs}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    for each in found:
        print({name: round(value, 4) for name, value in each.items()})
    print({name: round(value, 4) for name, value in (vars(rates) | costs).items()})


if __name__ == "__main__":
    main()
