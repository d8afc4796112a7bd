"""A real run, weights by tokens and two ladder shapes of one width and depth: what is announced is what is trained."""

from dataclasses import dataclass
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


@dataclass
class Announced:
    """What the dry run said before the ladder and after the search, and what the stages then trained, in tokens."""

    job: Job
    summary: Summary
    first: dict[str, tuple[int, int]]
    second: dict[str, tuple[int, int]]

    @property
    def trained(self) -> dict[str, int]:
        return {stage.stage: stage.tokens_trained for stage in self.summary.stages}


def carried_out(root: Path, name: str, made: Config) -> Announced:
    """A run in two starts, with a dry run before each."""
    first = announced(root, name, made)
    go(job(root, name, made), "search")
    second = announced(root, name, made)
    done = job(root, name, made)
    return Announced(done, go(done, "report"), first, second)


@pytest.fixture(scope="module")
def finished(root: Path, ray_cluster: None) -> Announced:
    return carried_out(root, "run", settings(root))


@pytest.fixture(scope="module")
def raised(root: Path, finished: Announced) -> Announced:
    """Twice the budget in a new folder, over the store that holds the ladder."""
    return carried_out(root, "more", settings(root, budget=98304))


def announced(root: Path, name: str, made: Config) -> dict[str, tuple[int, int]]:
    """(tokens to train, tokens reused) of every line of the dry run, by its name."""
    store = str(root / "store")
    foreseen = foresee(made, store, Standing.of(made, str(root / name), store))
    return {part.name: (part.tokens, part.tokens_reused) for part in foreseen.parts}


def line(lines: dict[str, tuple[int, int]], beginning: str) -> tuple[int, int]:
    (found,) = (cells for name, cells in lines.items() if name.startswith(beginning))
    return found


def test_a_fresh_store_trains_what_was_announced(finished: Announced) -> None:
    weights = {round(d.weight, 3) for d in finished.summary.domains}
    assert len(weights) > 1, "with equal weights nothing would be shown"
    assert line(finished.first, "ladder") == (finished.trained["ladder"], 0)
    assert all(reused == 0 for name, (_, reused) in finished.first.items() if name.startswith("base")), finished.first
    assert 0 < finished.trained["search"] <= 2 * 12288, "two trials at most, of the search's budget"


@pytest.mark.parametrize("name", ["finished", "raised"])
def test_with_a_plan_every_line_is_what_happens_then(name: str, request: pytest.FixtureRequest) -> None:
    done: Announced = request.getfixturevalue(name)
    assert line(done.second, "ladder")[0] == line(done.second, "search: ")[0] == 0
    production = done.trained["base"] + done.trained["specialists"]
    assert line(done.second, "base and specialists")[0] == production > 0
    assert line(done.second, "baselines")[0] == done.trained["evaluate"] > 0


def test_a_raised_budget_in_a_new_folder_reuses_the_ladder(raised: Announced) -> None:
    tokens, reused = line(raised.first, "ladder")
    assert tokens == raised.trained["ladder"] == 0 < reused


def test_a_finished_run_has_nothing_left_to_train(root: Path, finished: Announced, raised: Announced) -> None:
    before = Store(root / "store").keys()
    for name, budget in (("run", 49152), ("more", 98304)):
        lines = announced(root, name, settings(root, budget=budget))
        assert len(lines) == 4 and all(tokens == 0 < reused for tokens, reused in lines.values()), lines
        go(job(root, name, settings(root, budget=budget)), "report")
    assert Store(root / "store").keys() == before


def test_costs_say_what_was_needed_and_what_was_spent(finished: Announced, raised: Announced) -> None:
    """The first run from nothing, in two starts without a kill; the second found its ladder in the store."""
    for done in (finished, raised):
        needed = {s.stage: s.tokens_needed for s in done.summary.stages if s.tokens_needed is not None}
        spent = {s.stage: s.tokens_spent for s in done.summary.stages if s.tokens_needed is not None}
        assert done.summary.starts == 2 and set(needed) == {"ladder", "search", "base", "specialists", "evaluate"}
        assert spent == {stage: done.trained[stage] for stage in spent}
        if done is finished:  # where trials meet decides where their trunk is cut, and so may train a little more
            assert needed | {"search": 0} == spent | {"search": 0} and needed["search"] <= spent["search"]
    assert raised.summary.ladder_cost is not None and finished.summary.ladder_cost is not None
    assert (raised.summary.ladder_cost.spent, finished.summary.ladder_cost.spent) == (0, finished.trained["ladder"])
    assert raised.summary.ladder_cost.tokens == finished.summary.ladder_cost.tokens > 0


def test_each_stage_trains_what_the_tree_says(finished: Announced) -> None:
    """From an empty store, line by line, against what the coordinator counted."""
    done, summary = finished.job, finished.summary
    searched = done.run.result(SearchResult).search
    assert searched is not None
    tree, split = Tree(done.programme, None), done.split
    foretold = {"ladder": tree.ladder().tokens, "search": tree.search(None, [t.split for t in searched.trials]).tokens}
    foretold["production"] = tree.production(split).tokens
    foretold["evaluate"] = tree.evaluation(split).tokens
    trained = {stage.stage: stage.tokens_trained for stage in summary.stages}
    trained["production"] = trained["base"] + trained["specialists"]
    # where trials meet decides where their trunk is cut, and so the search may train a little more
    assert foretold.pop("search") <= trained["search"]
    assert foretold == {stage: trained[stage] for stage in foretold}


def test_shapes_of_one_label_are_models_of_their_own(root: Path, finished: Announced) -> None:
    table = pq.read_table(root / "run/runs.parquet")
    assert len(set(table["params"].to_pylist())) == len(SHAPES)
    assert len(set(table["loss"].to_pylist())) == table.num_rows


def test_a_dry_run_writes_nothing(root: Path, finished: Announced) -> None:
    before = Store(root / "store").keys()
    assert line(announced(root, "never", settings(root, budget=147456)), "ladder")[0] == 0
    assert not (root / "never").exists() and Store(root / "store").keys() == before


def test_another_fit_is_made_from_the_store(root: Path, finished: Announced, raised: Announced) -> None:
    """Last in this file: it takes the finished run's later records away."""
    before = Store(root / "store").keys("seg-")
    again = job(root, "run", settings(root, law={"bootstrap": 12}))
    assert [again.run.done(stage) is not None for stage in ("corpus", "ladder", "law", "report")] == [1, 1, 0, 0]
    go(again, "plan")
    assert Law.load(root / "run/law.json").draws == 12
    assert Store(root / "store").keys("seg-") == before
