"""A real run, weights by tokens and two ladder shapes of one width and depth: what is announced is what is trained."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from splitray.config import Config
from splitray.law import Law
from splitray.pipeline.dry_run import foresee
from splitray.pipeline.job import Job
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.runner import go
from splitray.pipeline.standing import Standing
from splitray.pipeline.tree import Tree
from splitray.results.stages import SearchResult
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import config, write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
SHAPES = [{"hidden": 8, "layers": 1, "intermediate": 16}, {"hidden": 8, "layers": 1, "intermediate": 96}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("real-run")
    write_corpus(root / "corpus")
    for number in range(15):  # of 40 files: so much less weight
        (root / f"corpus/court-{number}.jsonl").unlink()
    return root


def settings(root: Path, **changes: Any) -> Config:
    plain = config(root / "corpus")
    return Config(**plain | {"weights": "tokens", "ladder": plain["ladder"] | {"shapes": SHAPES}} | changes)


def job(root: Path, name: str, made: Config) -> Job:
    return Job(RunFolder(Folder(root / name), made), Store(root / "store"))


@pytest.fixture(scope="module")
def finished(root: Path, ray_cluster: None) -> tuple[Job, Summary]:
    done = job(root, "run", settings(root))
    return done, go(done, "report")


def announced(root: Path, name: str, made: Config) -> dict[str, tuple[int, int]]:
    """(tokens to train, tokens reused) of every line of the dry run, by its name."""
    store = str(root / "store")
    foreseen = foresee(made, store, Standing.of(made, str(root / name), store))
    return {part.name: (part.tokens, part.tokens_reused) for part in foreseen.parts}


def test_a_finished_run_has_nothing_left_to_train(root: Path, finished: tuple[Job, Summary]) -> None:
    weights = {round(d.weight, 3) for d in finished[1].domains}
    assert len(weights) > 1, "with equal weights nothing would be shown"
    lines = announced(root, "run", settings(root))
    assert len(lines) == 4 and all(tokens == 0 < reused for tokens, reused in lines.values()), lines


def test_each_stage_trains_what_was_announced(finished: tuple[Job, Summary]) -> None:
    """From an empty store, line by line, against what the coordinator counted."""
    done, summary = finished
    searched = done.run.result(SearchResult).search
    assert searched is not None
    tree, split = Tree(done.programme, None), done.split
    foretold = {"ladder": tree.ladder().tokens, "search": tree.search(None, [t.split for t in searched.trials]).tokens}
    foretold["production"] = tree.production(split).tokens
    foretold["evaluate"] = tree.evaluation(split).tokens
    trained = {stage.stage: stage.tokens_trained for stage in summary.stages}
    trained["production"] = trained["base"] + trained["specialists"]
    assert foretold == {stage: trained[stage] for stage in foretold}


def test_shapes_of_one_label_are_models_of_their_own(root: Path, finished: tuple[Job, Summary]) -> None:
    table = pq.read_table(root / "run/runs.parquet")
    assert len(set(table["params"].to_pylist())) == len(SHAPES)
    assert len(set(table["loss"].to_pylist())) == table.num_rows


def test_a_new_folder_with_more_budget_reuses_the_ladder(root: Path, finished: tuple[Job, Summary]) -> None:
    lines = announced(root, "more", settings(root, budget=98304))
    (ladder,) = (cells for name, cells in lines.items() if name.startswith("ladder"))
    assert ladder[0] == 0 < ladder[1]
    assert not (root / "more").exists(), "a dry run writes nothing"


def test_another_fit_is_made_from_the_store(root: Path, finished: tuple[Job, Summary]) -> None:
    """Last in this file: it takes the finished run's later records away."""
    before = Store(root / "store").keys("seg-")
    again = job(root, "run", settings(root, law={"bootstrap": 12}))
    assert [again.run.done(stage) is not None for stage in ("corpus", "ladder", "law", "report")] == [1, 1, 0, 0]
    go(again, "plan")
    assert Law.load(root / "run/law.json").draws == 12
    assert Store(root / "store").keys("seg-") == before
