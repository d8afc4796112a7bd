"""The weights of a mixture of models: a prior times each model's own likelihood of the text so far.

A text's first tokens decide which models write the rest. With p_m the next-token distributions and w_m the weights,

    p(x_t | x_<t) = sum over m of w_m(t) p_m(x_t | x_<t),   w_m(t) proportional to w_m(0) p_m(x_1..x_(t-1)).

This is Bayesian model averaging. The products telescope: the mixture gives a whole document the probability
sum over m of w_m(0) p_m(document). No term of a sum is larger than the sum. So the mixture's loss of a document is at
most that of any single model plus ln(1 / w_m(0)), which `bound` returns. The best model needs no naming.

There are two other rules. A text may change its kind on the way, so `Follow` with a switch gives every model a share of
the weight back after each token. And weights may stay where they began: `STAY`, a fixed ensemble.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Update(Protocol):
    """How the weights move past a token."""

    def after(self, log_weights: np.ndarray, joint: np.ndarray) -> np.ndarray:
        """Log weights after a token, [..., models], normalised.

        Args:
            log_weights: before it, normalised; -inf for models that have stopped.
            joint: `log_weights` less each model's loss of the token.
        """
        ...


@dataclass(frozen=True)
class Follow:
    """Weights follow each model's own likelihood.

    With a switch this is the fixed share of Herbster and Warmuth, "Tracking the best expert" (1998). After each token
    the text is taken to change to any of the models with that chance. For K models the loss of T tokens is at most that
    of any single model that runs to the end, plus ln(1 / its prior), plus (T - 1) ln(1 / (1 - switch (K - 1) / K)).
    So a switch of 0.001 costs at most 0.001 nats a token where nothing changes. Against models that take turns, each
    change costs about ln(K / switch).

    Args:
        switch: chance of a change after each token, from 0 to below 1. At 0 it is Bayes' rule.
    """

    switch: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.switch < 1:
            raise ValueError(f"switch is at least 0 and below 1, got {self.switch:g}")

    def after(self, log_weights: np.ndarray, joint: np.ndarray) -> np.ndarray:
        moved = normalised(joint)
        if self.switch == 0:
            return moved
        running = np.isfinite(moved)
        share = np.log(self.switch) - np.log(running.sum(axis=-1, keepdims=True))
        return np.where(running, np.logaddexp(np.log1p(-self.switch) + moved, share), -np.inf)


@dataclass(frozen=True)
class Stay:
    """Weights stay where they began, whatever the text."""

    def after(self, log_weights: np.ndarray, joint: np.ndarray) -> np.ndarray:
        return log_weights


BAYES, STAY = Follow(), Stay()


@dataclass(frozen=True)
class Gate:
    """When a model stops running for a document, and how it comes back.

    The weights of those that go on grow by it. So the loss is still at most that of any model that runs to the end,
    plus ln(1 / its weight before the first token). A model that stopped has no such promise. It is asked again now and
    then, on a few of the latest tokens; see `splitray.evaluate.mixture.returns`.

    Args:
        threshold: a model stops once its weight is below this share; 0 lets light models run.
        commit: once a model holds this share, it runs alone; 1 lets the others run.
        recheck: how much of the text stopped models read again, in models per token; 0 asks none again.
    """

    threshold: float = 1e-5
    commit: float = 0.9999
    recheck: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 0.5 < self.commit <= 1:
            raise ValueError(f"a gate has 0 <= threshold < 0.5 < commit <= 1, got {self.threshold:g}, {self.commit:g}")
        if not 0 <= self.recheck <= 1:
            raise ValueError(f"a gate's recheck lies between 0 and 1, got {self.recheck:g}")

    @property
    def closes(self) -> bool:
        """Whether any model can stop."""
        return self.threshold > 0 or self.commit < 1

    def close(self, log_weights: np.ndarray) -> np.ndarray:
        """Log weights [..., models] after the gate, normalised: -inf for a model that stops."""
        log_weights = normalised(log_weights)
        heaviest = log_weights == log_weights.max(axis=-1, keepdims=True)
        light = np.zeros_like(heaviest)
        if self.threshold > 0:
            light |= log_weights < np.log(self.threshold)
        if self.commit < 1:
            light |= (log_weights >= np.log(self.commit)).any(axis=-1, keepdims=True)
        return normalised(np.where(light & ~heaviest, -np.inf, log_weights))


OPEN = Gate(0.0, 1.0, 0.0)  # every model runs to the end: the exact mixture


def normalised(log_weights: np.ndarray) -> np.ndarray:
    """Log weights [..., models] whose exponentials sum to 1."""
    shifted: np.ndarray = log_weights - _log_sum(log_weights)[..., None]
    return shifted


def _log_sum(values: np.ndarray) -> np.ndarray:
    """Log of the sum of exponentials over the last axis. scipy's `logsumexp` takes a third of a small model's token."""
    total: np.ndarray = np.logaddexp.reduce(values, axis=-1)
    return total


def exact_nats(nats: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """The exact mixture's loss of each document in nats, float64 [documents].

    Args:
        nats: each model's summed loss of each document, [documents, models].
        log_prior: log of the weights before the first token, [models] or [documents, models].
    """
    return -_log_sum(normalised(log_prior) - nats)


def bound(nats: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """What the exact mixture's loss cannot exceed, float64 [documents]; arguments as of `exact_nats`."""
    least: np.ndarray = (nats - normalised(log_prior)).min(axis=-1)
    return least


@dataclass(frozen=True)
class Gated:
    """A document under a gated mixture.

    nats: loss of each token, float64 [tokens]. running: models that ran for it, int64 [tokens]. log_weights: log of
    the weights after the last token, float64 [models].
    """

    nats: np.ndarray
    running: np.ndarray
    log_weights: np.ndarray


def advance(
    log_weights: np.ndarray, nats: np.ndarray, gate: Gate, update: Update = BAYES
) -> tuple[np.ndarray, np.ndarray]:
    """One token of the mixture: its loss in nats [...], and the log weights after it [..., models].

    Args:
        log_weights: log weights before the token, [..., models]; -inf for models that have stopped.
        nats: the token's loss under each model, [..., models]; of models that have stopped any finite number.
    """
    joint = log_weights - nats
    return -_log_sum(joint), gate.close(update.after(log_weights, joint))


def gated_nats(nats: np.ndarray, log_prior: np.ndarray, gate: Gate, update: Update = BAYES) -> Gated:
    """A document's loss where light models stop for good, from the loss of each of its tokens under each model.

    What is computed equals what a generating mixture does token by token, since a model's loss of a token does not
    depend on which other models run. What a stopped model says of the latest tokens is not in `nats`, so no model comes
    back here.

    Args:
        nats: [tokens, models].
        log_prior: [models].
    """
    log_weights = gate.close(log_prior)
    out, running = np.empty(len(nats)), np.ones(len(nats), dtype=np.int64)
    for place, row in enumerate(nats):
        live = np.isfinite(log_weights)
        if live.sum() == 1:  # nothing changes any more
            out[place:] = nats[place:, live.argmax()]
            break
        running[place] = live.sum()
        out[place], log_weights = advance(log_weights, row, gate, update)
    return Gated(out, running, log_weights)
