"""What the data cannot support: each warning with its reason and the run that would cure it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from splitray.law.arrays import Array
from splitray.law.fitting.monotone import rising
from splitray.law.fitting.regression import Fitted
from splitray.law.law import LawWarning
from splitray.law.runs import Runs
from splitray.units import counted, some_of

_RAY = 0.15  # e-folds: narrower than this across its main direction, a cloud of (log N, log D) is a ray
_SIZES, _TOKENS = 5, 4  # DESIGN: fewer do not identify E, A, alpha, or B, beta
_SMALL = 0.05  # D' / D at which D_split is decided
_COLLAPSED = 0.02  # E below this share of the smallest loss is zero in all but name
_KNOWN = 0.5  # part of a constant's precision that data must give for it to count as identified
_MISFIT = 2.0  # residuals over replicate noise
_NAMED = 3  # domains in one warning
_CONSTANTS = 3  # and constants
_OF_SIZE = {"E", "A", "alpha", "c", "h", "q", "r", "u"}  # constants that only several sizes tell


def fit_warnings(fitted: Fitted, runs: Runs) -> tuple[LawWarning, ...]:
    """All warnings on a fit to `runs`. Each says what it means, and has symbols in brackets."""
    checks = (_constant, _rises, _ray, _counts, _small, _misfit, _collapsed, _bounds, _unidentified, _replicates)
    return tuple(warning for check in checks for warning in check(fitted, runs))


def _named_constants(fitted: Fitted, names: Sequence[str]) -> str:
    """What constants stand for, each with its symbol."""
    readings = {c.name: c.reading for c in fitted.form.constants}
    return some_of(names, _CONSTANTS, lambda name: f"{readings[name]} ({name})")


def _few_sizes(runs: Runs) -> bool:
    return np.unique(runs.params).size < _SIZES


def identified(fitted: Fitted) -> Array:
    """The part of each constant's precision that the data give, the rest being its prior [domains, constants].

    1 - precision * (H^-1)_jj for the curvature H of data and prior at the optimum; 1 where there is no prior and the
    data see the constant at all.
    """
    problem = fitted.problem
    _, _, _, curvature = problem.normal(fitted.vector[None])
    scale = np.sqrt(np.maximum(np.diag(curvature[0]), 1e-300))
    inverse = np.linalg.pinv(curvature[0] / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    share = 1.0 - problem.precision * np.diag(inverse) / scale**2
    return np.asarray(share[problem.index])


def _constant(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    if np.ptp(np.log(runs.loss)) < 1e-9:
        yield LawWarning(
            "constant_loss",
            "the loss is the same in every run",
            f"in {len(runs)} rows of {runs.loss[0]:.6g} nats neither size nor tokens change it: no plan follows",
            "check the column loss, and add runs of other sizes and token counts",
        )


def _collapsed(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    flat = _at_zero(fitted, runs)
    if flat and not _few_sizes(runs):
        least = min(runs.loss[runs.group == domain].min() for domain in flat)
        yield LawWarning(
            "floor_at_zero",
            f"the law sees no end to what size and tokens gain{_in(runs, flat)}",
            f"no run shows the curve flatten, so losses far beyond the runs come out too low (E is below "
            f"{100 * _COLLAPSED:g} % of the smallest loss, {least:.3g} nats)",
            "add runs with more tokens at the smallest sizes, and larger sizes",
        )


def _at_zero(fitted: Fitted, runs: Runs) -> list[int]:
    """The domains whose E is zero in all but name."""
    floors = np.exp(fitted.constants[:, fitted.form.names.index("E")])
    return [i for i, floor in enumerate(floors) if floor < _COLLAPSED * runs.loss[runs.group == i].min()]


def _bounds(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    """One warning for all domains in which the same constants are stuck. An E at zero has a warning of its own."""
    problem, flat = fitted.problem, _at_zero(fitted, runs)
    width = problem.high - problem.low
    low = fitted.vector <= problem.low + 1e-6 * width
    high = fitted.vector >= problem.high - 1e-6 * width
    domains: dict[str, list[int]] = {}
    for domain, index in enumerate(problem.index):
        at = [(c, i) for c, i in zip(fitted.form.constants, index) if low[i] or high[i]]
        at = [(c, i) for c, i in at if not (_few_sizes(runs) and c.name in _OF_SIZE)]
        stuck = [f"{c.reading} ({c.name} = {c.low if low[i] else c.high:g})" for c, i in at if c.exponent]
        stuck += [f"{c.reading} ({c.name})" for c, _ in at if not c.exponent and not (c.name == "E" and domain in flat)]
        if stuck:
            domains.setdefault(", ".join(stuck), []).append(domain)
    for names, where in domains.items():
        yield LawWarning(
            "at_bound",
            f"the fit ended at the edge of what is plausible{_in(runs, where)}",
            f"the runs would push it further, so form and table do not suit each other: {names}",
            "spread the runs wider in sizes and tokens, or choose another form",
        )


def _unidentified(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    share = identified(fitted)
    weak = {c.name: float(s) for c, s in zip(fitted.form.constants, share.min(axis=0)) if s < _KNOWN}
    if _few_sizes(runs):  # whose warning says it of them
        weak = {name: value for name, value in weak.items() if name not in _OF_SIZE}
    if weak:
        listed = ", ".join(f"{name} {100 * max(value, 0):.0f} %" for name, value in weak.items())
        cure = [_WIDER if _has(runs, name) else _CURES[name] for name in weak if name in _CURES]
        yield LawWarning(
            "not_identified",
            f"the runs leave open {_named_constants(fitted, list(weak))}",
            f"what is usual elsewhere decides it, and your runs only a part: {listed}",
            "add " + ("; ".join(dict.fromkeys(cure)) or "runs over a wider range of sizes and tokens"),
        )


_CURES = {
    "gamma": "four specialize_tokens spanning 30x at one base",
    "delta": "runs with specialize_tokens at most 0.05 pretrain_tokens",
    "kappa": "runs with specialize_tokens at most 0.05 pretrain_tokens",
    "tau": "runs with specialize_tokens at most 0.05 pretrain_tokens",
    "p": "small specialize_tokens at three or more pretrain_tokens",
    "q": "small specialize_tokens at four or more sizes",
    "c": "runs without specialize_tokens at four token counts and several sizes",
    "lam": "runs without specialize_tokens beside large specialize_tokens at every size",
    "omega": "specialize_tokens from 0 up at three or more pretrain_tokens",
    "rho": "large specialize_tokens on small bases",
    "G": "runs without specialize_tokens beside large specialize_tokens",
    "r": "small specialize_tokens at four or more sizes",
    "h": "the same specialize_tokens at bases far apart",
    "alpha": "five or more sizes at large specialize_tokens",
    "beta": "runs without specialize_tokens at four or more token counts",
}


_WIDER = "seeds, and larger sizes and token counts: the runs are spread as these constants ask, and noise hides them"
_SPAN = 30.0  # of D' at one base, for gamma


def _has(runs: Runs, name: str) -> bool:
    """Whether the runs already have what would identify a constant, so that more of the same is asked for."""
    special = runs.specialize_tokens
    if name == "beta":
        return np.unique(runs.pretrain_tokens[special == 0]).size >= _TOKENS
    if name != "gamma":
        return False
    bases = np.stack([runs.params, runs.pretrain_tokens], axis=1)
    for base in np.unique(bases, axis=0):
        own = np.unique(special[(bases == base).all(axis=1) & (special > 0)])
        if own.size >= _TOKENS and own[-1] >= _SPAN * own[0]:
            return True
    return False


def _misfit(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    count = np.bincount(runs.cell)[runs.cell]
    twice = count > 1
    if not twice.any():
        return
    mean = (np.bincount(runs.cell, np.log(runs.loss)) / np.bincount(runs.cell))[runs.cell]
    free = twice.sum() - np.unique(runs.cell[twice]).size
    noise = float(np.sqrt(np.sum((np.log(runs.loss) - mean)[twice] ** 2) / max(free, 1)))
    if free >= 3 and fitted.noise > _MISFIT * noise:
        yield LawWarning(
            "misfit",
            "the law misses the runs by more than their noise",
            f"it is {100 * fitted.noise:.2g} % off where seeds differ by {100 * noise:.2g} % (form {fitted.form.name})",
            "choose another form, or look for runs that were not trained alike",
        )


def _rises(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    if reason := rising(fitted, runs):
        yield LawWarning(
            "rises_with_tokens",
            "on the way to the target the law says that more training hurts",
            f"{reason} (form {fitted.form.name})",
            "choose a form that falls, or add runs there",
        )


def _ray(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    tokens = runs.pretrain_tokens + runs.specialize_tokens
    cloud = np.stack([np.log(runs.params), np.log(tokens)], axis=1)
    _, spread, axes = np.linalg.svd(cloud - cloud.mean(axis=0), full_matrices=False)
    spread = spread / np.sqrt(len(runs))
    slanted = abs(axes[0][0]) > 0.1 and abs(axes[0][1]) > 0.1
    if len(runs) > 2 and slanted and spread[0] > _RAY and spread[1] < _RAY:
        yield LawWarning(
            "one_ray",
            "what size gains and what tokens gain cannot be told apart",
            f"all runs have nearly the same tokens per parameter (across that they spread by {spread[1]:.2g} e-folds)",
            "add runs of the same size with 4x more and 4x fewer tokens",
        )


def _counts(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    sizes, tokens = np.unique(runs.params).size, np.unique(runs.pretrain_tokens + runs.specialize_tokens).size
    if sizes < _SIZES:
        yield LawWarning(
            "few_sizes",
            f"only {counted(sizes, 'model size')}",
            f"what a larger model gains is a guess from so few, and {_SIZES} or more show it (E, A and alpha)",
            f"add runs of {counted(_SIZES - sizes, 'more size')}",
        )
    if tokens < _TOKENS:
        yield LawWarning(
            "few_token_counts",
            f"only {counted(tokens, 'token count')}",
            f"what more tokens gain is a guess from so few, and {_TOKENS} or more show it (B and beta)",
            f"add runs with {counted(_TOKENS - tokens, 'more token count')}",
        )


def _small(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    special = runs.specialize_tokens
    if fitted.form.splits and not ((special > 0) & (special <= _SMALL * runs.pretrain_tokens)).any():
        yield LawWarning(
            "no_small_specialization",
            "no run shows what the first tokens after the split do",
            f"none has specialize_tokens of at most {_SMALL:g} pretrain_tokens: from where splitting pays is a guess "
            "(D_split)",
            f"add runs with specialize_tokens between 0.01 and {_SMALL:g} pretrain_tokens",
        )


def _replicates(fitted: Fitted, runs: Runs) -> Iterator[LawWarning]:
    if not runs.replicated:
        shared = "" if runs.clustered else ", and no column says what rows share"
        yield LawWarning(
            "no_replicates",
            "intervals are likely too narrow",
            f"no trunk was trained with a second seed{shared}, so the noise between seeds is guessed at",
            "train the smallest trunk and its branches again with another seed",
        )


def _in(runs: Runs, domains: Sequence[int]) -> str:
    if len(runs.domains) == 1:
        return ""
    if len(domains) == len(runs.domains):
        return " in every domain"
    named = some_of(domains, _NAMED, lambda i: repr(runs.domains[i]))
    return f" in {'domain' if len(domains) == 1 else 'domains'} {named}"
