"""Proposals from a law with a planted optimum, from draws that disagree on it, and from a law that is off."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import pytest

from splitray.executor.request import SplitFamily
from splitray.law import Law, plan
from splitray.law.law import Component
from splitray.law.planning.question import Question
from splitray.search.rounds import Proposal, curve, propose
from splitray.search.settings import SearchSettings
from splitray.search.tuner import LawSearcher
from splitray.training.recipe import Recipe
from splitray.training.settings import Schedule

PARAMS, BUDGET, DOMAINS = 1.3e9, 240e9, 16
QUESTION = Question(PARAMS, BUDGET, DOMAINS)
RELEASE = {"E": 1.6, "A": 285.0, "alpha": 0.34, "B": 225.0, "beta": 0.25, "c": 0.046}
RELEASE |= {"lam": 0.14, "delta": 3.9, "p": 0.615, "q": 0.28, "gamma": 0.4}
KNOWN = Law.known("release", RELEASE)


def unsure(spread: float, draws: int = 60, law: Law = KNOWN) -> Law:
    """A law with draws around its constants, `spread` a standard deviation relative to each."""
    vectors = law.components[0].vectors
    shaken = vectors * (1 + spread * np.random.default_rng(3).standard_normal((draws, *vectors.shape)))
    return Law(components=(Component("release", 1.0, vectors, shaken),), domains=KNOWN.domains)


def ask(law: Law, tried: Sequence[float] = (), count: int = 3, gap: float = 0.02) -> Proposal:
    """A proposal after trials that found the planted loss."""
    return propose(law, QUESTION, {s: loss(s) for s in tried}, count, gap)


def loss(split_fraction: float) -> float:
    """The planted law, written out at one split."""
    shared, own = split_fraction * BUDGET, (1 - split_fraction) * BUDGET / DOMAINS
    return float(KNOWN.predict(PARAMS, shared, own))


def planted() -> float:
    fine = np.linspace(0, 1, 4001)
    return float(fine[np.argmin([loss(s) for s in fine])])


def test_the_curve_is_the_law_on_the_budget_line() -> None:
    fractions = np.array([0.0, 0.3, 1.0])
    np.testing.assert_allclose(curve(KNOWN, QUESTION, fractions), [[loss(s) for s in fractions]], rtol=1e-14)
    law = unsure(0.01)
    drawn = law.predict_draws(PARAMS, fractions * BUDGET, (1 - fractions) * BUDGET / DOMAINS)
    np.testing.assert_allclose(curve(law, QUESTION, fractions)[1:], drawn, rtol=1e-14)


def test_a_law_that_is_sure_proposes_its_optimum_alone() -> None:
    found = ask(KNOWN)
    assert 0.02 < planted() < 0.98, "an optimum at the end of the line would show nothing"
    assert found.fractions == (found.optimum,) and abs(found.optimum - planted()) <= 1 / 400
    assert (found.low, found.high, found.expected_gain) == (found.optimum, found.optimum, 0.0)


def test_proposals_lie_where_the_draws_put_their_optimum() -> None:
    law = unsure(0.005)
    found = ask(law, count=5)
    fine = np.linspace(0, 1, 401)
    optima = fine[np.argmin(law.predict_draws(PARAMS, fine * BUDGET, (1 - fine) * BUDGET / DOMAINS), axis=1)]
    assert abs(found.fractions[0] - planted()) <= 1 / 400
    assert all(optima.min() - 1e-9 <= s <= optima.max() + 1e-9 for s in found.fractions)
    assert found.low < planted() < found.high
    assert np.mean(optima < found.low) <= 0.1 and np.mean(optima > found.high) <= 0.1
    assert np.mean((optima > found.low) & (optima < found.high)) > 0.5
    ends = [s for s in found.fractions if s < found.low + 0.02], [s for s in found.fractions if s > found.high - 0.02]
    assert all(ends), "neither end of the interval is tried"


def test_nothing_is_tried_twice() -> None:
    law, tried = unsure(0.03), list[float]()
    for _ in range(30):
        found = ask(law, tried)
        if not found.fractions:
            break
        assert len(found.fractions) <= 3
        tried += found.fractions
    gaps = np.diff(np.sort(tried))
    assert not found.fractions and len(tried) >= 3 and gaps.min() >= 0.02 - 1e-12
    assert ask(law, tried) == ask(law, list(reversed(tried))), "the order of trials must not matter"


def test_next_to_unsplit_it_is_unsplit_that_is_tried() -> None:
    """Of a budget line whose optimum is 1 or a little less in every draw, 1 itself is tried, and nothing between."""
    law, near = unsure(0.003), 0
    for budget in np.linspace(50e9, 56e9, 13):
        found = propose(law, Question(PARAMS, budget, DOMAINS), {}, 5)
        near += 0.98 < found.optimum < 1
        assert not any(0.98 < s < 1 for s in found.fractions), found
        assert found.optimum <= 0.98 or found.fractions[0] == 1.0
    assert near, "no budget has its optimum next to unsplit"


def test_the_expected_gain_falls_with_certainty() -> None:
    """What the truth would save over the law's own optimum: nothing to be gained once the draws agree."""
    gains = [ask(unsure(spread)).expected_gain for spread in (0.06, 0.03, 0.01, 0.001)]
    assert all(a > b >= 0 for a, b in pairwise(gains)), gains
    assert gains[0] > 20 * gains[-1] and gains[-1] < 1e-4


def test_a_round_is_a_pure_function() -> None:
    assert ask(unsure(0.03), [0.2]) == ask(unsure(0.03), [0.2])


def test_a_law_that_is_off_is_corrected_by_its_trials() -> None:
    """Its own optimum costs 0.03 nats, what its draws propose 0.02 at least; five trials come within 0.006."""
    off = replace(unsure(0.001, law=Law.known("release", RELEASE | {"delta": 6.0})), noise=0.01)
    bottom, tried = loss(planted()), list[float]()
    while len(tried) < 5:
        tried += ask(off, tried, count=1).fractions
    lost = [loss(s) - bottom for s in tried]
    assert lost[0] > 0.025 and min(lost) < 0.006, lost
    alone = ask(replace(off, noise=None), count=5).fractions
    assert min(loss(s) for s in alone) - bottom > 0.02, "the law's own draws would have found it"


def test_weighted_domains_are_searched_with_their_weights() -> None:
    """By hand: D'_k = w_k (1 - s) D_T, and sum w_k L_k; the plain mean of the law has its bottom elsewhere."""
    weights = {"a": 0.9, "b": 0.1}
    law = Law.known("release", {"a": RELEASE | {"delta": 1.0}, "b": RELEASE | {"lam": 0.6, "delta": 12.0}})
    question = Question.weighing(law, PARAMS, BUDGET, weights)
    fine = np.linspace(0, 1, 401)
    by_hand = sum(w * law.predict(PARAMS, fine * BUDGET, w * (1 - fine) * BUDGET, d) for d, w in weights.items())
    np.testing.assert_allclose(curve(law, question, fine)[0], by_hand, rtol=1e-14)
    found = propose(law, question, {}, 1)
    assert found.optimum == fine[np.argmin(by_hand)]
    planned = plan(law, params=PARAMS, budget=BUDGET, domains=list(weights), weights=list(weights.values()))
    assert found.optimum == pytest.approx(planned.split_fraction.value, abs=1 / 400)
    plain = propose(law, Question(PARAMS, BUDGET, 2), {}, 1)
    assert abs(plain.optimum - found.optimum) > 0.02, "weights that move no optimum would show nothing"
    family = SplitFamily(cast(Recipe, None), int(PARAMS), int(BUDGET), weights, Schedule(0.15))
    searcher = LawSearcher(law, family, SearchSettings(trials_per_round=1), lambda trials: law)
    assert searcher.suggest("first") == {"split_fraction": found.optimum}, "the job searches another curve"
    measured = {s: float(np.interp(s, fine, by_hand)) for s in (0.1, 0.5, 0.9)}
    again = propose(replace(law, noise=0.01), question, measured, 1)
    assert again.optimum == pytest.approx(found.optimum, abs=1 / 400), "trials that the law foretold correct nothing"


def test_the_mean_stands_for_domains_that_the_law_lacks() -> None:
    law = Law.known("release", {"a": RELEASE, "b": RELEASE | {"delta": 6.0}})
    for weights in ({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.3, "c": 0.2}):
        question = Question.weighing(law, PARAMS, BUDGET, weights)
        assert (question.domains, question.weights) == (len(weights), None)
