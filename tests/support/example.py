"""A made-up summary for the report's tests: its losses follow a known law, nothing in it was measured."""

import copy
from typing import Any

import numpy as np
import pyarrow as pa

from splitray.law import Law

DOMAINS = (
    "0_section_subsection",
    "1_patients_study",
    "2_static_struct",
    "3_said_looked",
    "4_movie_tickets",
    "5_theorem_let",
)
BUDGET, PARAMS = 12_058_624, 232_448
_OFFSET = np.array([-0.55, 0.35, -0.2, 0.75, -0.75, 0.4])
LAW = Law.known(
    "shared_specific",
    {  # 3.065 nats at s = 0, 3.001 at 0.25, 3.040 at 0.5 and 3.346 unsplit: a bowl with its bottom at 0.2
        "E": 1.691, "A": 26.0, "alpha": 0.33, "B": 89.02, "beta": 0.434, "rho": 0.4225,
        "C": 45.64, "gamma": 0.2882, "kappa": 0.03013, "p": 1.0, "q": 0.0,
    },
)  # fmt: skip


def loss(split_fraction: float, params: float = PARAMS, budget: float = BUDGET) -> float:
    special = (1 - split_fraction) * budget / len(DOMAINS)
    return float(LAW.predict(params, split_fraction * budget, special))


def estimate(value: float, spread: float = 0.12) -> dict[str, float]:
    return {"value": value, "low": value * (1 - spread), "high": value * (1 + spread)}


def _domain(index: int, name: str) -> dict[str, Any]:
    tokens = [2_900_000, 2_400_000, 3_300_000, 1_900_000, 780_000, 1_450_000][index]
    terms = ["section", "subsection", "provisions", "authority", "prescribed", "tribunal", "regulations", "notice"]
    sizes = {"tokens": tokens, "documents": tokens // 310, "bytes": tokens * 4}
    return {
        "name": name,
        "weight": 1 / 6,
        "top_terms": [f"{name.split('_')[1]}", *terms[index % 4 :]],
        "train": sizes,
        "validation": {key: value // 18 for key, value in sizes.items()},
    }


def _row(strategy: str, fraction: float) -> dict[str, Any]:
    mean, whole = loss(fraction), loss(1.0)
    gain = np.array([1.3, 0.9, 1.1, 0.8, 1.5, 0.4]) * (mean - whole)
    return {
        "strategy": strategy,
        "split_fraction": fraction,
        "pretrain_tokens": round(fraction * BUDGET),
        "specialize_tokens": round((1 - fraction) * BUDGET / 6),
        "tokens": BUDGET,
        "loss": mean,
        "bits_per_byte": mean / np.log(2) / 3.9,
        "by_domain": {d: whole + o + g for d, o, g in zip(DOMAINS, _OFFSET, gain)},
        "difference": {"value": mean - whole, "low": mean - whole - 0.02, "high": mean - whole + 0.02},
        "epochs": 0.4 + 2.2 * (1 - fraction),
    }


def _prediction(strategy: str, against: str | None, value: float, half: float, measured: float) -> dict[str, Any]:
    predicted = {"value": value, "low": value - half, "high": value + half}
    return {"strategy": strategy, "against": against, "predicted": predicted, "measured": measured, "level": 0.8}


def _matrix() -> dict[str, Any]:
    base = loss(1.0, budget=0.24 * BUDGET) + _OFFSET
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    specialists = base + np.where(distance == 0, -0.5, 0.35 + 0.17 * distance)
    table = np.vstack([base, specialists])
    return {
        "models": ["base (unsplit leaf at D)", *DOMAINS],
        "domains": list(DOMAINS),
        "loss": table.tolist(),
        "bits_per_byte": (table / np.log(2) / 3.9).tolist(),
    }


def _plan(fraction: float) -> dict[str, Any]:
    whole, split = loss(1.0), loss(fraction)
    return {
        "schema": "splitray-plan-2",
        "form": LAW.form,
        "constants": {name: estimate(value) for name, value in LAW.constants.items()},
        "heldout_error": {"value": 0.011, "low": 0.006, "high": 0.016},
        "params": PARAMS,
        "budget": BUDGET,
        "domains": 6,
        "allocation": "uniform",
        "split_fraction": {"value": fraction, "low": fraction - 0.07, "high": fraction + 0.09},
        "pretrain_tokens": estimate(fraction * BUDGET),
        "specialize_tokens": estimate((1 - fraction) * BUDGET / 6),
        "predicted_loss": estimate(split, 0.01),
        "unsplit_loss": estimate(whole, 0.012),
        "gain": estimate(whole - split),
        "split_threshold": {"value": 2.1e6, "low": 1.2e6, "high": 3.3e6, "probability_infinite": 0.0},
        "compute_multiplier": {"value": 4.4, "low": 2.9, "high": None, "probability_infinite": 0.13},
        "level": 0.8,
        "draws": 200,
        "flops": 6.0 * PARAMS * BUDGET,
        "epochs": 1.6,
        "per_domain": [],
        "by_form": [
            {"form": LAW.form, "share": 0.7, "split_fraction": fraction, "predicted_loss": split, "regret": 0.0004},
            {"form": "release", "share": 0.3, "split_fraction": 0.31, "predicted_loss": 3.02, "regret": 0.003},
        ],
        "warnings": [
            {
                "code": "few_sizes",
                "message": "The exponent of N rests on 3 sizes",
                "reason": "alpha and E trade against each other on so few",
                "cure": "add two sizes, at least a factor of 2 apart",
            }
        ],
        "best_params": None,
        "hours": None,
        "cost": None,
    }


def summary() -> dict[str, Any]:
    """A finished run, every part present."""
    fraction = 0.24
    trials = [
        {
            "split_fraction": s,
            "pretrain_tokens": round(s * BUDGET),
            "specialize_tokens": round((1 - s) * BUDGET / 6),
            "loss": loss(s) + noise,
            "predicted": loss(s),
            "prediction": _prediction(f"trial at {s:.2f}", None, loss(s), 0.008, loss(s) + noise),
        }
        for s, noise in [(0.19, 0.009), (0.11, -0.006), (0.31, 0.012), (0.24, -0.002), (0.27, 0.005)]
    ]
    seconds = {"corpus": 41.0, "ladder": 212.0, "law": 19.5, "plan": 1.2, "search": 131.0, "base": 55.0}
    seconds |= {"specialists": 47.0, "evaluate": 118.0}
    trained = {
        "ladder": 9_200_000,
        "search": 6_700_000,
        "base": 5_000_000,
        "specialists": 7_000_000,
        "evaluate": 31_000_000,
    }
    return {
        "name": "example",
        "created": "2026-11-22T01:00:00+00:00",
        "splitray": "0.1.0",
        "machine": {"cpus": 2.0, "gpus": 0.0, "nodes": 1, "cpu_model": "Example CPU at 2.0 GHz", "memory_gib": 24.0},
        "config": {"name": "example", "weights": "uniform", "budget": BUDGET, "model": {"hidden": 64, "layers": 2}},
        "budget": BUDGET,
        "params": PARAMS,
        "params_total": PARAMS,
        "domains": [_domain(i, name) for i, name in enumerate(DOMAINS)],
        "corpus": {
            "key": "corpus-0123456789abcdef0123",
            "documents": 42_000,
            "skipped": {"exact duplicate": 312, "shorter than 100 characters": 1810},
            "row_split_groups": [{"group": "task_dialogues", "rows": 3012, "share_of_file": 0.43}],
            "embedder": "tfidf",
            "vocabulary": 2048,
            "bytes_per_token": 3.9,
            "seconds": {"read and clean": 11.0, "embed": 14.0, "tokenize": 16.0},
        },
        "ladder": {
            "leaves": 108,
            "segments": 142,
            "tokens_trained": 9_200_000,
            "tokens_from_scratch": 61_000_000,
            "saving": 61 / 9.2,
            "seeds": 2,
            "table": [],
        },
        "law": {
            "form": LAW.form,
            "constants": LAW.constants,
            "heldout": [
                {"form": form, "protocol": protocol, "rows": 20, "loss": error, "difference": error / 2, "noise": 0.004}
                for form, error in (("release", 0.011), ("shared_specific", 0.013), ("effective_tokens", 0.031))
                for protocol in ("largest params", "largest specialize_tokens")
            ],
            "warnings": [],
        },
        "plan": _plan(0.19),
        "final_plan": _plan(fraction),
        "search": {
            "params": PARAMS,
            "budget": BUDGET,
            "rounds": [
                {
                    "round": 1,
                    "trials": trials[:3],
                    "optimum": {"value": 0.19, "low": 0.1, "high": 0.34},
                    "expected_gain": 0.006,
                },
                {
                    "round": 2,
                    "trials": trials[3:],
                    "optimum": {"value": 0.24, "low": 0.17, "high": 0.3},
                    "expected_gain": 0.0014,
                },
            ],
            "stopped": "expected gain below the tolerance",
        },
        "base": {"path": "trunk", "key": "seg-aaaa", "tokens": round(fraction * BUDGET)},
        "specialists": [
            {"domain": d, "path": f"specialists/{d}", "key": f"seg-{i}", "tokens": round((1 - fraction) * BUDGET / 6)}
            for i, d in enumerate(DOMAINS)
        ],
        "router": "router",
        "evaluation": {
            "matrix": _matrix(),
            "routed": {
                "loss": 3.018,
                "bits_per_byte": 1.117,
                "known_loss": 3.005,
                "agreement": 0.964,
                "prefix_characters": 200,
                "difference": {"value": -0.331, "low": -0.36, "high": -0.301},
            },
            "comparison": [
                _row("planned split", fraction),
                _row("unsplit", 1.0),
                _row("split at zero", 0.0),
                _row("split at one half", 0.5),
            ],
            "note": "The unsplit leaf at D has a decay of its own, which is outside the budget.",
            "base": {"path": "base", "key": "seg-bbbb", "tokens": round(fraction * BUDGET)},
            "contrasts": [
                {"strategy": "unsplit", "difference": {"value": -0.344, "low": -0.38, "high": -0.31}},
                {"strategy": "split at zero", "difference": {"value": -0.064, "low": -0.09, "high": -0.04}},
                {"strategy": "split at one half", "difference": {"value": -0.039, "low": -0.081, "high": 0.004}},
            ],
            "resampled": {
                "groups": 1204,
                "documents": 2310,
                "by_domain": {d: 214 - 40 * i for i, d in enumerate(DOMAINS)},
            },
        },
        "predictions": [
            _prediction("planned split", None, 3.00, 0.03, loss(fraction)),
            _prediction("unsplit", None, 3.40, 0.03, loss(1.0)),
            _prediction("planned split", "unsplit", -0.40, 0.04, loss(fraction) - loss(1.0)),
        ],
        "stages": [
            {
                "stage": stage,
                "began": 0.0,
                "seconds": s,
                "tokens_trained": trained.get(stage, 0),
                "tokens_per_second": trained[stage] / s if stage in trained else None,
                "segments": 12 if stage in trained else 0,
                "failures": 1 if stage == "specialists" else 0,
                "training_seconds": 1.6 * s if stage in trained else 0.0,
                "tokens_needed": trained.get(stage),
                "tokens_spent": trained[stage] + 100_000 if stage in trained else None,
                "flops_needed": 6.0 * PARAMS * trained[stage] if stage in trained else None,
                "flops_spent": 6.0 * PARAMS * (trained[stage] + 100_000) if stage in trained else None,
            }
            for stage, s in seconds.items()
        ],
        "ladder_cost": {"tokens": 9_200_000, "share_of_budget": 9_200_000 / BUDGET, "spent": 9_300_000},
        "search_cost": {"tokens": 6_700_000, "share_of_budget": 6_700_000 / BUDGET, "spent": 6_800_000},
        "starts": 2,
    }


def stopped(after: str) -> dict[str, Any]:
    """The same run, stopped after a stage: later parts are None."""
    whole = copy.deepcopy(summary())
    parts = {
        "ladder": ["ladder", "ladder_cost"], "law": ["law"], "plan": ["plan"],
        "search": ["search", "final_plan", "search_cost"], "base": ["base"], "specialists": ["specialists", "router"],
        "evaluate": ["evaluation", "predictions"],
    }  # fmt: skip
    order = ["corpus", *parts]
    for stage in order[order.index(after) + 1 :]:
        whole |= {part: [] if part == "predictions" else None for part in parts[stage]}
    whole["stages"] = [s for s in whole["stages"] if s["stage"] in order[: order.index(after) + 1]]
    return whole


def projection() -> pa.Table:
    """Six blobs of documents in the plane."""
    generator = np.random.default_rng(0)
    owner = np.repeat(np.arange(6), 300)
    centre = np.array([[0, 1], [1, 0.4], [0.8, -0.7], [-0.9, 0.2], [-0.4, -0.8], [0.2, -0.1]])[owner]
    x, y = (centre + generator.normal(scale=0.14, size=(len(owner), 2))).T
    return pa.table({"x": x, "y": y, "domain": [DOMAINS[i] for i in owner]})


def runs() -> list[dict[str, Any]]:
    """A ladder's table that follows `LAW` with 0.3 % noise: 3 sizes, 4 D, D' = 0 and 3 more, 2 domains."""
    generator = np.random.default_rng(1)
    rows = []
    for params in (40_000, 80_000, 160_000):
        for shared in (250_000, 500_000, 1_000_000, 2_000_000):
            for special in (0, 20_000, 100_000, 400_000):
                for domain in DOMAINS[:2]:
                    value = float(LAW.predict(params, shared, special)) * (1 + 0.003 * generator.standard_normal())
                    row = {"params": params, "pretrain_tokens": shared, "specialize_tokens": special}
                    rows.append(row | {"domain": domain, "loss": value, "seed": 0})
    return rows
