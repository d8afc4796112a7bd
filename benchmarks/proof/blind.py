"""The blind test: forecasts of fresh budget lines, frozen before anything of them is trained, then trained and scored.

Every forecast is made twice, by the law as it is fitted now and by the first release's law as it was committed. What a
line is trained on follows from its forecast alone: eight fractions on one seed, and the three that decide (the planned
split, one half and unsplit) on two seeds more.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import forecast
from benchmarks.proof.bench import Bench
from benchmarks.proof.blind_lines import HALF, STAGE_HOURS, BlindLine
from benchmarks.proof.programme import Cell, plain
from splitray.law import Law
from splitray.law.arrays import Array
from splitray.law.forms.schedule import RateSchedule
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Question
from splitray.proof.bowl import Bowl
from splitray.proof.forecast import LEVEL, Forecaster, Place, PlannedSplit, curve_of
from splitray.results.codec import to_json
from splitray.training.split import whole_budget

FURTHER = (1, 2)  # seeds beyond the line's own
LAWS = ("now", "first_release")
_APART = 0.02  # fractions nearer than this to one another are one


def path_of(folder: Path, line: BlindLine) -> Path:
    return folder / "blind" / f"{line.name}.json"


def first_release(folder: Path) -> Law:
    """The first release's law of the ladder, a copy of the file that its last forecasts were made from."""
    return Law.load(folder / "blind" / "first-release-law.json")


def write(bench: Bench, folder: Path, lines: Sequence[BlindLine]) -> list[Path]:
    """Forecast the lines that are not yet; the files of all."""
    fresh = [line for line in lines if not path_of(folder, line).exists()]
    if fresh:
        rows = forecast.ladder_rows(bench)
        now = forecast.forecaster(rows, bench.programme.config.law.bootstrap)
        made = {"now": now}
        if (folder / "blind" / "first-release-law.json").exists():
            made["first_release"] = Forecaster.of(first_release(folder), now.runs)
        mean = forecast.noise_of(rows, min(bench.programme.budgets) // 4)["mean"]
        (folder / "blind").mkdir(parents=True, exist_ok=True)
        now.law.save(folder / "blind" / "law.json")
        for line in fresh:
            told: dict[str, Any] = {"line": plain_line(line)}
            told |= {name: _of_line(each, bench, line, mean, name == "now") for name, each in made.items()}
            path_of(folder, line).write_text(json.dumps(told, indent=1) + "\n")
    return [path_of(folder, line) for line in lines]


def plain_line(line: BlindLine) -> dict[str, Any]:
    record = {name: value for name, value in asdict(line).items() if name not in ("shape", "corpus")}
    return record | {"shape": plain(line.shape), "corpus": line.corpus and asdict(line.corpus)}


def _of_line(made: Forecaster, bench: Bench, line: BlindLine, noise: float, scheduled: bool) -> dict[str, Any]:
    """One law's forecast. The first release knew no schedule, and forecasts every line as if it were the ladder's."""
    programme, known = bench.programme, made.law.domains
    budget = whole_budget(line.budget, len(bench.corpus.domains), programme.batch)
    params = int(bench.recipe(Cell(line.shape, _leaf(bench, line), known)).params)
    schedule = _schedule(bench, line) if scheduled else None
    question = Question(params, budget, len(bench.corpus.domains), schedule=schedule)
    plan = answer(made.law, question, LEVEL)
    leaves = [_split(bench, line, fraction) for fraction in _fractions(bench)]
    # losses of another corpus are of other domains, and no law knows how hard they are
    places = [Place(D, S, domain) for D, S in leaves for domain in known] if line.corpus is None else []
    rows = made.forecast(places, params, schedule)
    measurements = _measurements(made.law, params, leaves, noise, schedule)
    return to_json(rows) | {
        "budget": budget,
        "plan": to_json(PlannedSplit.of(plan)),
        "warnings": [str(warning) for warning in plan.warnings],
        "curve": to_json(curve_of(made.law, question)),
        "differences": _differences(made.law, params, leaves, measurements, schedule),
        "optimum": _optimum(leaves, measurements),
    }


def _measurements(
    law: Law, params: int, leaves: Sequence[tuple[int, int]], noise: float, schedule: RateSchedule | None
) -> Array:
    """Mean losses over the law's domains that one run at each of the leaves might measure, [draws, leaves]."""
    D, S = np.array(leaves, dtype=float).T
    draws = law.predict_draws(params, D, S, schedule=schedule)
    return np.asarray(draws * np.exp(noise * np.random.default_rng(0).standard_normal(draws.shape)))


def _differences(
    law: Law, params: int, leaves: Sequence[tuple[int, int]], measurements: Array, schedule: RateSchedule | None
) -> list[dict[str, float]]:
    """Mean losses over the law's domains less unsplit's, with the interval of one run of each; nats per token."""
    D, S = np.array(leaves, dtype=float).T
    fitted = law.predict(params, D, S, schedule=schedule)
    apart = measurements[:, :-1] - measurements[:, -1:]
    low, high = np.quantile(apart, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    budget = D[-1]
    return [
        {"split_fraction": float(d / budget), "value": float(v - fitted[-1]), "low": float(lo), "high": float(hi)}
        for d, v, lo, hi in zip(D[:-1], fitted[:-1], low, high, strict=True)
    ]


def _optimum(leaves: Sequence[tuple[int, int]], measurements: Array) -> dict[str, float]:
    """The interval of the best fraction that will be measured: the bottom of the smooth curve through noisy losses.

    The plan's own interval is of the best fraction itself. A measured bottom also moves with the noise of its points,
    by up to 0.03 on the lines that were seen.
    """
    D, _ = np.array(leaves, dtype=float).T
    bottoms = Bowl(D / D[-1], measurements[0], 0.0).bottoms(measurements)
    low, high = np.quantile(bottoms, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}


def _schedule(bench: Bench, line: BlindLine) -> RateSchedule:
    training = bench.programme.config.training
    return RateSchedule(
        line.decay_fraction or training.decay_fraction, training.min_lr_ratio, line.specialist_lr_multiplier
    )


def _fractions(bench: Bench) -> list[float]:
    return sorted(bench.programme.fractions)


def _split(bench: Bench, line: BlindLine, fraction: float) -> tuple[int, int]:
    """D and the D' of every domain at a fraction, in whole batches."""
    leaf = next(iter(_cells(bench, line, [fraction], 0))).leaf
    return leaf.pretrain_tokens, leaf.specialize_tokens


def _leaf(bench: Bench, line: BlindLine) -> Any:
    return next(iter(_cells(bench, line, [1.0], 0))).leaf


def _cells(bench: Bench, line: BlindLine, fractions: Sequence[float], further: int) -> Iterator[Cell]:
    domains = bench.corpus.domains
    for cell in bench.programme.line(line.shape, line.budget, fractions, domains, False, line.seed + further):
        rate = line.specialist_lr_multiplier if cell.leaf.domain else 1.0
        yield replace(cell, decay_fraction=line.decay_fraction, specialist_lr_multiplier=rate)


def deciding(planned: float) -> list[float]:
    """The fractions that are trained on three seeds: the planned split, one half and unsplit."""
    every = [HALF, 1.0]
    return sorted([*every, planned] if all(abs(planned - other) >= _APART for other in every) else every)


def cells(bench: Bench, folder: Path, line: BlindLine) -> list[Cell]:
    """Everything that a line trains, on the bench of its corpus."""
    planned = json.loads(path_of(folder, line).read_text())["now"]["plan"]["split_fraction"]["value"]
    decides = deciding(planned)
    first = [*_fractions(bench), *(s for s in decides if all(abs(s - o) >= _APART for o in _fractions(bench)))]
    every = [_cells(bench, line, first, 0), *(_cells(bench, line, decides, seed) for seed in FURTHER)]
    return list(dict.fromkeys(chain(*every)))


def stages(bench: Bench, folder: Path, lines: Sequence[BlindLine], hosts: int = 2) -> list[list[BlindLine]]:
    """The lines in their order, as many to a stage as fit two hours at the speed that the table shows."""
    result, spent = list[list[BlindLine]](), 0.0
    for line in lines:
        hours = bench.cost(cells(bench, folder, line))["tokens"] * _seconds(bench, line) / 3600 / hosts
        if not result or spent + hours > STAGE_HOURS:
            result.append([])
            spent = 0.0
        result[-1].append(line)
        spent += hours
    return result


def _seconds(bench: Bench, line: BlindLine) -> float:
    """Seconds a token at a line's size, from what other sizes took."""
    spent: dict[int, Array] = {}
    for row in {r["run"]: r for r in bench.table.rows.values()}.values():
        took = np.array([row["seconds"], row["segment_tokens"]])
        spent[row["params"]] = spent.get(row["params"], np.zeros(2)) + took
    sizes = np.array(sorted(spent), dtype=float)
    if not sizes.size:
        return 0.0
    each = np.array([spent[n][0] / spent[n][1] for n in sorted(spent)])
    params = bench.recipe(Cell(line.shape, _leaf(bench, line), ())).params
    if params > sizes[-1]:
        return float(each[-1] * params / sizes[-1])
    return float(np.interp(np.log(params), np.log(sizes), each))


def measured(bench: Bench, line: BlindLine, fractions: Sequence[float], seeds: Sequence[int]) -> dict[float, Array]:
    """Mean losses over the ladder's domains by fraction, [seeds]; those that stand."""
    known, found = bench.programme.ladder_domains(bench.corpus.domains), dict[float, Array]()
    for fraction in fractions:
        means = []
        for seed in seeds:
            rows = {r["domain"]: r["loss"] for r in bench.rows(list(_cells(bench, line, [fraction], seed)))}
            if set(known) <= set(rows):
                means.append(float(np.mean([rows[d] for d in known])))
        if means:
            found[fraction] = np.array(means)
    return found


def losses(bench: Bench, line: BlindLine) -> Mapping[tuple[int, int, str], float]:
    """Measured losses of the line's own seed by (D, D', domain)."""
    rows = bench.rows(list(_cells(bench, line, _fractions(bench), 0)))
    return {(r["pretrain_tokens"], r["specialize_tokens"], r["domain"]): r["loss"] for r in rows}
