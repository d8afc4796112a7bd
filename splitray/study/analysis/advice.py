"""At this compute: filter, scale the model, or buy tokens?

Every model of the shelf and every arm of the study is one way to spend the compute, D' = C / (6 N) tokens. The law's
surface, or what was measured of given models, says where each ends, draw by draw, so that options are compared on the
same draws. Text that is read again counts less (see `effective`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from splitray.errors import UserError
from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.results.study import FILTERED, GENERAL, MIX, QUALITY
from splitray.results.study_analysis import Advice, Decider, Option
from splitray.study.analysis.arm_forms import effective
from splitray.study.analysis.foresight import LEVEL, Predictor, anchored
from splitray.study.analysis.surface import Noise
from splitray.units import human

_NOTHING = 1e-4  # nats per token that no choice is worth a run for
_LENGTHS = (0.125, 0.25, 0.5, 1.0)  # of a run that could decide, in parts of the compute's tokens
_SEED = 5


class Source(Predictor, Protocol):
    """What says how options end: the law's surface, or what was measured of given models."""

    @property
    def noise(self) -> Noise: ...

    @property
    def heldout(self) -> Mapping[str, float] | None: ...

    @property
    def largest(self) -> tuple[float, float]: ...

    def most(self, params: float) -> float: ...

    def beyond(self, params: float, tokens: float) -> bool: ...


@dataclass(frozen=True)
class ShelfModel:
    """A model that could be continued. before: its loss on the domain now, where that was measured."""

    name: str
    params: float
    before: float | None = None


@dataclass(frozen=True)
class Means:
    """What the user has.

    flops: compute for the continued training. topic_tokens: different tokens of the topic at hand; None where they
    are not counted. mix_share: the domain's part of the arm "mix".
    """

    flops: float
    shelf: Sequence[ShelfModel]
    topic_tokens: float | None = None
    mix_share: float = 0.5

    def tokens(self, params: float) -> float:
        return self.flops / (6.0 * params)

    def topic_part(self, arm: str) -> float:
        """The share of an arm's tokens that are of the topic; the general corpus is taken as unlimited."""
        return {FILTERED: 1.0, MIX: self.mix_share, GENERAL: 0.0, QUALITY: 0.0}[arm]

    def worth(self, tokens: float, arm: str) -> tuple[float, float]:
        """(effective tokens, passes over the topic's; 0 where these are not counted) of so many tokens of an arm."""
        part = self.topic_part(arm) * tokens
        if self.topic_tokens is None or part == 0:
            return tokens, 0.0
        return tokens - part + float(effective(part, self.topic_tokens)), part / self.topic_tokens


@dataclass(frozen=True, eq=False)
class _Weighed:
    """Options with what the draws say of them [1 + draws, options]."""

    options: tuple[tuple[ShelfModel, str, float, float], ...]
    losses: Array

    @property
    def best(self) -> int:
        """The least expected loss over the draws."""
        return int(_expected(self.losses).argmin())


def _expected(losses: Array) -> Array:
    return np.asarray((losses[1:] if len(losses) > 1 else losses).mean(axis=0))


def _weigh(source: Source, means: Means, arms: Sequence[str]) -> _Weighed:
    options, columns = [], []
    for model in means.shelf:
        tokens = min(means.tokens(model.params), source.most(model.params))
        for arm in arms:
            worth, epochs = means.worth(tokens, arm)
            options.append((model, arm, tokens, epochs))
            columns.append(anchored(source, model.params, [worth], arm, model.before)[:, 0])
    return _Weighed(tuple(options), np.stack(columns, axis=1))


def advise(source: Source, means: Means, arms: Sequence[str] | None = None, notes: Sequence[str] = ()) -> Advice:
    """What to do with the compute.

    Args:
        arms: to choose from; default: those of the study but the control by quality.
        notes: more of what is not known.

    Raises:
        UserError: an empty shelf, no compute, or topic tokens below 1.
    """
    if not means.shelf or means.flops <= 0 or (means.topic_tokens is not None and means.topic_tokens < 1):
        raise UserError(
            f"advice needs a model, compute and text: {len(means.shelf)} models, {means.flops} FLOPs, "
            f"{means.topic_tokens} topic tokens given"
        )
    chosen = tuple(arms or (arm for arm in source.arms if arm != QUALITY))
    weighed = _weigh(source, means, chosen)
    best = weighed.best
    drawn = weighed.losses[1:] if len(weighed.losses) > 1 else weighed.losses
    wins = np.bincount(drawn.argmin(axis=1), minlength=len(weighed.options)) / len(drawn)
    if len(weighed.losses) == 1:
        wins[:] = np.nan
    order = np.argsort(_expected(weighed.losses), kind="stable")
    made = tuple(_option(source, weighed, int(place), wins[place]) for place in order)
    more = None
    if means.topic_tokens is not None:
        richer = _weigh(source, replace(means, topic_tokens=2 * means.topic_tokens), chosen)
        more = _estimate(weighed.losses[:, best] - richer.losses[:, richer.best])
    first = weighed.options[best]
    return Advice(
        flops=means.flops,
        topic_tokens=means.topic_tokens,
        options=made,
        other_arm=_against(weighed, best, [o[1] != first[1] for o in weighed.options]),
        other_size=_against(weighed, best, [o[0] != first[0] for o in weighed.options]),
        more_text=more,
        unknown=(*_unknown(source, means, weighed, best), *notes),
        decider=_decider(source, means, chosen, weighed),
        level=LEVEL,
    )


def _option(source: Source, weighed: _Weighed, place: int, wins: float) -> Option:
    model, arm, tokens, epochs = weighed.options[place]
    loss, best = _estimate(weighed.losses[:, place]), None if np.isnan(wins) else float(wins)
    return Option(model.name, model.params, arm, tokens, epochs, loss, best, source.beyond(model.params, tokens))


def _estimate(rows: Array) -> Estimate:
    return Estimate.of(rows, LEVEL)


def _against(weighed: _Weighed, best: int, others: Sequence[bool]) -> Estimate | None:
    """The best of some other options less the best, on the same draws."""
    places = np.flatnonzero(others)
    if not places.size:
        return None
    other = places[_expected(weighed.losses)[places].argmin()]
    return _estimate(weighed.losses[:, other] - weighed.losses[:, best])


def _unknown(source: Source, means: Means, weighed: _Weighed, best: int) -> list[str]:
    model, _, tokens, epochs = weighed.options[best]
    notes = []
    if model.params > 1.001 * source.largest[0]:
        times = model.params / source.largest[0]
        notes.append(f"{model.name} is {times:.2g} times the largest size of the study.")
    if tokens > 1.001 * source.largest[1]:
        notes.append(f"{human(tokens)} tokens are {tokens / source.largest[1]:.2g} times the most of the study.")
    if epochs > 4:
        notes.append(f"It reads the topic's text {epochs:.2g} times. What that is worth is taken from the literature.")
    if means.topic_tokens is None:
        notes.append("The topic's tokens at hand were not given, so none are counted as read again.")
    if MIX in source.arms:
        notes.append(f"Of mixtures only a share of {means.mix_share:.0%} domain text was measured.")
    else:
        notes.append("No mixture of general and filtered text was measured.")
    if any(m.before is None and m.params > 1.001 * source.largest[0] for m in means.shelf):
        notes.append("The larger models' losses before training were not given: measure them, which costs little.")
    if short := [m.name for m in means.shelf if means.tokens(m.params) > 1.001 * source.most(m.params)]:
        notes.append(f"The compute goes beyond what {', '.join(short)} was measured with; options end where it ends.")
    if source.heldout == {}:
        notes.append("With fewer than three sizes the law was not tested on a size hidden from it.")
    return notes


def _decider(source: Source, means: Means, arms: Sequence[str], weighed: _Weighed) -> Decider | None:
    """The run after which the choice is expected to be better by most for its compute.

    What a run is worth is the expected fall of the chosen option's loss: losses of the options are regressed, over
    draws, on what the run would show (Strong, Oakley, Brennan & Breeze 2015). Of runs that save half of what the best
    one does, the one with most for its compute is named.
    """
    drawn = weighed.losses[1:]
    if len(drawn) < 30 or _expected(weighed.losses).min() - drawn.min(axis=1).mean() < _NOTHING:
        return None
    random = np.random.default_rng(_SEED)
    found: list[Decider] = []
    for model in means.shelf:
        for arm in arms:
            tokens = np.array(_LENGTHS) * min(means.tokens(model.params), source.most(model.params))
            worth = [means.worth(t, arm)[0] for t in tokens]
            shown = np.log(anchored(source, model.params, worth, arm, model.before)[1:])
            noise = source.noise.row if model.before is not None else np.hypot(source.noise.row, source.noise.size)
            shown += noise * random.standard_normal(shown.shape)
            for place, count in enumerate(tokens):
                saved = _saved(drawn, shown[:, place])
                flops = 6.0 * model.params * float(count)
                found.append(Decider(model.name, model.params, arm, float(count), flops, saved))
    most = max(d.saved for d in found)
    if most < _NOTHING:
        return None
    return max((d for d in found if d.saved >= most / 2), key=lambda d: d.saved / d.flops)


def _saved(losses: Array, shown: Array) -> float:
    """How much lower the chosen option's expected loss is once `shown` [draws] is known; losses [draws, options]."""
    scaled = (shown - shown.mean()) / max(float(shown.std()), 1e-300)
    basis = np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1)
    expected = basis @ np.linalg.lstsq(basis, losses, rcond=None)[0]
    return max(0.0, float(losses.mean(axis=0).min() - expected.min(axis=1).mean()))
