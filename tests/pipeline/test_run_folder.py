"""The run folder: who may use it, what a finished stage leaves, and what a broken one does not."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from splitray.config import Config, load
from splitray.errors import StorageError, UserError
from splitray.executor.client import ExecutorClient
from splitray.pipeline.run_folder import RunFolder
from splitray.results.stages import STAGES as EVERY_STAGE
from splitray.results.stages import CorpusResult, LawResult, Work
from splitray.runtime.progress import Pace
from splitray.storage.folder import Folder
from tests.support.configs import PLAIN
from tests.support.results import RESULTS

STAGES = tuple(stage for stage in EVERY_STAGE if stage != "exams")  # of a run without exams


def run(path: Path, **changes: Any) -> RunFolder:
    return RunFolder(Folder(path), Config(**PLAIN | changes))


def test_the_resolved_config_is_kept_and_compared(tmp_path: Path) -> None:
    run(tmp_path)
    assert load(tmp_path / "config.yaml") == Config(**PLAIN)
    run(tmp_path, resources={"base_workers": 2})
    assert load(tmp_path / "config.yaml").resources.base_workers == 2, "operational fields may change"
    with pytest.raises(
        UserError, match=r"holds a run with other settings: budget: 65536 -> 131072; seed: 0 -> 3\. Give"
    ):
        run(tmp_path, budget=131072, seed=3)
    assert load(tmp_path / "config.yaml").budget == 65536, "a refused config must not be written"


def test_a_foreign_config_in_the_folder_is_event_at(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\nflavour: sweet\n")
    with pytest.raises(UserError, match=r"config\.yaml: .*unknown key flavour"):
        run(tmp_path)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [\n", "\x00"])
def test_a_torn_config_in_the_folder_is_event_at(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        run(tmp_path)


def test_a_stage_that_ends_well_is_done(tmp_path: Path, logged: list[str]) -> None:
    one = run(tmp_path)
    assert one.done("law") is None

    def fit() -> LawResult:
        assert run(tmp_path).done("law") is None, "done before its end"
        return LawResult("release")

    one.carry_out("law", fit, lambda: Work(trained=5))
    record = run(tmp_path).done("law")
    assert record is not None and record.result == LawResult("release") and record.work == Work(trained=5)
    assert record.stage == "law" and record.seconds >= 0 and logged[0] == "stage 3 of 9: law" and len(logged) == 2
    assert one.result(LawResult) == LawResult("release")


def test_a_stage_that_breaks_leaves_no_record_but_its_events(tmp_path: Path) -> None:
    one = run(tmp_path)

    def fit() -> LawResult:
        one.event("tried", form="release")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        one.carry_out("law", fit, lambda: None)
    assert run(tmp_path).done("law") is None
    assert [e["event"] for e in events(tmp_path)] == ["stage begins", "tried"]


def finished(path: Path, **changes: Any) -> RunFolder:
    """A run folder in which every stage is done."""
    one = run(path, **changes)
    for stage in STAGES:
        one.carry_out(stage, partial(RESULTS.__getitem__, stage), lambda: None)
    return one


def standing(one: RunFolder) -> list[str]:
    return [stage for stage in STAGES if one.done(stage) is not None]


@pytest.mark.parametrize(
    "change",
    [
        {"law": {"form": "release"}},
        {"law": {"objective": "squared"}},
        {"law": {"bootstrap": 20}},
        {"law": {"repetition": 5.0}},
        {"plan": {"epochs": 2.0}},
        {"plan": {"min_pretrain_tokens": 4096}},
    ],
    ids=lambda change: str(change),
)
@pytest.mark.parametrize("has_config", [True, False])
def test_another_fit_undoes_what_rests_on_the_law(
    tmp_path: Path, change: dict[str, Any], has_config: bool, logged: list[str]
) -> None:
    finished(tmp_path)
    if not has_config:
        (tmp_path / "config.yaml").unlink()
    logged.clear()
    assert standing(run(tmp_path, **change)) == ["corpus", "ladder"]
    assert len(logged) == 1 and "only the fit changed" in logged[0] and "law, plan, search, base" in logged[0]
    key = next(f"{section}.{name}" for section, fields in change.items() for name in fields)
    assert key in logged[0] or not has_config
    assert standing(finished(tmp_path, **change)) == list(STAGES)
    assert standing(run(tmp_path, **change)) == list(STAGES), "the same fit again changes nothing"


def test_another_fit_with_another_budget_is_refused_and_undoes_nothing(tmp_path: Path) -> None:
    finished(tmp_path)
    with pytest.raises(UserError, match=r"other settings: budget: 65536 -> 131072\. Give"):
        run(tmp_path, budget=131072, law={"form": "release"})
    assert standing(run(tmp_path)) == list(STAGES)


def test_the_records_of_a_folder_without_its_config_refuse_another_run(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"holds a run with other settings.*config\.yaml.* is gone"):
        run(tmp_path, budget=131072)
    assert not (tmp_path / "config.yaml").exists()
    assert standing(run(tmp_path, resources={"base_workers": 2})) == list(STAGES)


def as_of_the_first_release(path: Path) -> None:
    """Rewrite every record as the first release wrote it."""
    for file in path.glob("stages/*.json"):
        new = json.loads(file.read_text())
        old = {name: new[name] for name in ("stage", "began", "seconds", "work", "result", "files")}
        old["work"] = old["work"] or {}
        if new["stage"] == "plan":
            old["result"] = new["result"]["plan"]
        Folder(path).write_checksummed(f"stages/{file.name}", old)


def test_records_of_the_first_release_are_read(tmp_path: Path) -> None:
    """They know no settings: without a config the folder is taken as it is, whatever the budget."""
    finished(tmp_path)
    as_of_the_first_release(tmp_path)
    again = run(tmp_path)
    assert standing(again) == list(STAGES)
    records = [again.done(stage) for stage in STAGES]
    assert {r.stage: r.result for r in records if r} == {stage: RESULTS[stage] for stage in STAGES}
    assert all(r is not None and r.work is None and r.identity is None for r in records)
    (tmp_path / "config.yaml").unlink()
    assert standing(run(tmp_path, budget=131072)) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.filterwarnings("error")
def test_a_result_comes_back_as_it_was_written(tmp_path: Path, stage: str) -> None:
    run(tmp_path).carry_out(stage, lambda: RESULTS[stage], lambda: Work(trained=5, training_seconds=0.5))
    record = run(tmp_path).done(stage)
    assert (
        record is not None and record.result == RESULTS[stage] and record.work == Work(trained=5, training_seconds=0.5)
    )


def test_a_record_of_a_newer_release_is_refused_and_kept(tmp_path: Path) -> None:
    one = finished(tmp_path)
    record = one.folder.read_checksummed("stages/law.json")
    one.folder.write_checksummed("stages/law.json", record | {"schema": "splitray-stage-9"})
    with pytest.raises(UserError, match=r"stages/law\.json has the schema 'splitray-stage-9'"):
        run(tmp_path).done("law")
    assert (tmp_path / "stages/law.json").exists()


def test_two_starts_keep_their_events_apart(tmp_path: Path) -> None:
    for number in range(2):
        one = run(tmp_path)
        one.event("start", number=number)
        one.flush()
    assert [e["number"] for e in events(tmp_path)] == [0, 1]
    assert len(list((tmp_path / "events").iterdir())) == 2


def events(path: Path) -> list[dict[str, Any]]:
    """Every event of a run folder, as a reader of `events/*.jsonl` in the order of names finds them."""
    return [json.loads(line) for file in sorted((path / "events").iterdir()) for line in file.open()]


def test_a_long_run_writes_each_event_a_few_times_and_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand events, flushed after every hundred: nothing is lost, little is written twice or held."""
    one, written, held = run(tmp_path), list[int](), 0
    write = one.folder.write

    def counted(name: str, data: bytes) -> None:
        written.append(len(data))
        write(name, data)

    monkeypatch.setattr(one.folder, "write", counted)
    for number in range(100_000):
        one.event("tick", number=number)
        if number % 100 == 99:
            one.flush()
            one.flush()  # nothing new: nothing to write
            held = max(held, sum(map(len, one._lines)))
    assert len(written) == 1000 and max(written) < 300_000 and held < 300_000
    assert [e["number"] for e in events(tmp_path)] == list(range(100_000))


def test_events_that_could_not_be_written_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(tmp_path)

    def refuse(name: str, data: bytes) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(one.folder, "write", refuse)
        one.event("first")
        with pytest.raises(StorageError):
            one.flush()
    one.event("second")
    one.flush()
    assert [e["event"] for e in events(tmp_path)] == ["first", "second"]


def test_an_event_of_progress_does_not_grow_with_the_hosts(tmp_path: Path) -> None:
    one, client = run(tmp_path), object.__new__(ExecutorClient)
    client._event, client._pace, client._event_at = one.event, Pace(), 0.0
    host = {"segment": "seg-x", "source": "mixture", "tokens": 10, "call_tokens": 10, "loss": 1.0, "rate": 2.5}
    host |= {"params": 1000}
    counters = {"segments": 9, "finished": 1, "tokens": 1000, "trained": 100}
    counters |= {"leaves": 3, "scored": 0, "effort": 1e9, "effort_trained": 1e8}
    client.tell({**counters, "running": {f"ladder[{i}]": host for i in range(64)}})
    one.flush()
    (event,) = events(tmp_path)
    assert {k: event[k] for k in counters} == counters and (event["workers"], event["rate"]) == (64, 160.0)
    assert len(json.dumps(event)) < 350


def test_a_folder_that_vanishes_ends_the_run_and_is_said(tmp_path: Path, logged: list[str]) -> None:
    one = run(tmp_path / "run")
    one.carry_out("corpus", lambda: RESULTS["corpus"], lambda: None)

    def vanish() -> LawResult:
        shutil.rmtree(tmp_path / "run")
        one.event("progress")
        one.flush()
        assert sum("was deleted or moved" in line for line in logged) == 1, "while the stage still runs"
        return LawResult("release")

    with pytest.raises(StorageError, match=r"run folder .*/run was deleted or moved while .* start it again"):
        one.carry_out("law", vanish, lambda: None)
    with pytest.raises(StorageError, match="was deleted or moved"):
        one.carry_out("plan", lambda: pytest.fail("a later stage must not begin"), lambda: None)
    with pytest.raises(StorageError, match="was deleted or moved"):
        one.result(CorpusResult)
    again = run(tmp_path / "run")
    assert again.done("corpus") is None and again.done("law") is None
    again.carry_out("corpus", lambda: RESULTS["corpus"], lambda: None)
    assert again.done("corpus") is not None
