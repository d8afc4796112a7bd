"""What a study trains and refuses, before anything runs: leaves, compute, learning rates, bad input."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitray.config import DEMO, dump
from splitray.errors import UserError
from splitray.pipeline.programme import CorpusFacts
from splitray.pipeline.study.dry_run import foresee_study
from splitray.pipeline.study.programme import OWN, Point, StudyProgramme
from splitray.pipeline.study.settings import STUDY_DEMO, StudyConfig, load_study
from splitray.pipeline.study.stages.filtering import cells_corpus, check_contaminated, check_exams, fitted
from splitray.results.study import ARMS, FILTERED, GENERAL, MIX
from splitray.study.apply import Filtered
from splitray.study.examples import Labelled
from splitray.study.filter import Examples
from splitray.training.tree import MIXTURE, grow, members
from tests.support import STUDIES
from tests.support.studies import study

CELLS = {"other-quality": 3000, "rest": 6000, "topic": 400, "topic-quality": 600}
FACTS = {OWN: CorpusFacts("content", 300, 0, tuple(CELLS), CELLS)}


def config(folder: Path, **changes: Any) -> StudyConfig:
    return StudyConfig(**study(folder, **changes))


@pytest.fixture
def programme(tmp_path: Path) -> StudyProgramme:
    return StudyProgramme(config(tmp_path), FACTS, "fp32")


def last(point: Point) -> Any:
    return point.request.target.phases[-1]


def test_arms_draw_their_cells_by_the_shares_that_these_have(programme: StudyProgramme) -> None:
    assert programme.weights(OWN) == {cell: count / 10_000 for cell, count in CELLS.items()}
    sources = {point.arm: last(point) for point in programme.lines(programme.bases[0])}
    assert sources[GENERAL].source == MIXTURE
    assert members(sources[FILTERED].source) == members(sources[MIX].source) == ["topic", "topic-quality"]
    assert members(sources["quality"].source) == ["other-quality", "topic-quality"]
    assert {arm: phase.replay for arm, phase in sources.items()} == {**dict.fromkeys(ARMS, 0.0), MIX: 0.1}


def test_every_arm_has_equal_tokens_and_a_base_its_trunk_once(programme: StudyProgramme) -> None:
    points = programme.shown()
    by_arm = {arm: sorted((p.base.name, p.seed, p.tokens) for p in points if p.arm == arm) for arm in ARMS}
    assert by_arm[GENERAL] and all(rows == by_arm[GENERAL] for rows in by_arm.values())
    for point in points:
        assert point.request.target.tokens == 4096 + point.tokens
    for base in programme.bases:
        own = [p.request.target for p in (*programme.starts(base), *programme.lines(base))]
        trunks = [s for s in grow(own, lambda line: []) if s.source == MIXTURE and s.phases[-1].decay is None]
        covered = sorted((s.start, s.end) for s in trunks)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(covered)), "once, in pieces"


def test_the_largest_base_is_held_out_and_nothing_before_the_forecast_continues_it(programme: StudyProgramme) -> None:
    held = [base for base in programme.bases if base.held_out]
    assert [base.shape.hidden for base in held] == [24]
    assert {point.base.name for point in programme.hidden()} == {held[0].name}
    assert not {p.key for p in (*programme.shown(), *programme.begun())} & {p.key for p in programme.hidden()}
    assert {point.tokens for point in programme.begun()} == {0}


def test_snapshots_are_leaves_that_end_decayed(programme: StudyProgramme) -> None:
    for point in (*programme.shown(), *programme.hidden()):
        target = point.request.target
        decay = last(point).decay
        assert target.final and decay is not None and decay[1] == target.tokens
        segment = grow([target], lambda line: [])[-1]
        assert segment.learning_rate(target.tokens - 256) == pytest.approx(0.05 * target.recipe.learning_rate)


def test_the_sweep_moves_the_learning_rate_and_nothing_else(tmp_path: Path) -> None:
    plain = StudyProgramme(config(tmp_path), FACTS, "fp32")
    swept = config(tmp_path, sweep={"multipliers": [0.5, 1, 2], "tokens": 2048})
    chosen = StudyProgramme(swept, FACTS, "fp32", {"h16-l1": 2.0})
    for one, other in zip(plain.bases, chosen.bases, strict=True):
        factor = 2.0 if one.name == "h16-l1" else 1.0
        first, second = plain.recipe(one, 0), chosen.recipe(other, 0)
        assert second.learning_rate == pytest.approx(factor * first.learning_rate)
        assert (first == second) is (factor == 1.0), "a rate that stays keeps every key"
    asked = chosen.sweep(chosen.bases[0])
    assert [m for m, _ in asked] == [0.5, 1, 2] and {r.target.tokens for _, r in asked} == {2048}
    assert all(r.target.phases[-1].source == MIXTURE for _, r in asked), "general text, never the domain's or an exam"


def test_epochs_count_the_trunk_and_leave_replay_out(programme: StudyProgramme) -> None:
    base = programme.bases[0]
    assert programme.epochs(base, GENERAL, 4096) == pytest.approx(8192 / 10_000)
    assert programme.epochs(base, FILTERED, 4096) == pytest.approx(4096 / 10_000 + 4096 / 1000)
    assert programme.epochs(base, MIX, 4096) == pytest.approx((4096 + 409.6) / 10_000 + 0.9 * 4096 / 1000)


def test_measures_are_means_over_cells_by_their_shares(programme: StudyProgramme) -> None:
    found = programme.measured(programme.bases[0])
    assert found["general"] == pytest.approx(programme.weights(OWN))
    assert found["domain"] == pytest.approx({"topic": 0.4, "topic-quality": 0.6})


def test_the_demo_is_told_before_it_runs(tmp_path: Path) -> None:
    result = foresee_study(load_study(STUDY_DEMO), str(tmp_path / "run"), str(tmp_path / "store"))
    names = [part.name.partition(":")[0] for part in result.parts]
    assert names == ["before they are continued", "lines", "held out"]
    assert result.refusal is None and sum(part.flops for part in result.parts) > 1e11
    text = str(result)
    assert "held out" in text and "no new warm-up" in text
    assert all(part.tokens < part.tokens_from_scratch for part in result.parts[1:]), "trunks are shared"


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.name)
def test_shipped_studies_load_and_come_back(path: Path, tmp_path: Path) -> None:
    made = load_study(path)
    (tmp_path / "again.yaml").write_text(dump(made))
    assert load_study(tmp_path / "again.yaml") == made
    if absent := [given.path for given in made.given if not Path(given.path).exists()]:  # is made by a command
        with pytest.raises(UserError, match=f"{absent[0]}: no readable config.json"):
            foresee_study(made, str(tmp_path / "run"), str(tmp_path / "store"))
        return
    told = foresee_study(made, str(tmp_path / "run"), str(tmp_path / "store"))
    assert told.parts and "nan" not in str(told)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own": None}, "bases of your own"),
        ({"arms": ["filtered", "quality"]}, "arms: general and filtered are compared"),
        ({"tokens": [4096, 1024]}, "each larger than the one before"),
        ({"tokens": [64, 1024]}, "64 is less than a batch of 256 tokens"),
        ({"given": [{"path": "a/m"}, {"path": "b/m"}]}, "two models are called m"),
        ({"topic": {"examples": {"names": ["a"], "column": "kind", "values": ["b"]}}}, "in one way"),
        ({"topic": {"examples": {"column": "kind"}}}, "go together"),
        ({"topic": {"example": {}}}, "unknown key topic.example"),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = study(tmp_path) | change
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        load_study(tmp_path / "study.yaml")


def test_a_main_jobs_configuration_is_no_study() -> None:
    with pytest.raises(UserError, match="unknown key budget"):
        load_study(DEMO)


def test_named_sources_are_refused_since_the_filter_makes_the_domains(tmp_path: Path) -> None:
    values = study(tmp_path)
    values["corpus"] |= {"sources": {"law": "x", "web": "y"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="the filter makes the domains of a study"):
        load_study(tmp_path / "study.yaml")


def test_an_exam_among_the_sources_is_refused(tmp_path: Path) -> None:
    values = study(tmp_path)
    values["corpus"]["sources"] += [str(tmp_path / "bar.jsonl")]
    with pytest.raises(UserError, match=r"measure\.exams\.0: .*bar\.jsonl is one of corpus\.sources"):
        check_exams(StudyConfig(**values))
    check_exams(config(tmp_path))


def test_a_corpus_that_holds_the_exams_is_refused_and_a_leak_is_not() -> None:
    def found(leaked: int) -> Filtered:
        return Filtered("key", 1000 - leaked, 10**6, 0.1, {}, {"documents": leaked}, {})

    check_contaminated(found(50), 0.05)
    with pytest.raises(UserError, match=r"51 of 1,000 documents \(5\.1%\) hold questions of the exams"):
        check_contaminated(found(51), 0.05)


def test_a_filter_of_one_class_is_refused(tmp_path: Path) -> None:
    texts = [f"text number {n}" for n in range(100)]
    with pytest.raises(UserError, match="all 100 examples are of the topic"):
        fitted(config(tmp_path), Labelled(Examples.of(texts, []), None), [])


def test_an_exam_without_answers_is_refused_by_the_dry_run(tmp_path: Path) -> None:
    values = study(tmp_path)
    (tmp_path / "bar.jsonl").write_text('{"question": "who?", "choices": ["a", "b"]}\n')
    result = foresee_study(StudyConfig(**values), str(tmp_path / "run"), str(tmp_path / "store"))
    assert result.refusal is not None and "measure.exams.0" in result.refusal and "has no answer" in result.refusal
    (tmp_path / "bar.jsonl").unlink()


def test_a_given_models_corpus_has_its_own_tokenizer(tmp_path: Path) -> None:
    made = config(tmp_path)
    own, given = (cells_corpus(made, "cells", 3, tokenizer) for tokenizer in (OWN, "models/m"))
    assert own.tokenizer == made.corpus.tokenizer and given.tokenizer.source == "models/m"
    assert own.domain_column == "cell" and own.domains == 3 and own.sources == ["cells"]
