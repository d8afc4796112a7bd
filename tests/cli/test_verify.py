"""What was changed after it was written is found, and named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitray.cli.main import main
from splitray.storage.checksum import checksummed
from tests.support import ROOT

SEA, COURT = "specialists/0_sea", "specialists/2_court"


def flip(path: Path, place: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def edit(path: Path, change: Callable[[dict[str, Any]], object], reseal: bool = False) -> None:
    """Change a record; with `reseal` its own checksum is made anew, as somebody would who means it."""
    record = json.loads(path.read_text())
    change(record)
    if reseal:
        record.pop("sha256")
        record = checksummed(record)
    path.write_text(json.dumps(record))


def faults(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    code = main(["verify", str(folder), *more])
    shown = capsys.readouterr()
    found = [line.removeprefix("fault: ") for line in shown.out.splitlines() if line.startswith("fault: ")]
    assert code == (1 if found else 0), shown
    assert not found or f"is not what was written: {len(found)} fault" in shown.err
    return found


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def store(finished_run: Path) -> Path:
    return finished_run.parent / "store"


def test_a_run_as_it_was_written_has_no_fault(run: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "is what was written: " in shown and "8 lineages" in shown and "remark" not in shown
    assert faults(run, capsys, "--store", str(store)) == []
    assert faults(run / SEA, capsys) == []


def test_one_flipped_bit_in_weights(run: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run / COURT / "model.safetensors")
    (one,) = faults(run, capsys)
    assert one.startswith(f"{COURT}/model.safetensors: its content has changed") and "recorded is" in one
    (one,) = faults(run / COURT, capsys)
    assert one.startswith("model.safetensors: ")
    _, deep = faults(run, capsys, "--store", str(store))
    assert deep.startswith(f"{COURT}: its weights are not those of seg-") and "model.norm.weight" in deep


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "splitray.json"])
def test_every_file_of_a_model_counts(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (run / "base" / name).read_text()
    (run / "base" / name).write_text(content.replace("0", "1", 1))
    assert any(fault.startswith(f"base/{name}: its content has changed") for fault in faults(run, capsys))


def test_one_specialist_swapped_with_another(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole folders, so that every checksum in them is right."""
    (run / SEA).rename(run / "aside")
    (run / COURT).rename(run / SEA)
    (run / "aside").rename(run / COURT)
    found = faults(run, capsys)
    assert any(f.startswith(f"{SEA}: holds the model of {COURT} (seg-") for f in found)
    assert any(f.startswith(f"{COURT}: holds the model of {SEA} (seg-") for f in found)


def test_weights_of_another_specialist(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(run / SEA / "model.safetensors", run / COURT / "model.safetensors")
    (one,) = faults(run, capsys)
    assert one.startswith(f"{COURT}/model.safetensors")


def test_an_edited_plan(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "plan_final.json"
    path.write_text(path.read_text().replace('"value": 0.5', '"value": 0.75', 1))
    found = faults(run, capsys)
    assert found[0].startswith("plan_final.json: its content has changed since stage search")


def test_a_plan_edited_everywhere_with_new_checksums(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The models are not those of the plan then: their keys are recomputed from it."""
    import hashlib

    def fraction(plan: dict[str, Any]) -> None:
        plan["split_fraction"]["value"] = 0.75

    edit(run / "plan_final.json", fraction, reseal=True)
    sha256 = hashlib.sha256((run / "plan_final.json").read_bytes()).hexdigest()

    def record(stage: dict[str, Any]) -> None:
        fraction(stage["result"]["final_plan"])
        stage["files"]["plan_final.json"] = sha256

    edit(run / "stages/search.json", record, reseal=True)
    edit(run / "summary.json", lambda summary: fraction(summary["final_plan"]), reseal=True)
    summary = hashlib.sha256((run / "summary.json").read_bytes()).hexdigest()
    edit(run / "stages/report.json", lambda stage: stage["files"].update({"summary.json": summary}), reseal=True)
    found = faults(run, capsys)
    assert len(found) == 3 and all("is not the model of this configuration and plan" in fault for fault in found), found


def test_edited_records_and_settings(run: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run / "stages/evaluate.json", lambda r: r["result"]["routed"].update(loss=1.0))
    (one,) = faults(run, capsys)
    assert one.startswith("stages/evaluate.json") and "checksum inside it" in one
    shutil.copytree(store.parent / "run/stages", run / "stages", dirs_exist_ok=True)
    edit(run / "stages/evaluate.json", lambda r: r["result"]["matrix"]["loss"][0].__setitem__(0, 1.0), reseal=True)
    assert faults(run, capsys) == []
    (one,) = faults(run, capsys, "--store", str(store))
    assert "has the loss 1.000000 on 0_sea; the store has" in one
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("learning_rate: 0.", "learning_rate: 1."))
    assert any(fault.startswith("config.yaml: its settings of identity") for fault in faults(run, capsys))


def test_what_is_missing_and_what_is_too_much(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / SEA / "config.json").unlink()
    (run / "trunk/checksums.json").unlink()
    (run / "law.json").unlink()
    (run / "stages/law.json").unlink()
    (run / "base/extra.py").write_text("print()")
    (run / "base/LICENSE").write_text("mine")
    shutil.copytree(run / COURT, run / "specialists/9_more")
    shutil.rmtree(run / "router")
    found = faults(run, capsys)
    for begin in (
        f"{SEA}/config.json: missing",
        "trunk/checksums.json: missing: an earlier splitray",
        "stages/law.json: missing, and the later stage report is done",
        "base/extra.py: not among the files",
        "specialists/9_more: no stage has left this model",
        "router/checksums.json: missing",
    ):
        assert any(fault.startswith(begin) for fault in found), (begin, found)
    assert len(found) == 6, found


def test_documents_are_there_to_be_completed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = run / SEA / "README.md"
    card.write_text(card.read_text().replace("**[TO FILL IN]**", "MIT", 1))
    assert main(["verify", str(run)]) == 0
    assert f"remark: {SEA}/README.md was edited after it was written" in capsys.readouterr().out


def test_a_damaged_store_is_found_and_left_alone(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(store, tmp_path / "store")
    (weights,) = (tmp_path / "store/attempts").glob("seg-*-000000000012288/*/moments.safetensors")
    flip(weights)
    markers = sorted((tmp_path / "store/done").iterdir())
    (one,) = faults(run, capsys, "--store", str(tmp_path / "store"))
    assert one.startswith("store: seg-") and "moments.safetensors" in one
    assert sorted((tmp_path / "store/done").iterdir()) == markers


def test_folders_that_are_neither(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "give a run folder, or an exported model" in capsys.readouterr().err
    assert main(["verify", str(run / SEA), "--store", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_nothing_of_the_folder_is_executed_and_no_ray_is_needed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("plugins: []", "plugins: [evil]"))
    assert "plugins: [evil]" in config.read_text()
    code = (
        "import sys; sys.modules['ray'] = None; from splitray.cli.main import main; "
        f"code = main(['verify', {str(run)!r}]); sys.exit(code or 'torch' in sys.modules)"
    )
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "is what was written" in done.stdout, done
