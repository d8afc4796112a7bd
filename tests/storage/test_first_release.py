"""What the first release wrote is still read: its store, run folder, law and plan, under the keys they had."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from splitray.config import Config, load
from splitray.corpus import Corpus
from splitray.evaluate.compare import Scores
from splitray.evaluate.measure import measure
from splitray.executor.worker import RunContext, order_of
from splitray.law import Law, Plan
from splitray.pipeline.run_folder import RunFolder
from splitray.results.stages import STAGES, BaseResult, PlanResult, SearchResult, SpecialistsResult
from splitray.storage.folder import Folder
from splitray.storage.keys import CorpusKey, LossKey, SegmentKey
from splitray.storage.store import Store
from splitray.training import state as states
from splitray.training.loop import train
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape
from splitray.training.split import Split
from splitray.training.tree import Leaf, Phase, Segment, Target
from tests.support import ROOT

DATA = ROOT / "tests/data/first-release"
LEAVES = 12  # of the ladder, each scored on one domain
OLD_NAMES = {"batch_sequences", "micro_batch", "decay_share", "final_learning_rate", "specialize_rate"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(DATA / "store", tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    shutil.copytree(DATA / "run", tmp_path / "run")
    return RunFolder(Folder(tmp_path / "run"), config())


def config() -> Config:
    return load(DATA / "first.yaml")


def corpus(store: Store) -> Corpus:
    (key,) = store.keys(CorpusKey.prefix())
    return Corpus.open(store, key)


def recipe_of(store: Store, shape: ModelShape, seed: int = 0) -> Recipe:
    opened = corpus(store)
    weights = {domain: 1 / len(opened.domains) for domain in opened.domains}
    return recipe(shape, config().training, opened.identity(), weights, config().seed + seed)


def segments(store: Store) -> list[Any]:
    found = [store.find(key) for key in store.keys(SegmentKey.prefix())]
    assert len(found) > 8 and None not in found
    return found


def test_old_names_give_one_warning_each(logged: list[str]) -> None:
    config()
    named = Counter(line.split()[1] for line in logged if "old name is still read" in line)
    assert named == Counter(OLD_NAMES)


def test_the_run_folder_is_accepted_and_its_stages_are_done(run: RunFolder, logged: list[str]) -> None:
    without = [stage for stage in STAGES if stage not in ("report", "exams")]
    assert [stage for stage in STAGES if run.done(stage)] == without
    assert not logged, "nothing is done again, and the config that was written has the new names"
    assert run.kept("plan_final.json", Plan.load) == run.result(SearchResult).final_plan
    assert run.kept("plan.json", Plan.load) == run.result(PlanResult).plan


def test_keys_are_the_same(store: Store, run: RunFolder) -> None:
    """Those of the ladder's every leaf, of base, specialists and the unsplit model, from the old configuration."""
    schedule, settled = config().training.schedule, run.result(SearchResult).final_plan
    rows = run.kept("runs.parquet", pq.read_table).to_pylist()
    assert len({row["run"] for row in rows}) == len(rows) == LEAVES
    sizes = {recipe_of(store, shape).params: shape for shape in config().ladder.shapes}
    for row in rows:
        split = row["specialize_tokens"]
        leaf = Leaf(int(row["pretrain_tokens"]), int(split), row["domain"] if split else None)
        ladder = recipe_of(store, sizes[row["params"]])
        assert Target.leaf(ladder, leaf, schedule).key == row["run"], row

    target = recipe_of(store, config().model)
    weights = target.weights
    split = Split.at(settled.split_fraction.value, config().budget, weights, config().training.batch_tokens)
    by_domain = {s.domain: s.key for s in run.result(SpecialistsResult).specialists}
    assert {d: Target.leaf(target, split.leaf(d), schedule).key for d in weights} == by_domain
    trunk = Target.trunk(target, split.leaf(next(iter(weights))), schedule)
    assert trunk is not None and trunk.key == run.result(BaseResult).key
    for key in (*by_domain.values(), trunk.key, Target.leaf(target, Leaf(config().budget), schedule).key):
        published = store.find(key)
        assert published is not None and published.recorded("recipe") == target.to_json()


def test_states_load(store: Store) -> None:
    for published in segments(store):
        state = states.load(published, moments=not published.recorded("final"))
        assert state.step * config().training.batch_tokens == published.recorded("end")
        assert all(torch.isfinite(weights).all() for weights in state.weights.values())


def test_losses_are_found_and_come_out_again(store: Store, run: RunFolder) -> None:
    """Measured anew on the old weights and text, they are what the first release measured."""
    specialist = run.result(SpecialistsResult).specialists[0]
    opened, limit = corpus(store), config().evaluate.validation_tokens
    recorded = measure(store, opened, specialist.key, opened.domains, limit)
    names = store.keys(LossKey.prefix(SegmentKey.parse(specialist.key)))
    assert len(names) == len(opened.domains)
    for name in names:
        found = store.find(name)
        assert found is not None and Scores.of(found).loss == pytest.approx(found.recorded("loss"))
        store.invalidate(name)
    again = measure(store, opened, specialist.key, opened.domains, limit)
    assert store.keys(LossKey.prefix(SegmentKey.parse(specialist.key))) == names
    for domain in opened.domains:
        assert again[domain]["loss"] == pytest.approx(recorded[domain]["loss"], rel=1e-5)
        assert again[domain]["tokens"] == recorded[domain]["tokens"]


def test_training_continues_from_an_old_state(store: Store, run: RunFolder) -> None:
    """A specialist's last stretch, trained again from the old snapshot before it, ends in the old weights."""
    published = store.find(run.result(SpecialistsResult).specialists[0].key)
    assert published is not None
    phases = tuple(
        Phase(p["source"], p["end"], p["decay"] and tuple(p["decay"]), p["rate"]) for p in published.recorded("phases")
    )
    meta = published.meta
    segment = Segment(Recipe.from_json(meta["recipe"]), phases, meta["start"], meta["parent"], meta["final"])
    assert segment.key == published.key and meta["parent"] is not None
    before = states.load(published, moments=False)
    store.invalidate(segment.key)
    torch.set_num_threads(1)
    context = RunContext(store, corpus(store).key, config().training, "none")
    after = states.load(train(segment, order_of(context, segment), store, config().training), moments=False)
    assert after.step == before.step
    for name, weights in before.weights.items():
        np.testing.assert_allclose(after.weights[name].numpy(), weights.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["law.json", "law_final.json"])
def test_laws_say_what_they_said(name: str, run: RunFolder) -> None:
    """`predicted.json` holds value, low and high of the 80 % interval by the first release's own code."""
    expected = json.loads((DATA / "predicted.json").read_text())[name]
    law, rows = run.kept(name, Law.load), run.kept("runs.parquet", pq.read_table).to_pylist()
    columns = ([row[c] for row in rows] for c in ("params", "pretrain_tokens", "specialize_tokens"))
    np.testing.assert_allclose(np.array(law.predict(*columns, interval=0.8)).T, expected, rtol=1e-12)
    assert law.warnings and law.draws
