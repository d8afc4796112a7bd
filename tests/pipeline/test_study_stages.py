"""A whole study in this process, stopped and gone on with, by the stages that the command runs on Ray."""

import json
from pathlib import Path

import pytest

from splitray.results.study import ARMS, Answer, StudyRun, read
from tests.support.studies import LocalStudyExecutor, carry_out, study, write_given

MEASURES = {"loss/domain", "loss/general", "bits/domain", "bits/general"}
MEASURES |= {f"exam/bar/{name}" for name in ("nats_per_byte", "accuracy", "margin")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LocalStudyExecutor, LocalStudyExecutor]:
    """The folder of a study that was stopped in stage lines and finished, and what both starts trained."""
    home = tmp_path_factory.mktemp("study")
    write_given(home / "gpt")
    given = {"path": str(home / "gpt"), "arms": ["general", "filtered"], "learning_rate": 1e-3}
    values = study(home, given=[given])
    with pytest.MonkeyPatch.context() as patch:
        with pytest.raises(KeyboardInterrupt):
            carry_out(values, patch, stop_after=12)
        first = sorted(path.stem for path in (home / "store/done").glob("seg-*.json"))
        assert len(first) == 12 and not (home / "run/stages/lines.json").exists()
        second = carry_out(values, patch)
        assert not set(first) & set(second.trained), "what stands is not trained again"
        return home, second, carry_out(values, patch)


def rows(home: Path) -> list[StudyRun]:
    return read(StudyRun, home / "run/study.parquet")


def test_tables_have_every_measure_of_every_point(
    finished: tuple[Path, LocalStudyExecutor, LocalStudyExecutor],
) -> None:
    home, _, third = finished
    runs, answers = rows(home), read(Answer, home / "run/answers.parquet")
    points = 4 * len(ARMS) * 3 + 2 * 3  # own bases on all arms, the given one on two; at 0 and two token counts
    assert {run.measure for run in runs} == MEASURES
    assert len(runs) == points * len(MEASURES) and len(answers) == points * 8
    assert {
        (run.root, run.params == max(r.params for r in runs if r.root == "own")) for run in runs if run.held_out
    } == {("own", True)}
    assert third.trained == [], "a finished study trains nothing"
    for run in runs:
        if run.measure.startswith("exam/") and run.measure.endswith("accuracy"):
            same = [a.correct for a in answers if (a.model, a.arm, a.tokens) == (run.model, run.arm, run.tokens)]
            assert run.value == pytest.approx(sum(same) / 8)


def test_arms_have_equal_compute_and_start_from_one_model(
    finished: tuple[Path, LocalStudyExecutor, LocalStudyExecutor],
) -> None:
    runs = rows(finished[0])
    loss = {(r.model, r.arm, r.tokens): r.value for r in runs if r.measure == "loss/domain"}
    spent = {(r.model, r.arm, r.tokens): r.flops for r in runs}
    for (model, arm, tokens), value in loss.items():
        assert spent[model, arm, tokens] == spent[model, "general", tokens]
        if tokens == 0:
            assert value == loss[model, "general", 0] and spent[model, arm, 0] == 0


def test_filtered_text_serves_the_domain_and_forgets_and_replay_forgets_less(
    finished: tuple[Path, LocalStudyExecutor, LocalStudyExecutor],
) -> None:
    runs = [run for run in rows(finished[0]) if run.root == "own" and run.tokens == 4096]
    domain, general = (
        {(r.model, r.arm): r.value for r in runs if r.measure == measure} for measure in ("loss/domain", "loss/general")
    )
    for model in {run.model for run in runs}:
        assert domain[model, "filtered"] < domain[model, "general"]
        assert general[model, "general"] < general[model, "mix"] < general[model, "filtered"]


def test_the_forecast_is_sealed_before_its_size_is_continued(
    finished: tuple[Path, LocalStudyExecutor, LocalStudyExecutor],
) -> None:
    run = finished[0] / "run"
    order = [json.loads((run / f"stages/{stage}.json").read_text())["began"] for stage in ("forecast", "held-out")]
    assert order[0] < order[1] and (run / "forecast.json").stat().st_mtime < order[1] + 1
    sealed = json.loads((run / "stages/forecast.json").read_text())["result"]
    assert sealed["path"] == "forecast.json" and len(sealed["sha256"]) == 64
    found = json.loads((run / "analysis.json").read_text())
    assert {(p["predicted"]["arm"], p["predicted"]["tokens"]) for p in found["score"]["points"]} == {
        (arm, tokens) for arm in ARMS for tokens in (1024, 4096)
    }
    assert (run / "report/index.html").stat().st_size > 10_000


def test_the_filters_record_counts_cells_and_what_was_left_out(
    finished: tuple[Path, LocalStudyExecutor, LocalStudyExecutor],
) -> None:
    record = json.loads((finished[0] / "run/stages/filter.json").read_text())["result"]
    assert sum(record["cells"].values()) == record["documents"] == 720 - sum(record["skipped"].values())
    assert record["share"] == pytest.approx(1 / 3) and record["filter"]["precision"] > 0.9
    corpora = json.loads((finished[0] / "run/stages/corpora.json").read_text())["result"]["corpora"]
    assert len(corpora) == 2 and corpora[0]["tokenizer"] == ""
    assert corpora[1]["tokenizer"].endswith("gpt")
