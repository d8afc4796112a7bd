"""Published fits, reproduced: Chinchilla's 240 points (Besiroglu et al. 2024), its 217 points by squared error
(ml-scalefit), and three training sets of Brandfonbrener et al. 2024.

    python -m benchmarks.law_replication
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from benchmarks.law_common import RESULTS, machine, table
from splitray.law import fit

DRAWS = 4000


def chinchilla() -> pa.Table:
    runs = pyarrow.csv.read_csv(table("chinchilla.csv"))
    return runs.filter(pc.invert(pc.cast(runs["outlier"], pa.bool_())))


def huber(target: dict[str, Any]) -> dict[str, Any]:
    law = fit(chinchilla(), form="chinchilla", bootstrap=DRAWS)
    draws = law.components[0].draws[:, 0]
    spread = {"E": np.exp(draws[:, 0]).std(), "alpha": draws[:, 2].std(), "beta": draws[:, 4].std()}
    errors = target["standard_errors"]
    return {
        "objective": law.objective,
        "best_objective_published": target["best_objective_known"],
        "constants": law.constants,
        "published": {name: target[name] for name in law.constants},
        "off_in_published_standard_errors": {
            name: abs(law.constants[name] - target[name]) / errors[name] for name in law.constants
        },
        "draws": DRAWS,
        "standard_errors": {name: float(value) for name, value in spread.items()},
        "standard_errors_over_published": {name: float(value / errors[name]) for name, value in spread.items()},
    }


def squared(target: dict[str, Any]) -> dict[str, Any]:
    runs = chinchilla()
    law = fit(runs.filter(pc.less(runs["flops"], 1e21)), form="chinchilla", objective="squared")
    found = law.constants
    ours = {
        "E": found["E"],
        "A": found["A"] / 1e6 ** found["alpha"],
        "B": found["B"] / 1e9 ** found["beta"],
        "alpha": found["alpha"],
        "beta": found["beta"],
        "rss": law.objective,
    }
    digits = {name: 6 if name == "rss" else 4 for name in ours}
    same = {name: round(value, digits[name]) == target[name] for name, value in ours.items()}
    return {"constants": ours, "published": {name: target[name] for name in ours}, "every_digit": same}


def loss_to_loss(target: dict[str, Any]) -> dict[str, Any]:
    runs = pyarrow.csv.read_csv(table("loss_to_loss.csv"))
    result = {}
    for domain in ("starcoder", "fineweb-edu-100b", "smollm-corpus"):
        law = fit(runs.filter(pc.equal(runs["domain"], domain)), form="chinchilla")
        off = {name: law.constants[name] / target[domain][name] - 1 for name in law.constants}
        result[domain] = {"constants": law.constants, "published": target[domain], "relative_difference": off}
    return result


def main() -> None:
    published = json.loads(table("PUBLISHED.json").read_text())
    record = {
        "machine": machine(),
        "chinchilla_huber": huber(published["chinchilla.csv"][0]),
        "chinchilla_squared": squared(published["chinchilla.csv"][1]),
        "loss_to_loss": loss_to_loss(published["loss_to_loss.csv"][0]),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "replication.json").write_text(json.dumps(record, indent=1) + "\n")
    found = record["chinchilla_huber"]
    print(f"240 points: objective {found['objective']:.13f} (published best {found['best_objective_published']:.13f})")
    for name, value in found["constants"].items():
        off = found["off_in_published_standard_errors"][name]
        print(
            f"  {name:6s} {value:12.5f}  published {found['published'][name]:12.5f}  off by {off:.3f} standard errors"
        )
    print("  bootstrap standard errors over published:", found["standard_errors_over_published"])
    print("217 points, every published digit:", record["chinchilla_squared"]["every_digit"])
    for domain, part in record["loss_to_loss"].items():
        print(f"{domain}: relative differences", {k: f"{v:.1e}" for k, v in part["relative_difference"].items()})


if __name__ == "__main__":
    main()
