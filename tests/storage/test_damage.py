"""Torn and rotten: whatever is truncated, flipped, emptied, lost or another's is named, and never used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from splitray.config import Config
from splitray.corpus import Corpus
from splitray.corpus import corpus as corpora
from splitray.corpus.embed import TfidfEmbedder
from splitray.corpus.router import Placement
from splitray.corpus.settings import TfidfSettings
from splitray.errors import CorruptError, UserError
from splitray.law import Law
from splitray.law.runs import read_runs
from splitray.pipeline.job import Job
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.pipeline.runner import go
from splitray.results.stages import CorpusResult, Counts, DomainCounts, LadderResult, StageResult
from splitray.storage.checksum import checksummed, verified
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.model import build
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape
from splitray.training.state import load
from splitray.training.tree import Leaf, Segment
from tests.support import tiny
from tests.support.configs import PLAIN
from tests.support.results import RELEASE, RESULTS

Damage = Callable[[Path], None]
NAMED = {"content_hash": "tiny", "vocab": tiny.VOCAB, "end_token": 0}


def flip(share: float) -> Damage:
    """One bit, in the middle of the byte at this share of the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(len(data) - 1, int(len(data) * share))] ^= 0x10
        path.write_bytes(data)

    return damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


DAMAGES: dict[str, Damage] = {
    "a bit at the start": flip(0),
    "a bit inside": flip(0.5),
    "a bit at the end": flip(1),
    "cut in half": truncate,
    "emptied": empty,
    "a byte more": grow,
    "lost": Path.unlink,
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


# markers


def test_every_flipped_bit_of_a_marker_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A digit of a loss that changes leaves valid JSON behind: only the checksum inside tells."""
    store = Store(tmp_path)
    made = store.attempt("loss-k").publish({"loss": 3.25, "tokens": 4096, "domain": "käse"})
    marker = tmp_path / "done/loss-k.json"
    good = marker.read_bytes()
    silent = []
    for place in range(8 * len(good)):
        data = bytearray(good)
        data[place // 8] ^= 1 << (place % 8)
        marker.write_bytes(data)
        found = store.find("loss-k")
        # blanks between values, and letters of \u escapes, may change without a change of meaning
        if found is not None and json.loads(data) != json.loads(good):
            silent.append((place, bytes(data)))
    assert not silent
    assert "done/loss-k.json" in caplog.text and "counts as absent" in caplog.text
    marker.write_bytes(good)
    found = store.find("loss-k")
    assert found is not None and (found.nonce, found.meta) == (made.nonce, made.meta)


@pytest.mark.parametrize(
    "record", [{}, {"a": [1, 2.5, None, True, "ü"]}, {"b": {"2": 1, "10": (1, 2)}}, {"sha": "x" * 9}]
)
def test_a_seal_holds_for_what_json_gives_back(record: dict[str, Any]) -> None:
    told = json.loads(json.dumps(checksummed(record)))
    assert verified(told, "here") == json.loads(json.dumps(record))
    for broken in (told | {"a": 0}, told | {"sha256": "0" * 64}, record, [], None, told | {"a": float("nan")}):
        with pytest.raises(CorruptError, match="here does not match the checksum inside it"):
            verified(broken, "here")


def test_half_written_folders_and_drafts_count_for_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    attempt = store.attempt("seg-a")
    attempt.folder.write("weights.safetensors", b"half of the")
    for place in ("done/seg-a.json.0123abcd.draft", "attempts/seg-a/x/w.0123abcd.draft", "law.json.0123abcd.draft"):
        store.root.write(place, b'{"key": "seg-a"')
    assert store.find("seg-a") is None and store.keys() == [] and store.root.names() == []
    assert {name for name, _ in store.orphaned_attempts()} == {f"attempts/seg-a/{attempt.nonce}", "attempts/seg-a/x"}
    attempt.publish({})
    assert store.keys() == ["seg-a"]


# states of training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Segment, Segment]:
    """A store with one short segment of each of two configurations, which differ in the learning rate alone."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained")
    made = []
    for rate in (1e-2, 2e-2):
        settings = tiny.training(learning_rate=rate)
        (segment, *_) = tiny.segments(tiny.make_recipe(settings), Leaf(128, 64, "a"))
        train(segment, tiny.order(), Store(root), settings)
        made.append(segment)
    return root, *made


@pytest.fixture
def copy(trained: tuple[Path, Segment, Segment], tmp_path: Path) -> Store:
    shutil.copytree(trained[0], tmp_path / "store")
    return Store(tmp_path / "store")


@each_damage
@pytest.mark.parametrize("name", ["weights.safetensors", "moments.safetensors"])
def test_a_damaged_state_does_not_load(copy: Store, trained: Any, name: str, damage: Damage) -> None:
    held = copy.find(trained[1].key)
    assert held is not None
    damage(held.folder.local_path(name))
    with pytest.raises(CorruptError, match=rf"{held.key}/{held.nonce}/{name} (has SHA-256|cannot be read)"):
        load(held)


def the_marker(root: Path, key: str, other: str) -> None:
    shutil.copyfile(root / f"done/{other}.json", root / f"done/{key}.json")


def the_marker_renamed(root: Path, key: str, other: str) -> None:
    text = (root / f"done/{other}.json").read_text().replace(other, key)
    (root / f"done/{key}.json").write_text(text)


def the_files(root: Path, key: str, other: str) -> None:
    (mine,), (theirs,) = ((root / "attempts" / k).iterdir() for k in (key, other))
    shutil.copytree(theirs, mine, dirs_exist_ok=True)


def the_files_and_the_marker(root: Path, key: str, other: str) -> None:
    shutil.rmtree(root / "attempts" / key)
    shutil.copytree(root / "attempts" / other, root / "attempts" / key)
    the_marker(root, key, other)


@pytest.mark.parametrize("put", [the_marker, the_marker_renamed, the_files, the_files_and_the_marker])
def test_a_state_of_another_config_under_this_key_is_never_used(copy: Store, trained: Any, put: Any) -> None:
    """Where the marker is another's, the segment is trained again to its own bits; where files are, it is refused."""
    original, segment, other = trained
    right = load(Store(original).find(segment.key))  # type: ignore[arg-type]
    put(Path(copy.root.path), segment.key, other.key)
    found = copy.find(segment.key)
    if found is not None:
        with pytest.raises(CorruptError, match=segment.key):
            load(found)
        copy.invalidate(segment.key)
    drawn = []

    class Order:
        def sequences(self, source: str, start: int, count: int) -> np.ndarray:
            drawn.append(start)
            return tiny.order().sequences(source, start, count)

    again = load(train(segment, Order(), copy, tiny.training()))
    assert len(drawn) == segment.tokens // segment.recipe.batch_tokens, "something that stood was taken for it"
    assert all(torch.equal(again.weights[n], w) for n, w in right.weights.items())


def test_a_model_to_continue_from_that_changed_is_refused(tmp_path: Path) -> None:
    """Its hash is the root of every key: other weights under that name would be another run's."""
    made = tiny.make_recipe()
    segment = build(made)
    segment.save_pretrained(tmp_path)  # type: ignore[operator]
    continued = recipe(ModelShape(path=str(tmp_path)), tiny.training(), NAMED, tiny.WEIGHTS, 0)
    build(continued)
    flip(0.9)(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"its files are not those that this run began with"):
        build(continued)


# the corpus


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a corpus that has all that a built one has."""
    root, made = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("made")
    texts = {d: {"train": [f"{d}{i} {d} word" for i in range(50)], "validation": [d * 30]} for d in ("ab", "cd")}
    key = tiny.write_corpus(Store(made / "plain"), texts)
    held = Store(made / "plain").find(key)
    assert held is not None
    embedder = TfidfEmbedder.fit(texts["ab"]["train"], TfidfSettings(features=256, dimensions=4), 0)
    whole = Store(root).attempt("corpus-whole")
    whole.add_tree(held.folder.local_path())
    Placement(np.eye(2, 4, dtype=np.float32), np.zeros(2), True, ["ab", "cd"]).save(made / "router/router")
    embedder.save(made / "router/router/embedder")
    pq.write_table(pa.table({"x": [0.0]}), made / "router/projection.parquet")
    told = {"domains": {d: {"terms": []} for d in texts}, "dropped": {}, "groups_split_by_row": [], "seconds": {}}
    (made / "router/statistics.json").write_text(json.dumps(told))
    whole.add_tree(made / "router")
    whole.publish({})
    return root


READ: dict[str, Callable[[Corpus], Any]] = {
    "shards/ab-train.npy": lambda c: c.tokens("ab", "train"),
    "shards/cd-validation.npy": lambda c: c.tokens("cd", "validation"),
    "documents/ab-train.parquet": lambda c: c.documents("ab", "train"),
    "tokenizer/tokenizer.json": lambda c: c.tokenizer_path(),
    "tokenizer/tokenizer_config.json": lambda c: c.tokenizer_path(),
    "router/centroids.npy": lambda c: c.router(),
    "router/router.json": lambda c: c.router(),
    "router/embedder/idf.npy": lambda c: c.router(),
    "router/embedder/embedder.json": lambda c: c.router(),
    "projection.parquet": lambda c: c.projection(),
    "manifest.json": lambda c: c.content_hash,
    "statistics.json": lambda c: c.statistics,
}


@pytest.mark.parametrize("damage", [flip(0.5), truncate, Path.unlink], ids=["a bit", "cut in half", "lost"])
@pytest.mark.parametrize("name", READ)
def test_a_damaged_corpus_is_named_and_withdrawn(
    corpus_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Damage
) -> None:
    """So that the next start builds it anew: the same files again, for it is a function of its sources."""
    monkeypatch.setattr(corpora, "_checked", set())  # each file is compared when a process first reads it
    shutil.copytree(corpus_root, tmp_path / "store")
    store = Store(tmp_path / "store")
    corpus = Corpus.open(store, "corpus-whole")
    (path,) = (tmp_path / "store").glob(f"attempts/corpus-whole/*/{name}")
    damage(path)
    with pytest.raises(CorruptError, match=rf"{name} (has|cannot).*corpus-whole is withdrawn: start the run again"):
        READ[name](corpus)
    assert store.find("corpus-whole") is None and store.root.folders() == ["attempts", "done"]


def test_withdrawing_spares_what_another_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rotten = store.attempt("k").publish({})
    store.invalidate("k")
    healed = store.attempt("k").publish({})
    with pytest.raises(CorruptError, match=r"no file x.*k is withdrawn"), store.invalidating(rotten):
        rotten.fetch("x")
    found = store.find("k")
    assert found is not None and found.nonce == healed.nonce != rotten.nonce


# the law and the table of runs, by themselves


@pytest.fixture
def law(tmp_path: Path) -> Path:
    constants = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
    Law.known("chinchilla", constants).save(tmp_path / "law.json")
    return tmp_path / "law.json"


def test_every_flipped_byte_of_a_law_is_noticed(law: Path) -> None:
    good, known = law.read_bytes(), Law.load(law)
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << (place % 8)
        law.write_bytes(data)
        try:
            assert Law.load(law) == known, data
        except UserError as error:
            assert str(law) in str(error)


@each_damage
def test_a_damaged_table_of_runs_is_refused_or_the_same(tmp_path: Path, damage: Damage) -> None:
    columns = {n: np.arange(1, 2001) * 1.5 for n in ("params", "pretrain_tokens", "specialize_tokens", "loss")}
    table, path = pa.table(columns | {"domain": ["a"] * 2000}), tmp_path / "runs.parquet"
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    damage(path)
    try:
        assert read_runs(path).table.equals(table)
    except UserError as error:
        assert "runs.parquet" in str(error)


# the run folder


def start(root: Path) -> RunFolder:
    return RunFolder(Folder(root), Config(**PLAIN))


def finish(run: RunFolder, stage: str, text: str = "made") -> None:
    """A stage that keeps two files, one of them in a folder."""

    def make() -> StageResult:
        for name in (f"{stage}.json", f"{stage}/table.bin"):
            run.keep(name, lambda path: path.write_text(f"{stage} {text}"))
        return RESULTS[stage]

    run.carry_out(stage, make, lambda: None)


@each_damage
@pytest.mark.parametrize("name", ["law.json", "law/table.bin", "stages/law.json"])
def test_a_damaged_file_of_a_stage_undoes_the_stage(
    tmp_path: Path, name: str, damage: Damage, logged: list[str]
) -> None:
    for stage in STAGES[:5]:
        finish(start(tmp_path), stage)
    damage(tmp_path / name)
    logged.clear()
    run = start(tmp_path)
    lost = name == "stages/law.json" and damage is Path.unlink  # no record, nothing to say
    assert run.done("law") is None and run.done("law") is None
    assert lost or (len(logged) == 1 and name in logged[0] and "the stage law is done again" in logged[0])
    assert run.done("ladder") is not None and run.done("plan") is not None
    finish(run, "law")
    assert start(tmp_path).done("law") is not None
    # known to be as it was: later stages stand; unknown: they are done again
    assert (start(tmp_path).done("plan") is not None) == (not name.startswith("stages/"))


def test_later_stages_do_not_outlive_another_result(tmp_path: Path) -> None:
    for stage in STAGES[:5]:
        finish(start(tmp_path), stage)
    truncate(tmp_path / "law.json")
    run = start(tmp_path)
    assert run.done("law") is None
    finish(run, "law", "otherwise")
    again = start(tmp_path)
    assert [s for s in STAGES if again.done(s)] == ["corpus", "ladder", "law"]
    assert again.kept("law.json", Path.read_text) == "law otherwise"


def test_a_file_that_rots_while_the_run_goes_on_is_not_read(tmp_path: Path) -> None:
    run = start(tmp_path)
    finish(run, "law")
    flip(0.5)(tmp_path / "law.json")
    with pytest.raises(CorruptError, match=r"law\.json has SHA-256"):
        run.kept("law.json", Path.read_text)


# the job


@pytest.fixture(scope="module")
def planned(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Path, bytes]:
    """A run folder up to its plan: law and plan made by the job from a ladder's table of a known law; its summary."""
    root = tmp_path_factory.mktemp("planned")
    job = job_of(root, corpus_root)
    counts = Counts(9, 9, 9)
    built = CorpusResult("corpus-whole", tuple(DomainCounts(n, counts, counts) for n in job_domains(corpus_root)))
    job.run.carry_out("corpus", lambda: built, lambda: None)
    grid = [(n, d, s, "ab") for n in (1e4, 3e4, 1e5) for d in (1e6, 4e6, 2e7) for s in (0, 1e4, 1e5, 1e6)]
    params, shared, special, domain = (list(column) for column in zip(*grid, strict=True))
    table = {"params": params, "pretrain_tokens": shared, "specialize_tokens": special, "domain": domain}
    table["loss"] = Law.known("release", RELEASE).predict(params, shared, special)

    def train() -> LadderResult:
        job.run.keep("runs.parquet", lambda path: pq.write_table(pa.table(table), path, write_page_checksum=True))
        return LadderResult(len(grid), 1, 1, 1, 1.0, 1)

    job.run.carry_out("ladder", train, lambda: None)
    go(job, "plan")
    return root, (root / "summary.json").read_bytes()


def job_of(root: Path, store: Path) -> Job:
    law = {"form": "release", "bootstrap": 0}
    made = Config(**PLAIN | {"law": law, "training": PLAIN["training"] | {"precision": "fp32"}})
    return Job(RunFolder(Folder(root), made), Store(store))


def job_domains(store: Path) -> list[str]:
    return Corpus.open(Store(store), "corpus-whole").domains


@pytest.mark.ray
@pytest.mark.parametrize("damage", [flip(0.5), truncate, Path.unlink], ids=["a bit", "cut in half", "lost"])
@pytest.mark.parametrize("name", ["law.json", "plan.json", "stages/law.json", "stages/plan.json", "summary.json"])
def test_the_job_makes_anew_what_rots_in_its_folder(
    planned: tuple[Path, bytes],
    corpus_root: Path,
    tmp_path: Path,
    name: str,
    damage: Damage,
    logged: list[str],
) -> None:
    shutil.copytree(planned[0], tmp_path / "run")
    files = {n: (tmp_path / "run" / n).read_bytes() for n in ("runs.parquet", "law.json", "plan.json")}
    damage(tmp_path / "run" / name)
    go(job_of(tmp_path / "run", corpus_root), "plan")
    assert {n: (tmp_path / "run" / n).read_bytes() for n in files} == files
    before, after = json.loads(planned[1]), json.loads((tmp_path / "run/summary.json").read_bytes())
    same = ("law", "plan", "ladder", "domains", "budget", "params")
    assert [before[part] for part in same] == [after[part] for part in same]
    named = name == "summary.json" or (name.startswith("stages/") and damage is Path.unlink)
    assert named or any(name in line and "is done again" in line for line in logged), logged
