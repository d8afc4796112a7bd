"""The designed ladder: what it costs against a tree counted by hand, and what more compute makes of its interval."""

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.ladder.shapes import second_shape, shapes_like
from splitray.law import Question
from splitray.law.forms.schedule import RateSchedule
from splitray.law.planning.design import design
from splitray.training.family import Size
from splitray.training.model import size
from splitray.training.settings import ModelShape, TrainingSettings

TARGET = Question(1.3e9, 240e9, 16, schedule=RateSchedule(0.15, 0.05))


@pytest.fixture(scope="module")
def made():
    return design(TARGET, share=0.1)


def test_a_design_costs_what_it_may_and_is_spread_as_the_law_needs(made):
    assert made.share == pytest.approx(0.1) and made.flops == pytest.approx(0.1 * 6 * 1.3e9 * 240e9)
    assert len(made.params) == 5 and np.ptp(np.diff(np.log(made.params))) < 1e-9
    assert made.params[-1] / 1.3e9 == pytest.approx(made.pretrain_tokens[-1] / 240e9), "the target's tokens a parameter"
    assert len(made.pretrain_tokens) == 4 and len(made.specialize_tokens) == 4
    assert made.specialize_tokens[-1] / made.specialize_tokens[0] >= 30
    assert made.specialize_tokens[0] <= 0.05 * made.pretrain_tokens[-1]
    assert made.leaves == (5 + 2) * 4 * (1 + 3 * 4)


def test_a_design_costs_no_less_than_its_trunks_and_no_more_than_every_leaf_from_scratch(made):
    runs = [(n, seed) for n in made.params for seed in range(made.seeds if n == made.params[0] else 1)]
    trunks = sum(6 * n * made.pretrain_tokens[-1] for n, _ in runs)
    scratch = sum(
        6 * n * (d + s) for n, _ in runs for d in made.pretrain_tokens for s in (0.0, *made.specialize_tokens * 3)
    )
    assert trunks < made.flops < scratch


def test_more_compute_narrows_the_interval(made):
    larger = design(TARGET, share=0.5)
    assert made.expected and {e.form for e in made.expected} >= {"mixture_gap", "release"}
    assert all(e.low <= e.high and 0 < e.split_fraction < 1 for e in made.expected)
    assert larger.params[-1] > made.params[-1]
    assert design(TARGET, share=0.1, noise=0.0003).width < made.width


@pytest.mark.parametrize(
    "given, message", [({"share": 0}, "share"), ({"sizes": 2}, "3 sizes"), ({"domains": 0}, "domain")]
)
def test_what_cannot_be_designed_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        design(TARGET, **given)


def test_shapes_have_the_targets_ratio_and_the_sizes_asked_for():
    target = ModelShape(hidden=2048, layers=24)
    wanted = [16e6, 29e6, 52e6, 94e6, 170e6]
    found = shapes_like(target, wanted, 32000)
    for shape, params in zip(found, wanted, strict=True):
        assert shape.ratio == pytest.approx(2048 / 24, rel=0.15)
        assert shape.params == pytest.approx(params, rel=0.25)
    counted: Size = size(found[0].shape, 32000, TrainingSettings())
    assert counted.params == pytest.approx(found[0].params, rel=0.02), "as the law counts them"
    other = second_shape(found[0], 32000)
    assert other.ratio > 1.25 * found[0].ratio and other.params == pytest.approx(found[0].params, rel=0.25)


def test_sizes_too_near_to_one_another_are_refused():
    with pytest.raises(UserError, match="ask for fewer"):
        shapes_like(ModelShape(hidden=2048, layers=24), [16e6, 16.1e6], 32000)
