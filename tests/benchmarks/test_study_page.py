"""docs/study-proof.md is what its generator writes; its verdicts follow what a study was planted with."""

import json
from pathlib import Path

import pytest

from benchmarks.study import PAGE, RESULTS, collect, page
from splitray.results.study import LOSS_DOMAIN, StudyRun, write
from splitray.results.study_summary import ScoredForecast, StudySummary
from splitray.study.analysis.analyse import analyse
from splitray.study.analysis.foresight import forecast, score
from splitray.study.analysis.regret import regret
from tests.study.analysis.planted_study import SIZES, TOKENS, World


def finished(folder: Path, world: World, draw: int) -> Path:
    """What a run of a planted study leaves for the page."""
    table = world.study(noise=0.002, draw=draw)
    held = table.without("h128"), table.only(["h128"])
    starts = [r.value for r in held[1].runs if r.measure == LOSS_DOMAIN and r.tokens == 0]
    made = forecast(held[0], SIZES["h128"], TOKENS, before=sum(starts) / len(starts))
    summary = StudySummary(
        name=folder.name,
        topic=folder.name,
        created="2026-01-01T00:00:00+00:00",
        splitray="0",
        analysis=analyse(table, draws=40),
        forecasts=(ScoredForecast(made, score(made, held[1])),),
        regrets=regret(*held, "h128"),
        config={"run_dir": "/somewhere"},
    )
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(summary.plain()))
    write(StudyRun, table.runs, folder / "study.parquet")
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("study")
    law = finished(home / "law", World(), 0)
    medicine = finished(home / "medicine", World(rho={"filtered": 4.0, "quality": 1.0}, q={"filtered": 0.4}), 1)
    collect({"law": law, "medicine": medicine}, home / "results")
    return home / "results"


def test_verdicts_follow_what_was_planted(results: Path) -> None:
    text = page(results)
    verdicts = {row[1].strip(): row[2].strip() for line in text.splitlines() if len(row := line.split("|")) == 5}
    assert verdicts["1. Filtered text needs less compute than general text for the same loss on the domain"] == "holds"
    assert verdicts["2. The gap widens with the size of the model"] == "holds"
    assert verdicts["3. It is the topic that helps, not the quality of the text"] == "holds"
    # the planted worlds forget with filtered text and never with general text
    forgets = "4. Filtered text costs less of the general ability, since it needs fewer tokens"
    assert verdicts[forgets] == "does not hold here"
    assert verdicts["4. The domain's exams show it too"] == "not yet measured"
    assert verdicts["5. The advice is right about a domain that it has not seen"] == "holds"
    assert "medicine, from law" in text and "law, from medicine" in text
    assert "not yet measured.**" not in text


def test_committed_results_have_no_path_and_no_configuration(results: Path) -> None:
    for path in results.iterdir():
        assert "/somewhere" not in path.read_text()
    assert StudySummary.parse(json.loads((results / "law.json").read_text())).config == {}


@pytest.mark.skipif(not RESULTS.exists(), reason="no study was committed yet")
def test_the_page_is_what_the_committed_results_give() -> None:
    assert page(RESULTS) == PAGE.read_text(encoding="utf-8")
