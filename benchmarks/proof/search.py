"""How many tokens each search needs to come within a tolerance of the best split fraction, on the measured objective.

The objective is the smooth bowl through real leaves, interpolated over s in [0, 1], without noise; every trial costs
D_T for all. Whatever lies nearer than GAP to 1 is unsplit training for all: the library proposes it so, and where no
split pays a search over real numbers would never hit it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.proof.analysis import Surface, bowl_of, trials_until
from benchmarks.proof.table import SCHEMA
from splitray import law as laws
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.question import Question
from splitray.proof.bowl import Bowl
from splitray.search.rounds import GAP, propose

TOLERANCE, TRIALS = 0.005, 40
SEARCHES = ("law-guided", "law alone", "random", "TPE")  # the second takes the law at its word: no correction by trials
Objective = Callable[[float, float], float]  # of a split fraction and log2 of the specialists' learning rate
Span = tuple[float, float] | None  # of that logarithm; None where the fraction alone is searched


def random_search(objective: Objective, seed: int, span: Span = None) -> list[float]:
    rng = np.random.default_rng(seed)
    return [objective(rng.random(), rng.uniform(*span) if span else 0.0) for _ in range(TRIALS)]


def tpe(objective: Objective, seed: int, span: Span = None) -> list[float]:
    """Optuna's tree-structured Parzen estimator, three random trials to start with."""
    import optuna

    def trial_loss(trial: Any) -> float:
        fraction = trial.suggest_float("split_fraction", 0.0, 1.0)
        return objective(fraction, trial.suggest_float("log2_rate", *span) if span else 0.0)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(n_startup_trials=3, seed=seed))
    study.optimize(trial_loss, n_trials=TRIALS)
    return [float(trial.value) for trial in study.trials if trial.value is not None]


def law_guided(
    law: laws.Law, question: Question, objective: Objective, span: Span = None, enough: float = -np.inf
) -> list[float]:
    """The library's proposals for a question, one a round; the law is corrected by the trials, not fitted again.

    No round follows once a trial is at `enough` or below: later ones count for nothing.

    The law knows no learning rates. Where they are searched too, the first fraction is tried at the rate of the trunk,
    at half and at twice that, and where the parabola through these has its bottom; the best of them is kept.
    """
    trials: dict[float, float] = {}
    losses: list[float] = []
    rate = 0.0
    while len(losses) < TRIALS and min(losses, default=np.inf) > enough:
        fractions = propose(law, question, trials, 1).fractions
        if not fractions:
            break  # every fraction that the draws of the law propose was tried
        fraction = fractions[0]
        losses.append(objective(fraction, rate))
        trials[fraction] = losses[-1]
        if span and len(trials) == 1:
            known = {x: objective(fraction, x) for x in (-1.0, 1.0)} | {0.0: losses[0]}
            low, high = known[-1.0] - losses[0], known[1.0] - losses[0]
            vertex = 0.5 * (low - high) / (low + high) if low + high > 0 else float(np.sign(low - high)) * 2
            known[vertex] = objective(fraction, float(np.clip(vertex, *span)))
            losses += [known[-1.0], known[1.0], known[vertex]]
            best = min(known, key=lambda x: known[x])
            rate, trials[fraction] = float(np.clip(best, *span)), known[best]
    return losses


def resampled(rows: Sequence[Mapping[str, Any]], fitted: laws.Law, noise: Mapping[str, float], seed: int) -> laws.Law:
    """The law of a ladder that might have been: the fitted losses with fresh noise of trunks and rows, fitted again.

    By `auto`, as the library fits: the forms that win vary with the noise, and the laws of some ladders mix several.
    """
    rng = np.random.default_rng(seed)
    trunks = {name: rng.standard_normal() for name in sorted({r["trunk"] for r in rows})}
    fresh = []
    for r in rows:
        value = float(fitted.predict(r["params"], r["pretrain_tokens"], r["specialize_tokens"], r["domain"]))
        spread = noise["seed"] * trunks[r["trunk"]] + noise["rest"] * rng.standard_normal()
        fresh.append({**r, "loss": value * float(np.exp(spread))})
    return laws.fit(pa.Table.from_pylist(fresh, SCHEMA), bootstrap=60, seed=seed)


@dataclass(frozen=True)
class Ladders:
    """Laws of ladders that might have been, and what one ladder costs."""

    laws: tuple[laws.Law, ...]
    tokens: int

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], noise: Mapping[str, float], tokens: int, resamples: int
    ) -> "Ladders":
        fitted = laws.fit(pa.Table.from_pylist(list(rows), SCHEMA))
        return cls(tuple(resampled(rows, fitted, noise, seed) for seed in range(resamples)), tokens)


def _reached(searched: Bowl | Surface) -> np.ndarray:
    """The smooth loss of everything that can be tried, evenly, flat."""
    s = np.linspace(0, 1, 1001)
    s = np.where(s > 1 - GAP, 1.0, s)
    if isinstance(searched, Bowl):
        return searched.curve(s)
    return searched.at(*np.meshgrid(s, np.linspace(searched.rates.min(), searched.rates.max(), 101))).ravel()


def compare(
    line: Mapping[str, Any],
    surface: Surface | None,
    ladders: "Ladders",
    question: Question,
    repetitions: int,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Trials and tokens that every search needs on one bowl of the results, and the ratios to the law-guided one.

    Args:
        surface: searched in place of the line's bowl, in two dimensions.
        ladders: whose laws guide a search each.
        question: what the law is asked about the line.
        tolerance: nats above the bottom that count as found.
    """
    bowl = bowl_of(line)
    span = None if surface is None else (float(surface.rates.min()), float(surface.rates.max()))
    every = _reached(bowl if surface is None else surface)
    bottom = float(every.min())
    enough = bottom + tolerance

    def objective(fraction: float, rate: float) -> float:
        fraction = 1.0 if fraction > 1 - GAP else fraction
        return float(bowl.curve([fraction])[0] if surface is None else surface.at(fraction, rate).item())

    histories = {
        "law-guided": [law_guided(law, question, objective, span, enough) for law in ladders.laws],
        "law alone": [law_guided(replace(law, noise=None), question, objective, span, enough) for law in ladders.laws],
        "random": [random_search(objective, seed, span) for seed in range(repetitions)],
        "TPE": [tpe(objective, seed, span) for seed in range(repetitions)],
    }
    needed = {name: [trials_until(h, bottom, tolerance) for h in runs] for name, runs in histories.items()}
    result: dict[str, Any] = {
        "shape": line["shape"],
        "budget": line["budget"],
        "loss": line["loss"],  # the bowl that was searched: another one is another result
        "dimensions": 1 if surface is None else 2,
        "tolerance": tolerance,
        "width": float(np.mean(every <= bottom + tolerance)),  # the part of what is searched that lies within it
        "ladder_resamples": len(ladders.laws),
        "ladder_tokens": ladders.tokens,
        "repetitions": repetitions,
    }
    if surface is not None:
        result["best"] = dict(zip(("split_fraction", "log2_rate", "loss"), surface.best, strict=True))
    for name, counts in needed.items():
        found = np.array([c for c in counts if c is not None], dtype=float)
        mean = float(np.mean([c if c is not None else TRIALS for c in counts]))
        never = 1 - found.size / len(counts)
        result[name] = {"mean_trials": mean, "mean_tokens": mean * line["budget"], "never": never}
        result[name]["mean_tokens_with_ladder"] = mean * line["budget"] + name.startswith("law") * ladders.tokens
    result["ratio"] = {name: _ratio(needed[name], needed[SEARCHES[0]]) for name in SEARCHES[1:]}
    return result


def _ratio(other: Sequence[int | None], guided: Sequence[int | None], draws: int = 4000) -> dict[str, Any]:
    """Mean trials of another search over those of the law-guided one, with its 95 % interval over repetitions."""
    theirs, ours = (np.array([TRIALS if c is None else c for c in counts], dtype=float) for counts in (other, guided))
    rng = np.random.default_rng(0)
    top = theirs[rng.integers(len(theirs), size=(draws, len(theirs)))].mean(axis=1)
    under = ours[rng.integers(len(ours), size=(draws, len(ours)))].mean(axis=1)
    return Estimate.resampled(float(theirs.mean() / ours.mean()), top / under).plain()


def overall(lines: Sequence[Mapping[str, Any]], draws: int = 4000) -> dict[str, Any]:
    """Mean trials of every search over the lines searched in one dimension, and the ratios of these means to the
    law-guided one's, with 95 % intervals over lines.
    """
    rows = [line for line in lines if line["dimensions"] == 1]
    table = np.array([[line[name]["mean_trials"] for name in SEARCHES] for line in rows])
    means, picks = table.mean(axis=0), np.random.default_rng(0).integers(len(rows), size=(draws, len(rows)))
    drawn = table[picks].mean(axis=1)
    never = {name: float(np.mean([line[name]["never"] for line in rows])) for name in SEARCHES}
    result: dict[str, Any] = {"lines": len(rows), "mean_trials": dict(zip(SEARCHES, means.tolist(), strict=True))}
    result["never"] = never
    result["ratio"] = {}
    for place, name in enumerate(SEARCHES[1:], 1):
        told = Estimate.resampled(float(means[place] / means[0]), drawn[:, place] / drawn[:, 0]).plain()
        result["ratio"][name] = told | {"best": float((table[:, place] / table[:, 0]).max())}
    return result


def stale(lines: Sequence[Mapping[str, Any]], bowls: Sequence[Mapping[str, Any]]) -> bool:
    """Whether searches are of other bowls than these."""
    return sorted(x["loss"] for x in lines if x["dimensions"] == 1) != sorted(x["loss"] for x in bowls)
