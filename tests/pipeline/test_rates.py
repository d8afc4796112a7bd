"""Learning rates: the sweep, what it foretells, and that each strategy of the target gets its own."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from splitray.config import Config
from splitray.ladder.rates import fit_rates
from splitray.pipeline.job import Job
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.stages import WORK
from splitray.results.codec import from_json, to_json
from splitray.results.rates import Rates
from splitray.results.stages import LadderResult
from tests.support.configs import PLAIN
from tests.support.finished import begun

SHAPES = [{"hidden": 16, "layers": 1}, {"hidden": 24, "layers": 1}, {"hidden": 32, "layers": 1}]
LADDER = {"shapes": SHAPES, "pretrain_tokens": [4096, 16384], "specialize_tokens": [512], "domains": 2}
FACTS = CorpusFacts("c", 300, 0, ("a", "b"), {"a": 10**6, "b": 10**6})
RATES = Rates(0.5, -0.25, 0.1, -0.2, 1e4, 1e5, 0.5, 2.0, 0.2)


def programme(rates: list[float] | None = None, known: Rates | None = None) -> Programme:
    ladder = LADDER | ({"rates": rates} if rates is not None else {})
    config = Config(**PLAIN | {"ladder": ladder, "model": {"hidden": 48, "layers": 2}})
    return Programme(config, FACTS, "fp32", known)


def rows(truth: Rates, multiples: tuple[float, ...]) -> list[dict[str, Any]]:
    """Parabolas about the true best rates."""
    made = []
    for n, t, f, m in itertools.product((1e4, 4e4), (1e5, 8e5), (1.0, 0.5), multiples):
        level = truth.unsplit if f == 1 else truth.split
        best = level + truth.by_size * np.log2(n / truth.params) + truth.by_tokens * np.log2(t / truth.tokens)
        loss = 3.0 + 0.03 * (np.log2(m) - best) ** 2
        made += [{"params": n, "budget": t, "fraction": f, "multiple": m, "domain": d, "loss": loss} for d in "ab"]
    return made


@pytest.mark.parametrize("multiples", [(0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 2.0, 4.0)])
def test_the_best_rate_of_each_strategy_is_found(multiples: tuple[float, ...]) -> None:
    found = fit_rates(rows(RATES, multiples))
    for params, tokens, fraction in itertools.product((1e4, 1.6e5), (1e5, 1.6e6), (1.0, 0.25)):
        truth = RATES.multiple(params, tokens, fraction)
        # the priors draw a slope of the best rate a little to 0
        assert abs(np.log2(found.multiple(params, tokens, fraction) / truth)) < 0.2
    assert (found.least, found.most) == (min(multiples), max(multiples))
    assert found.multiple(1e4, 1e5, 0.5) == found.multiple(1e4, 1e5, 0.0) != found.multiple(1e4, 1e5, 1.0)


def test_noise_leaves_the_rates_near_the_configured_one() -> None:
    """A sweep whose losses say nothing: curves end anywhere within a doubling, and their mean hardly moves."""
    random = np.random.default_rng(1)
    flat = [row | {"loss": 3.0 + 0.01 * random.standard_normal()} for row in rows(RATES, (0.5, 1.0, 2.0))]
    noisy = fit_rates(flat)
    assert all(0.4 < noisy.multiple(n, 1e6, f) < 2.5 for n in (1e4, 1e6) for f in (0.5, 1.0))


def test_no_rate_lies_more_than_a_doubling_beyond_what_was_swept() -> None:
    steep = replace(RATES, by_size=1.5)
    assert steep.multiple(1e12, 1e5, 1.0) == 4.0 and steep.multiple(1e-3, 1e5, 1.0) == 0.25
    falling = fit_rates([row | {"loss": 3 - 0.1 * np.log2(row["multiple"])} for row in rows(RATES, (0.5, 1.0, 2.0))])
    assert 1.5 < falling.multiple(1e4, 1e5, 1.0) <= 4.0


def test_the_sweep_treats_both_strategies_alike() -> None:
    made = programme([0.5, 2.0])
    swept = [each for each, _ in made.rate_sweep()]
    places = {
        fraction: {(s.shape.width, s.multiple, s.budget) for s in swept if s.fraction == fraction}
        for fraction in (1, 0.5)
    }
    assert places[1] == places[0.5] == set(itertools.product((16, 24), (0.5, 1.0, 2.0), (4096, 16384)))
    for each, request in made.rate_sweep():
        parts = len(FACTS.domains) if each.fraction != 1 else 1
        assert each.leaf.pretrain_tokens + parts * each.leaf.specialize_tokens == each.budget
        peak = made.training.peak(each.shape.width)
        assert request.target.recipe.learning_rate == pytest.approx(each.multiple * peak)
    assert programme().rate_sweep() == []


def keys(made: Programme) -> dict[str, list[str]]:
    """Those of the ladder, of production at one half, and of the unsplit baseline."""
    half, whole = made.final().split(0.5), made.final().split(1.0)
    base, reference = made.base(half), made.reference(half)
    assert base is not None and reference is not None
    return {
        "ladder": [request.target.key for _, request in made.ladder()],
        "split": [r.target.key for r in (base, reference, *made.specialists(half), *made.compared(half))],
        "unsplit": [r.target.key for r in made.compared(whole)],
        "unsplit plan": [r.target.key for r in made.specialists(whole)],
    }


def test_without_rates_every_key_stays() -> None:
    assert keys(programme()) == keys(programme([0.5, 2.0]))
    assert programme().config.identity() == programme([]).config.identity() != programme([0.5, 2.0]).config.identity()


def test_each_strategy_of_the_target_has_its_own_rate() -> None:
    plain, made = programme([0.5, 2.0]), programme([0.5, 2.0], RATES)
    assert keys(made)["ladder"] == keys(plain)["ladder"]
    params, budget, peak = made.size(made.config.model).params, made.budget, made.training.peak(48)
    half, whole = made.final().split(0.5), made.final().split(1.0)
    for requests, fraction in ((made.specialists(half), 0.5), (made.compared(half), 0.5), (made.compared(whole), 1.0)):
        for request in requests:
            expected = peak * RATES.multiple(params, budget, fraction)
            assert request.target.recipe.learning_rate == pytest.approx(expected, rel=1e-12)
    # production shares one trunk with what it is compared by, and an unsplit plan is the unsplit baseline
    base = made.base(half)
    assert base is not None and base.target.recipe == made.compared(half)[0].target.recipe
    assert set(keys(made)["unsplit plan"]) == set(keys(made)["unsplit"])
    alone = made.base(whole)
    assert alone is not None and alone.target.key in keys(made)["unsplit"]
    assert made.search().recipe.learning_rate == pytest.approx(made.training.peak(32))


def test_the_record_of_the_stage_keeps_them() -> None:
    result = LadderResult(1, 1, 1, 1, 1.0, 1, RATES)
    assert from_json(LadderResult, to_json(result), "here") == result
    old = {name: value for name, value in to_json(result).items() if name != "rates"}
    assert from_json(LadderResult, old, "here").rates is None


@pytest.mark.parametrize(("rates", "message"), [([0.0, 2.0], "above 0"), ([1.0, 2.0], "beside 1")])
def test_rates_that_show_no_best_one_are_refused(rates: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        programme(rates)


def test_a_real_sweep_gives_the_target_its_rates(tmp_path: Path) -> None:
    """The stage itself, in this process: 3k weights, two budgets, a domain; then a second start of the same run."""
    shapes = [{"hidden": 16, "layers": 1, "heads": 2}, {"hidden": 24, "layers": 1, "heads": 2}]
    ladder = {"shapes": shapes, "pretrain_tokens": [3072, 6144], "specialize_tokens": [512], "domains": 1}
    job = begun(tmp_path, ladder=ladder | {"rates": [0.5, 2.0], "max_share": 50.0})
    job.run.carry_out("ladder", lambda: WORK["ladder"](job), lambda: None)
    result = job.run.result(LadderResult)
    assert result.rates is not None
    losses = job.run.kept("rates.parquet", pq.read_table).to_pylist()
    assert fit_rates(losses) == result.rates
    assert {row["multiple"] for row in losses} == {0.5, 1.0, 2.0} and len({row["loss"] for row in losses}) > 20
    # what a sweep at the configured rate shares with the ladder is one model, trained once
    table = job.table.to_pylist()
    assert {row["run"] for row in losses if row["multiple"] == 1} & {row["run"] for row in table}
    parts, tokens = len(job.corpus.domains), {d: job.corpus.counts(d, "train")["tokens"] for d in job.corpus.domains}
    for row in table:
        before = row["pretrain_tokens"] / parts / tokens[row["domain"]]
        assert row["pretrain_epochs"] == pytest.approx(before)
        assert row["epochs"] == pytest.approx(before + row["specialize_tokens"] / tokens[row["domain"]])
    again = Job(job.run, job.store)
    assert job.programme.rates == again.programme.rates == result.rates
    half = again.programme.final().split(0.5)
    assert again.programme.final(half).recipe.learning_rate != again.programme.recipe(job.config.model).learning_rate
