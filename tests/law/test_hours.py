"""The plan for accelerator-hours against brute force over sizes and divisions, with planted speeds."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.law import Law, Question, plan
from splitray.law.planning.hours import HoursPlan, Speed, plan_for_hours
from splitray.law.planning.question import Limits
from tests.support.laws import CONSTANTS, K, ladder, simulate, with_draws

# Tokens a second of an accelerator that has 2e14 FLOPs a second for 6 N of them, and loses a little on small models.
SIZES = (160e6, 410e6, 1.3e9, 2.8e9)
SPEEDS = tuple(Speed(n, 2e14 / (6 * n) / (1 + 5e7 / n)) for n in SIZES)
HOURS = 3000.0  # 1.3B on 265B tokens
FRACTIONS = np.concatenate([[0.0], np.logspace(-8, math.log10(0.5), 4000)])
FRACTIONS = np.unique(np.concatenate([FRACTIONS, 1 - FRACTIONS]))


def ask(law: Law, hours: float = HOURS, speeds: tuple[Speed, ...] = SPEEDS, ladder_hours: float = 0.0) -> HoursPlan:
    question = Question(1.0, 1.0, K)
    return plan_for_hours(law, question, hours=hours, speeds=speeds, ladder_hours=ladder_hours)


def brute_force(
    law: Law, speed: Speed, hours: float, ladder_hours: float = 0.0
) -> tuple[float, float, float, float, float]:
    """(loss, D, sum D', loss unsplit, tokens unsplit) of one size, through `Law.predict` alone."""
    whole = 3600 * (hours - speed.start_hours) * speed.shared
    unsplit = float(law.predict(speed.params, whole))
    found = [(unsplit, whole, 0.0)]
    for models, fractions in ((K + 1, FRACTIONS[FRACTIONS > 0]), (K, np.array([0.0]))):
        seconds = 3600 * (hours - ladder_hours - models * speed.start_hours)
        if seconds <= 0:
            continue
        shared, special = fractions * seconds * speed.shared, (1 - fractions) * seconds * speed.after
        losses = law.predict(speed.params, shared, special / K)
        place = int(np.argmin(losses))
        found.append((float(losses[place]), float(shared[place]), float(special[place])))
    loss, shared_tokens, special_tokens = min(found)
    return loss, shared_tokens, special_tokens, unsplit, whole


@pytest.mark.parametrize("form", ["release", "mixture_gap", "effective_tokens", "shared_specific", "capacity_release"])
@pytest.mark.parametrize(
    ("after", "start", "ladder_hours"), [(1.0, 0.0, 0.0), (0.6, 0.0, 0.0), (1.7, 12.0, 0.0), (0.8, 5.0, 400.0)]
)
def test_size_and_split_are_those_of_brute_force(form: str, after: float, start: float, ladder_hours: float) -> None:
    law = Law.known(form, CONSTANTS[form])
    speeds = tuple(replace(speed, special=after * speed.shared, start_hours=start) for speed in SPEEDS)
    result = ask(law, speeds=speeds, ladder_hours=ladder_hours)
    expected = [brute_force(law, speed, HOURS, ladder_hours) for speed in speeds]
    for each, (loss, shared, special, unsplit, whole) in zip(result.sizes, expected, strict=True):
        assert each.loss.value <= loss + 1e-12
        assert each.loss.value == pytest.approx(loss, abs=1e-6)
        assert each.unsplit_loss.value == pytest.approx(unsplit, abs=1e-12)
        assert each.unsplit_tokens == pytest.approx(whole)
        assert each.split_fraction.value == pytest.approx(shared / (shared + special), abs=5e-3)
        planned = law.predict(each.params, each.pretrain_tokens.value, each.specialize_tokens.value)
        assert each.loss.value == pytest.approx(float(planned), abs=1e-12)
    assert result.best == min(range(len(SIZES)), key=lambda place: expected[place][0])
    assert result.best_unsplit == min(range(len(SIZES)), key=lambda place: expected[place][3])
    gain = min(row[3] for row in expected) - min(row[0] for row in expected)
    assert result.gain.value == pytest.approx(gain, abs=1e-6)


@pytest.mark.parametrize("start", [0.0, 7.0])
def test_every_division_spends_the_hours(start: float) -> None:
    speeds = tuple(replace(speed, special=0.7 * speed.shared, start_hours=start) for speed in SPEEDS)
    law = Law.known("release", CONSTANTS["release"])
    for inside in (0.0, 300.0):
        sizes = ask(law, speeds=speeds, ladder_hours=inside).sizes
        assert any(each.splits for each in sizes)
        for each in sizes:
            assert each.speed.hours(each.unsplit_tokens, 0.0, 1) == pytest.approx(HOURS)
            if not each.splits:
                assert each.budget == each.unsplit_tokens
                continue
            after = K * each.specialize_tokens.value
            assert each.budget == pytest.approx(each.pretrain_tokens.value + after)
            spent = each.speed.hours(each.pretrain_tokens.value, after, K + 1)
            assert spent == pytest.approx(HOURS - inside)


def test_at_one_speed_without_starts_it_is_the_plan_at_equal_tokens() -> None:
    law = Law.known("mixture_gap", CONSTANTS["mixture_gap"])
    (only,) = ask(law, speeds=(SPEEDS[2],)).sizes
    same = plan(law, params=only.params, budget=only.unsplit_tokens, domains=K)
    assert only.budget == pytest.approx(only.unsplit_tokens)
    assert only.split_fraction.value == pytest.approx(same.split_fraction.value, abs=1e-3)
    assert only.loss.value == pytest.approx(same.predicted_loss.value, abs=1e-8)


def test_more_hours_are_for_larger_models() -> None:
    law = Law.known("release", CONSTANTS["release"])
    chosen = [ask(law, hours).chosen.params for hours in (100.0, 1e4, 1e5, 1e6)]
    assert chosen == sorted(chosen) and set(chosen) == set(SIZES)


def test_a_ladder_inside_the_hours_can_cost_the_split_its_gain() -> None:
    law = Law.known("release", CONSTANTS["release"])
    free = ask(law)
    losses = [ask(law, ladder_hours=share * HOURS).gain.value for share in (0.0, 0.05, 0.5, 0.99)]
    assert free.chosen.splits and losses[0] == free.gain.value > 0
    assert losses == sorted(losses, reverse=True)
    dear = ask(law, ladder_hours=HOURS)
    assert not dear.chosen.splits and dear.gain.value == 0 and dear.chosen.unsplit_tokens == dear.chosen.budget


def test_starts_that_take_all_hours_leave_the_unsplit_model() -> None:
    law = Law.known("release", CONSTANTS["release"])
    result = ask(law, 10.0, (replace(SPEEDS[0], start_hours=0.7),))
    assert not result.chosen.splits and result.chosen.budget == pytest.approx(9.3 * 3600 * SPEEDS[0].shared)


def test_limits_hold() -> None:
    law = Law.known("release", CONSTANTS["release"])
    free = ask(law, speeds=(SPEEDS[2],)).chosen
    speed = replace(SPEEDS[2], special=0.9 * SPEEDS[2].shared)
    least = 1.5 * free.pretrain_tokens.value
    question = Question(1.0, least, K, limits=Limits(min_pretrain=least))
    held = plan_for_hours(law, question, hours=HOURS, speeds=(speed,)).chosen
    assert held.pretrain_tokens.value == pytest.approx(least)
    little = free.specialize_tokens.value / 16
    question = Question(1.0, 1.0, K, limits=Limits(available=little, epochs=2.0))
    capped = plan_for_hours(law, question, hours=HOURS, speeds=(speed,)).chosen
    assert capped.specialize_tokens.value == pytest.approx(2 * little)


def test_weights_and_per_domain_parts() -> None:
    """With two alike domains the optimal parts are the equal ones."""
    law = Law.known("release", dict.fromkeys(("a", "b"), CONSTANTS["release"]))
    speeds = (replace(SPEEDS[1], special=0.8 * SPEEDS[1].shared),)
    even = plan_for_hours(law, Question(1.0, 1.0, ["a", "b"]), hours=300.0, speeds=speeds).chosen
    question = Question(1.0, 1.0, ["a", "b"], allocation="per_domain")
    apart = plan_for_hours(law, question, hours=300.0, speeds=speeds).chosen
    assert apart.loss.value == pytest.approx(even.loss.value, abs=1e-6)


def test_intervals_come_from_the_draws() -> None:
    law = with_draws("release", CONSTANTS["release"], 60, 0.02)
    result = ask(law)
    assert result.draws == 60
    best = result.chosen
    assert best.loss.low is not None and best.loss.low < best.loss.value < (best.loss.high or 0)
    likely = [each.likely for each in result.sizes]
    assert sum(share or 0.0 for share in likely) == pytest.approx(1.0)
    assert best.likely is not None and best.likely > 0
    alone = [replace(law, components=(replace(law.best, vectors=v, draws=law.best.draws[:0]),)) for v in law.best.draws]
    wins = [ask(each).best for each in alone[:12]]
    drawn = [brute_force_best(each) for each in alone[:12]]
    assert wins == drawn


def brute_force_best(law: Law) -> int:
    losses = [brute_force(law, speed, HOURS)[0] for speed in SPEEDS]
    return int(np.argmin(losses))


def test_a_fitted_law_is_asked_too_and_warns_where_it_is_far() -> None:
    from splitray.law import fit

    law = fit(simulate(Law.known("release", CONSTANTS["release"]), ladder()), form="release", bootstrap=8)
    result = ask(law)
    assert result.draws == 8
    assert any(warning.code == "far_target" for warning in ask(law, 1e9).warnings)


def test_the_end_of_the_sizes_is_said() -> None:
    law = Law.known("release", CONSTANTS["release"])
    inner = ask(law, 1e4)
    assert inner.best not in (0, len(SIZES) - 1) and not inner.warnings
    ended = ask(law, 1e6)
    assert ended.best == len(SIZES) - 1 and "largest" in str(ended.warnings[-1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hours": 0.0}, "hours=0"),
        ({"hours": math.nan}, "hours=nan"),
        ({"ladder_hours": -1.0}, "ladder_hours=-1"),
        ({"speeds": ()}, "speeds is empty"),
        ({"speeds": (Speed(1e9, 0.0),)}, "tokens per second at 1e\\+09"),
        ({"speeds": (Speed(1e9, 1.0, -1.0),)}, "after the split"),
        ({"speeds": (Speed(1e9, 1.0), Speed(1e9, 2.0))}, "two speeds for one size, 1B"),
        ({"speeds": (Speed(1e9, 1.0, None, 20.0),), "hours": 10.0}, "too few for any of 1 sizes"),
    ],
)
def test_rubbish_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ask(Law.known("release", CONSTANTS["release"]), **given)
