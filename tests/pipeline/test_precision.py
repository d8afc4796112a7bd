"""`training.precision: auto` for a run: its folder, its store, and two starts at once that measure differently."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import yaml

from splitray.config import Config
from splitray.errors import CorruptError, StageError
from splitray.executor.machine import cpu_model
from splitray.pipeline import precision
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.results.summary import Summary, every_loss
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.precision import PrecisionChoice, choose
from splitray.training.tree import grow
from tests.support import ROOT
from tests.support.configs import PLAIN, config, write_corpus

CORPUS = CorpusFacts("c", 300, 0, ("a", "b"), {"a": 90_000, "b": 30_000})
AUTO = Config(**PLAIN)


def publish_ladder(store: Store, chosen: str) -> None:
    targets = [request.target for _, request in Programme(AUTO, CORPUS, chosen).ladder()]
    for segment in grow(targets, lambda line: []):
        store.attempt(segment.key).publish({})


def test_a_run_goes_on_as_it_began(tmp_path: Path) -> None:
    run, store = Folder(tmp_path / "run"), Store(tmp_path / "store")
    assert precision.of_folder(run) is None
    assert precision.keep(run, PrecisionChoice("bf16", "measured", "a CPU")).precision == "bf16"
    assert precision.keep(run, PrecisionChoice("fp32", "measured", "a CPU")).precision == "bf16", "the first wins"
    choose(store, cpu_model(), lambda: {"fp32": 2.0, "bf16": 1.0})
    found = precision.assumed(AUTO, CORPUS, store, run)
    assert found is not None and found.precision == "bf16", "its folder goes before the store"
    precision.check_kept(run, "bf16")
    with pytest.raises(StageError, match=r"says bf16 now, and this start trains in fp32.*Start again"):
        precision.check_kept(run, "fp32")


def test_the_record_of_the_first_release_is_read(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    run.write_checksummed("precision.json", {"precision": "bf16", "tokens_per_second": {"fp32": 1.0, "bf16": 9.0}})
    found = precision.of_folder(run)
    assert found is not None and found.precision == "bf16"
    (tmp_path / "precision.json").write_text('{"precision": "fp32", "sha256": "0"}')
    with pytest.raises(CorruptError, match="delete it, and the precision is chosen again"):
        precision.of_folder(run)


def test_a_store_without_a_choice_is_asked_what_it_holds(tmp_path: Path) -> None:
    store, run = Store(tmp_path / "store"), Folder(tmp_path / "run")
    assert precision.of_store(AUTO, CORPUS, store, "a CPU") is None
    publish_ladder(store, "fp32")
    held = precision.of_store(AUTO, CORPUS, store, "a CPU")
    assert held is not None and held.precision == "fp32"
    choose(store, "a CPU", lambda: {"fp32": 1.0, "bf16": 2.0})
    chosen = precision.of_store(AUTO, CORPUS, store, "a CPU")
    assert chosen is not None and chosen.precision == "bf16", "what was chosen goes before what is held"
    assert precision.assumed(AUTO.model_copy(), CORPUS, store, run) == held, "this machine's kind has no choice"


def test_segments_of_the_other_precision_are_said(tmp_path: Path, logged: list[str]) -> None:
    store = Store(tmp_path)
    publish_ladder(store, "fp32")
    tokens = precision.held_tokens(AUTO, CORPUS, store)
    assert tokens["fp32"] > 0 == tokens["bf16"]
    precision.say(PrecisionChoice("fp32", "configured"), tokens, automatic=False)
    assert logged == []
    precision.say(PrecisionChoice("bf16", "measured"), tokens, automatic=True)
    assert logged[0] == "precision bf16: measured" and "segments in fp32 are not reused" in logged[1]


# What a start measures is forced, and both have measured before either goes on.
START = """
import sys, time
from pathlib import Path

import splitray.executor.precision as machine
from splitray.cli.run import main


def speeds(*given):
    Path(sys.argv[1]).write_text("measured")
    while not Path(sys.argv[2]).exists():
        time.sleep(0.05)
    return {"fp32": 100.0, "bf16": float(sys.argv[3])}


machine.measured_speeds = speeds
sys.exit(main(sys.argv[4:]))
"""


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A start of its own process, on the cluster of the tests."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    environment |= {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "token"}
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        cwd=home,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(job: subprocess.Popen[str]) -> str:
    out, _ = job.communicate(timeout=1800)
    assert job.returncode == 0, out[-4000:]
    return out


def losses(run: Path) -> dict[str, object]:
    return every_loss(Summary.parse(json.loads((run / "summary.json").read_text())))


@pytest.mark.ray
@pytest.mark.slow
def test_two_starts_at_once_that_measure_differently(tmp_path: Path, ray_cluster: None) -> None:
    """One folder, one store: same results, nothing trained in the other precision, nothing lost."""
    write_corpus(tmp_path / "corpus")
    plain = config(tmp_path / "corpus")
    plain["training"] |= {"precision": "auto"}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(plain))
    common = ("--config", "small.yaml", "--run-dir", "both/run")
    jobs = [
        start(tmp_path, "one", "two", "50", *common),
        start(tmp_path, "two", "one", "500", *common),
    ]
    said = [finish(job) for job in jobs]
    assert (tmp_path / "one").exists() and (tmp_path / "two").exists(), "both have measured"
    assert sum("another start was first to choose" in out for out in said) == 1, said
    # with its header or, as in Ray's errors, without; what Ray and Python print of their own as they end is no matter
    assert not [out for out in said if f'File "{ROOT}/splitray/' in out], "tracebacks through our code"

    run, store = tmp_path / "both/run", Store(tmp_path / "both/store")
    chosen = json.loads((run / "precision.json").read_text())["precision"]
    assert json.loads((run / "summary.json").read_text())["precision"] == chosen
    segments = {key: store.find(key) for key in store.keys("seg-")}
    assert {held.meta["recipe"]["precision"] for held in segments.values() if held is not None} == {chosen}

    # alone, from nothing, in the precision that was chosen: the same losses from the same segments
    plain["training"] |= {"precision": chosen}
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(plain))
    finish(start(tmp_path, "three", "one", "1", "--config", "alone.yaml", "--run-dir", "alone/run"))
    assert losses(run) == losses(tmp_path / "alone/run")
    assert set(segments) == set(Store(tmp_path / "alone/store").keys("seg-"))

    # a third start measures nothing and trains nothing, in a new folder over the same store
    again = finish(start(tmp_path, "four", "never", "500", "--config", "small.yaml", "--run-dir", "both/third"))
    assert f"precision {chosen}: chosen for the store" in again and not (tmp_path / "four").exists()
    stages = json.loads((tmp_path / "both/third/summary.json").read_text())["stages"]
    assert sum(stage["tokens_trained"] for stage in stages) == 0
    assert losses(tmp_path / "both/third") == losses(run)
