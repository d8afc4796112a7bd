"""DeepSpeed ZeRO 0-3, one and two workers, fp32 and bf16: a segment that was interrupted ends in the same bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from splitray.storage.store import Published, Store
from splitray.training import engine as engines
from splitray.training.loop import Interrupted, train
from splitray.training.process import join_world
from splitray.training.state import load
from tests.support import ROOT, fours, worlds


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run_all(module: str, root: Path, ranks: int) -> list[subprocess.Popen[str]]:
    """Start a module as so many gloo processes and wait for them; what they said of errors is in `stderr`."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, str(root)]
    every = []
    for rank in range(ranks):
        with (root / f"errors-{rank}").open("w") as errors:
            said = env | {"LOCAL_RANK": str(rank)}
            every.append(subprocess.Popen([*command, str(rank)], env=said, stderr=errors, text=True))
    try:
        for process in every:
            process.wait(timeout=300)
    finally:
        for process in every:
            process.kill()
    return every


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Where two gloo processes trained every case, and what each of them said."""
    root = tmp_path_factory.mktemp("pair")
    both = run_all(worlds.__name__, root, 2)
    told = [(root / f"errors-{rank}").read_text() for rank in (0, 1)]
    assert [p.returncode for p in both] == [0, 0], "\n".join(told)[-4000:]
    return root, [json.loads((root / f"said-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def four(pair: Any) -> tuple[Path, dict[str, Any]]:
    """Where four of them trained in fp32, ended what the pair began, and lost one between two shards."""
    root, _ = pair
    shutil.copytree(root / "changed", root / "to-four")
    every = run_all(fours.__name__, root, fours.WORLD)
    told = (root / "errors-0").read_text()
    assert (root / "said-four-0.json").exists(), told[-4000:]
    assert every[fours.DIES].returncode == -signal.SIGKILL and all(p.returncode for p in every), told[-4000:]
    return root, json.loads((root / "said-four-0.json").read_text())


def published(store: Path, key: str) -> Published:
    found = Store(store).find(key)
    assert found is not None, key
    return found


def check_same_bits(root: Path, said: dict[str, Any]) -> None:
    whole, halves = (published(root / name, said["key"]) for name in ("whole", "halves"))
    ours, theirs = load(whole), load(halves)
    assert ours.step == theirs.step == worlds.STEPS
    assert ours.moments is not None and theirs.moments is not None
    assert len(ours.moments) == 2 * len(ours.weights) and any(m.any() for m in ours.moments.values())
    for mine, others in ((ours.weights, theirs.weights), (ours.moments, theirs.moments)):
        assert mine.keys() == others.keys()
        assert all(torch.equal(mine[name], others[name]) for name in mine)
    assert whole.files == halves.files, "the same to the last byte, the sign of a zero included"
    told = [{k: v for k, v in p.meta.items() if k not in ("seconds", "tokens_trained")} for p in (whole, halves)]
    assert told[0] == told[1] and {"step", "train_loss", "start", "end", "phases"} <= told[0].keys()
    assert "checkpoint is kept" in said["stopped"] and halves.meta["tokens_trained"] < whole.meta["tokens_trained"]
    assert halves.meta["resharded"] == []
    # the loop agrees on the stop inside a step, so the interrupted run drew and stepped exactly once everywhere
    assert said["halves"]["drawn"] == said["whole"]["drawn"]
    assert said["halves"]["steps"] == said["whole"]["steps"]  # tokens, loss to the last bit, learning rate
    assert Store(root / "halves").keys() == [said["key"]], "the checkpoint outlived its segment"


@pytest.mark.parametrize(("stage", "precision"), worlds.CASES)
def test_two_workers_resume_to_the_same_bits(pair: Any, stage: int, precision: str) -> None:
    root, said = pair
    name = f"{stage}-{precision}"
    check_same_bits(root / f"two-{name}", said[0][name])
    meta = published(root / f"two-{name}/whole", said[0][name]["key"]).meta
    assert (meta["world"], meta["zero_stage"]) == (2, stage)
    slices = [[tuple(d[1:]) for d in said[rank][name]["whole"]["drawn"]] for rank in (0, 1)]
    assert slices == [[(4 * i + 2 * rank, 2) for i in range(worlds.STEPS)] for rank in (0, 1)]
    assert said[1][name]["whole"]["steps"] == [], "only the first rank reports"


@pytest.mark.parametrize(("stage", "precision"), worlds.CASES)
def test_one_worker_resumes_to_the_same_bits(tmp_path: Path, stage: int, precision: str) -> None:
    said = worlds.interrupted_and_not(tmp_path, stage, precision)
    check_same_bits(tmp_path, json.loads(json.dumps(said)))
    meta = published(tmp_path / "whole", said["key"]).meta
    assert (meta["world"], meta["zero_stage"]) == (1, stage)


@pytest.mark.parametrize(("stage", "replay"), [(0, 0.0), (2, 0.0), (0, 0.3)])
def test_a_stop_before_any_step_of_any_phase_leads_to_the_same_bytes(tmp_path: Path, stage: int, replay: float) -> None:
    """The trunk, the domain's plateau and its decay; what one of them leaves, the next one continues."""
    settings = worlds.tiny.training(zero_stage=stage)
    made = worlds.tiny.make_recipe(settings)
    segments = worlds.tiny.segments(made, worlds.Leaf(4 * 64, 8 * 64, "b"), replay=replay)
    whole = Store(tmp_path / "whole")
    assert [s.source for s in segments] == ["mixture", "b", "b"] and segments[2].phases[-1].decay == (9 * 64, 12 * 64)
    stops = 0
    for segment in segments:
        peace = worlds.Recorder()
        right = train(segment, peace, whole, settings, peace.hooks)
        for before in range(1, segment.tokens // 64 - 1):  # the wish is granted after the step that it came before
            first = segment.cursor(segment.start)
            calls = sum(len(segment.draws(first + 4 * batch, 4)) for batch in range(before))
            halves, stopping = Store(tmp_path / f"{segment.end}-{before}"), worlds.Recorder(stop_before=calls)
            shutil.copytree(tmp_path / "whole", halves.root.local_path())
            halves.invalidate(segment.key)
            with pytest.raises(Interrupted):
                train(segment, stopping, halves, settings, stopping.hooks)
            assert train(segment, stopping, halves, settings, stopping.hooks).files == right.files
            assert (stopping.drawn, stopping.steps) == (peace.drawn, peace.steps)
            stops += 1
    assert stops == 2 + 3 + 1


def test_stages_and_worlds_train_alike(pair: Any, four: Any, tmp_path: Path) -> None:
    """Every stage and world sees the same batches: losses agree to fp32 rounding, so sharding changes no arithmetic.

    Two and four workers at every stage, each against one process.
    """
    _, said = pair
    losses = [[s[1] for s in said[0][f"{stage}-fp32"]["whole"]["steps"]] for stage in (0, 1, 2, 3)]
    losses += [[s[1] for s in four[1][str(stage)]] for stage in (0, 1, 2, 3)]
    losses.append([s[1] for s in worlds.interrupted_and_not(tmp_path, 0, "fp32")["whole"]["steps"]])
    apart = (torch.tensor(losses, dtype=torch.float64) - torch.tensor(losses[-1], dtype=torch.float64)).abs().max()
    assert apart < 1e-5, losses
    assert losses[0][0] - losses[0][-1] > 0.05, "nothing was learned, so agreement shows nothing"


@pytest.mark.parametrize(("name", "world", "stage"), [("to-three", 2, 3), ("to-one", 1, 1), ("to-four", 4, 2)])
def test_a_changed_world_continues_and_says_so(
    pair: Any, name: str, world: int, stage: int, request: pytest.FixtureRequest
) -> None:
    root, said = pair
    if name == "to-four":
        rest = request.getfixturevalue("four")[1][name]
    elif name == "to-one":
        shutil.copytree(root / "changed", root / name)
        rest = worlds.end_with(root, name, stage)
    else:
        rest = said[0][name]
    steps = said[0]["1-fp32"]["whole"]["steps"]  # the undisturbed run of two workers at ZeRO 1
    assert [s[0] for s in rest] == [s[0] for s in steps[-len(rest) :]] and len(rest) == 2
    apart = [abs(a[1] - b[1]) for a, b in zip(rest, steps[-len(rest) :], strict=True)]
    assert max(apart) < 2e-5, apart
    held = published(root / name, said[0]["changed"])
    assert (held.meta["world"], held.meta["zero_stage"]) == (world, stage)
    where = {"tokens": rest[0][0] - 64, "from": {"world": 2, "zero_stage": 1}}
    assert held.meta["resharded"] == [where | {"to": {"world": world, "zero_stage": stage}}]


def test_children_inherit_the_mark(pair: Any, tmp_path: Path) -> None:
    """A child of a resharded state cannot claim the bits of an undisturbed run either."""
    root, _ = pair
    shutil.copytree(root / "changed", tmp_path / "store")
    worlds.end_with(tmp_path, "store", 1)
    settings, trunk = worlds.segment_of(1, "fp32")
    leaf = worlds.Leaf(trunk.end, 4 * 64, "a")
    child = next(s for s in worlds.tiny.segments(trunk.recipe, leaf) if s.parent == trunk.key)
    made = train(child, worlds.Recorder(), Store(tmp_path / "store"), settings)
    parent = published(tmp_path / "store", trunk.key)
    assert made.meta["resharded"] == parent.meta["resharded"] and len(made.meta["resharded"]) == 1


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_rank_writes_its_part(pair: Any, four: Any, stage: int) -> None:
    """A shard a rank, of about the same size; all pieces together are the state, once."""
    for root, world in ((pair[0] / f"two-{stage}-fp32/whole", 2), (pair[0] / f"four-{stage}", 4)):
        held = published(root, worlds.segment_of(stage, "fp32")[1].key)
        sizes = [held.files[f"shard-{rank:05d}.safetensors"].bytes for rank in range(world)]
        assert set(held.files) == {f"shard-{r:05d}.safetensors" for r in range(world)} | {"index.json"}
        values = [12 * sum(w.numel() for w in load(held).weights.values()) / world] * world
        assert all(abs(size - mean) < 8000 for size, mean in zip(sizes, values, strict=True)), sizes  # headers


def test_a_rank_killed_between_two_shards_leaves_the_checkpoint_before(four: Any, tmp_path: Path) -> None:
    """Of the second checkpoint all shards may stand; without its marker it does not count, and nothing is lost."""
    root, _ = four
    settings, segment = worlds.segment_of(1, "fp32")
    store = Store(root / "killed")
    (key,) = store.keys()
    assert (
        key == f"part-{segment.key}-{segment.recipe.batch_tokens:015d}"
        and load(published(root / "killed", key)).step == 1
    )
    orphans = {name for name, _ in store.orphaned_attempts()}
    assert len(orphans) == 1 and key.rsplit("-", 1)[0] in orphans.pop()
    rest = worlds.Recorder()
    train(segment, rest, store, settings, rest.hooks)
    assert [s[0] for s in rest.steps] == [64 * n for n in range(2, worlds.STEPS + 1)]
    steps = four[1]["1"]
    assert max(abs(a[1] - b[1]) for a, b in zip(rest.steps, steps[1:], strict=True)) < 1e-5
    assert store.keys() == [segment.key]


def test_a_damaged_checkpoint_of_a_group_is_passed_over(pair: Any, tmp_path: Path, logged: list[str]) -> None:
    root, _ = pair
    shutil.copytree(root / "changed", tmp_path / "store")
    settings, segment = worlds.segment_of(1, "fp32")
    store = Store(tmp_path / "store")
    (key,) = store.keys("part-")
    path = published(tmp_path / "store", key).folder.local_path("shard-00001.safetensors")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    made = train(segment, worlds.Recorder(), store, settings)
    assert made.meta["tokens_trained"] == segment.tokens and store.keys() == [segment.key]
    assert "the checkpoint is invalidated" in " ".join(logged)


def test_an_error_of_the_first_rank_ends_both(pair: Any) -> None:
    root, said = pair
    assert [s["full"] for s in said] == ["the disk is full"] * 2
    assert all("is not finite" in s["burning"] and "no step was taken" in s["burning"] for s in said)
    assert Store(root / "hot").keys() == []


def test_the_stage_is_the_one_asked_for() -> None:
    settings = worlds.tiny.training()
    assert (settings.stage(1), settings.stage(8)) == (0, 1)
    asked = [worlds.tiny.training(zero_stage=s) for s in (0, 1, 2, 3)]
    assert [s.stage(w) for s in asked for w in (1, 8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    join_world()
    made = worlds.segment_of(3, "fp32")
    engine = engines.Engine(engines_model(made[1]), made[1].recipe, made[0])
    assert engine.engine.zero_optimization_stage() == 3
    engine.close()


def engines_model(segment: Any) -> torch.nn.Module:
    from splitray.training.model import build

    return build(segment.recipe)
