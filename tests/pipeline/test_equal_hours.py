"""Durations from markers with planted times, and the comparison at equal hours against what they come to by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splitray.config import Config
from splitray.law import Law
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.hours import Speed, plan_for_hours
from splitray.pipeline.costs import needed
from splitray.pipeline.equal_hours import equal_hours
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.question import asked
from splitray.pipeline.speeds import Measured, speeds, start_hours
from splitray.report import equal_hours as words
from splitray.results.codec import from_json, to_json
from splitray.results.equal_hours import EqualHours
from splitray.results.evaluation import Compared, Contrast, EvaluationResult, LossMatrix, Routed
from splitray.results.ledger import DeviceTime, StageSpending, StartRecord
from splitray.storage.store import Store
from splitray.training.tree import MIXTURE
from tests.support.configs import PLAIN
from tests.support.results import RELEASE

SHAPES = [{"hidden": 16, "layers": 1}, {"hidden": 32, "layers": 2}]
DOMAINS = ("a", "b")
FIXED, SLOPE, SLOWER = 2e-5, 3e-11, 1.25  # seconds of a token, of a FLOP; after the split so much longer
LAW = Law.known("release", dict.fromkeys(DOMAINS, RELEASE))


def programme(**changes: Any) -> Programme:
    values: dict[str, Any] = PLAIN | {"model": {"hidden": 64, "layers": 2}, "resources": {"accelerator": "cpu"}}
    values["ladder"] = values["ladder"] | {"shapes": SHAPES}
    values["training"] = values["training"] | {"threads": 2}
    facts = CorpusFacts("c", 300, 0, DOMAINS, dict.fromkeys(DOMAINS, 10_000_000))
    return Programme(Config(**values | changes), facts, "fp32")


def timed(made: Programme, store: Store, split: float | None = None) -> Measured:
    """Markers as workers leave them, at the planted speeds: half of the ladder by groups of two."""
    chosen = None if split is None else made.final().split(split)
    parts = needed(made, None, chosen)
    flops = made.flops_per_token
    for place, segment in enumerate(s for part in parts.values() for s in part.segments):
        world = 1 + place % 2
        seconds = segment.tokens * (FIXED + SLOPE * flops[segment.recipe.params]) / world / made.training.threads
        seconds *= 1.0 if segment.source == MIXTURE else SLOWER
        store.attempt(segment.key).publish({"tokens_trained": segment.tokens, "seconds": seconds, "world": world})
    return Measured.of(parts, store, made.training.threads)


def record(made: Programme, stages: dict[str, float]) -> StartRecord:
    """A start whose workers held so many device-seconds by stage."""
    spent = tuple(StageSpending(s, devices=(DeviceTime(s, "CPU", held, held / 2),)) for s, held in stages.items())
    return StartRecord("start", 0.0, 1.0, "done", "0.1.0", spent)


def test_speeds_are_the_planted_ones_and_the_targets_is_reckoned(tmp_path: Path) -> None:
    made = programme()
    small, middle, target = speeds(made, timed(made, Store(tmp_path)), 0.5)
    for speed in (small, middle):
        seconds = FIXED + SLOPE * made.flops_per_token[int(speed.params)]
        assert speed.shared == pytest.approx(1 / seconds)
        assert speed.special == pytest.approx(1 / seconds / SLOWER)
        assert speed.measured and speed.start_hours == 0.5
    assert target.params == made.size(made.config.model).params and not target.measured
    # the two sizes were timed before and after the split; the law of time is that of before
    assert target.shared == pytest.approx(1 / (FIXED + SLOPE * made.flops_per_token[int(target.params)]))


def test_one_size_alone_goes_by_its_flops(tmp_path: Path) -> None:
    made = programme(ladder=PLAIN["ladder"])
    small, target = speeds(made, timed(made, Store(tmp_path)), 0.0)
    ratio = made.flops_per_token[int(target.params)] / made.flops_per_token[int(small.params)]
    assert target.shared == pytest.approx(small.shared / ratio)


def test_the_target_is_measured_once_it_was_trained(tmp_path: Path) -> None:
    made = programme()
    target = speeds(made, timed(made, Store(tmp_path), 0.5), 0.0)[-1]
    seconds = FIXED + SLOPE * made.flops_per_token[int(target.params)]
    assert target.measured
    assert (target.shared, target.special) == pytest.approx((1 / seconds, 1 / seconds / SLOWER))


def test_nothing_timed_has_no_speed(tmp_path: Path) -> None:
    made = programme()
    assert speeds(made, Measured.of(needed(made, None, None), Store(tmp_path), 1.0), 0.0) == ()


def test_starts_are_what_workers_held_beside_training(tmp_path: Path) -> None:
    made = programme()
    measured = timed(made, Store(tmp_path), 0.5)
    trained = measured.by_stage["base"] + measured.by_stage["specialists"]
    assert trained > 0
    held = {"ladder": 99.0, "base": measured.by_stage["base"] + 10.0}
    held["specialists"] = measured.by_stage["specialists"] + 50.0
    whole = record(made, held)
    assert start_hours([whole], measured, len(DOMAINS)) == pytest.approx(60.0 / 3600 / 3)
    assert start_hours([record(made, {"base": 10.0})], measured, 2) == 0.0, "stage specialists is to come"
    lost = replace(whole, stages=tuple(replace(s, failures=1) for s in whole.stages))
    assert start_hours([lost], measured, 2) == 0.0, "what was lost is no start"


def row(name: str, before: int, after: int, loss: float) -> Compared:
    whole = before + 2 * after
    by_domain = dict.fromkeys(DOMAINS, loss)
    return Compared(name, before / whole, before, float(after), whole, loss, 1.0, by_domain, None)


def evaluated() -> EvaluationResult:
    rows = (
        row("planned split", 32768, 16384, 3.0),
        row("unsplit", 65536, 0, 3.1),
        row("split at zero", 0, 32768, 3.2),
    )
    contrasts = tuple(Contrast(r.strategy, Estimate(3.0 - r.loss, 2.9 - r.loss, 3.1 - r.loss)) for r in rows[1:])
    nothing = LossMatrix((), (), (), ())
    return EvaluationResult(nothing, Routed(3.0, 1.0, 3.0, 1.0, 200), rows, "", contrasts=contrasts)


@pytest.mark.parametrize("ladder", ["outside", "inside"])
def test_the_comparison_at_the_hours_of_the_planned_split(ladder: str, tmp_path: Path) -> None:
    made = programme(plan={"ladder_hours": ladder})
    store = Store(tmp_path)
    measured = timed(made, store, 0.5)
    held = {"ladder": 1.5, "search": 0.25}
    held |= {stage: measured.by_stage[stage] + 0.6 for stage in ("base", "specialists")}
    parts, question = needed(made, None, made.final().split(0.5)), asked(made, LAW)
    found = equal_hours(made, store, [record(made, held)], parts, LAW, question, evaluated())
    assert found is not None and found.device == "CPU" and found.finding_hours == pytest.approx(1.75 / 3600)
    params = made.size(made.config.model).params
    before = FIXED + SLOPE * made.flops_per_token[params]
    start, inside = 1.2 / 3, 1.75 if ladder == "inside" else 0.0
    planned, unsplit, zero = found.comparison
    seconds = {
        "planned split": 32768 * before + 32768 * before * SLOWER + 3 * start + inside,
        "unsplit": 65536 * before + start,
        "split at zero": 65536 * before * SLOWER + 2 * start,
    }
    for each in found.comparison:
        assert each.hours == pytest.approx(seconds[each.strategy] / 3600)
    assert planned.loss_at_hours == planned.loss and planned.difference is None
    tokens = (seconds["planned split"] - start) / before
    assert unsplit.tokens == pytest.approx(tokens)
    moved = float(LAW.predict(params, tokens, domain="a") - LAW.predict(params, 65536, domain="a"))
    assert unsplit.loss_at_hours == pytest.approx(3.1 + moved)
    assert unsplit.difference is not None
    assert unsplit.difference.value == pytest.approx(3.0 - 3.1 - moved)
    assert unsplit.difference.low == pytest.approx(2.9 - 3.1 - moved)
    assert zero.tokens == pytest.approx((seconds["planned split"] - 2 * start) / before / SLOWER)
    # the plan is the planner's, at these speeds and the hours of the unsplit budget
    hours = (made.budget * before + start) / 3600
    expected = plan_for_hours(
        LAW, question, hours=hours, speeds=speeds(made, measured, start / 3600), ladder_hours=inside / 3600
    )
    assert found.plan.hours == pytest.approx(hours) and not found.asked
    assert found.plan.chosen.params == expected.chosen.params
    assert found.plan.chosen.loss.value == pytest.approx(expected.chosen.loss.value)
    assert found.plan.ladder_hours == pytest.approx(inside / 3600)
    assert from_json(EqualHours, to_json(found), "here") == found


def test_hours_may_be_asked_for_and_be_too_few(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = programme(plan={"hours": 2.0})
    store = Store(tmp_path)
    timed(made, store)
    ledger, parts = [record(made, {"ladder": 1.0})], needed(made, None, None)
    found = equal_hours(made, store, ledger, parts, LAW, asked(made, LAW))
    assert found is not None and found.asked and found.plan.hours == 2.0 and found.comparison == ()
    assert "2 CPU hours, ladder and search outside" in words.verdict(found).replace("\N{NO-BREAK SPACE}", " ")
    assert "as plan.hours asks" in words.notes(found)[0]
    poor = programme(plan={"hours": 1e-9, "min_pretrain_tokens": 60000})
    assert equal_hours(poor, store, ledger, parts, LAW, asked(poor, LAW)) is None
    assert "no plan at equal hours: hours=1e-09" in caplog.text
    assert equal_hours(made, store, [], parts, LAW, asked(made, LAW)) is None, "no hours were counted"


def test_the_verdict_in_words() -> None:
    question = asked(programme(), LAW)
    ladder = Speed(1e4, 5e4), Speed(1e5, 1e4)
    plan = plan_for_hours(LAW, question, hours=3.0, speeds=ladder)
    said = words.verdict(EqualHours("GPU", True, "inside", 0.5, plan))
    best = plan.chosen
    assert said.startswith("At equal hours (3 GPU hours, ladder and search inside): ")
    assert ("do not split" in said) != best.splits
    alone = plan_for_hours(LAW, question, hours=3.0, speeds=ladder, ladder_hours=3.0)
    assert "do not split, and train" in words.verdict(EqualHours("GPU", True, "inside", 3.0, alone))
