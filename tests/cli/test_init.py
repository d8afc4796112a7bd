"""`splitray init`: what it refuses, that it overwrites nothing, and that it writes whole files."""

import json
from pathlib import Path

import pytest

from splitray.cli.main import main
from splitray.config import load
from splitray.draft.places import write
from splitray.draft.speed import Speed
from splitray.errors import UserError
from tests.support.planted_text import documents


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to start in, outside of the text."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a call that must fail for the user's fault."""
    assert main(["init", *arguments]) == 2
    return capsys.readouterr().err


def test_from_a_folder_to_a_configuration_that_loads(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # measuring takes half a minute, and tests/draft/test_speed.py does it
    monkeypatch.setattr("splitray.draft.draft.measure_speed", lambda *_: Speed(2e-5, 6e-11, 3.0, 2, "cpu"))
    (tmp_path / "text").mkdir()
    for subject in ("law", "food", "sea"):
        lines = (json.dumps({"text": text}) + "\n" for text in documents(subject, 500))
        (tmp_path / "text" / f"{subject}.jsonl").write_text("".join(lines))
    assert main(["init", "../text"]) == 0
    config = load(elsewhere / "config.yaml")
    assert config.corpus.domains == 3 and config.corpus.sources == [str(tmp_path / "text")]
    assert "Other programs make it 3.0 times as long" in (elsewhere / "config.yaml").read_text()
    shown = capsys.readouterr().out
    assert "1,500 documents" in shown and "next: splitray run --config config.yaml" in shown
    assert [path.name for path in elsewhere.iterdir()] == ["config.yaml"]

    before = (elsewhere / "config.yaml").read_bytes()
    assert "config.yaml exists already: give another --out, or --force" in told(capsys, "../text")
    assert (elsewhere / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["config.yaml", "stages/corpus.json"], "a run folder of splitray"),
        (["attempts/x", "done/x.json"], "a store of splitray"),
        (["config.json", "model.safetensors"], "a model"),
        (["manifest.json", "shards/0.npy"], "a corpus that is built already"),
        ([], "empty"),
    ],
)
def test_a_folder_that_is_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str], what: str
) -> None:
    (tmp_path / "it").mkdir()
    for name in names:
        (tmp_path / "it" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "it" / name).write_text("x" * 200)
    assert f"../it is {what}: give " in told(capsys, "../it")


def test_places_that_would_become_documents_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x" * 200)
    assert "lies in ../text, where it would be read as text" in told(capsys, "../text", "--out", "../text/c.yaml")
    assert ".. holds the current folder, where the run would write" in told(capsys, "..", "--out", "/tmp/c.yaml")
    assert "its folder does not exist" in told(capsys, "../text", "--out", "none/c.yaml")
    assert "exists already: give the name of a file" in told(capsys, "../text", "--out", "..")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["../none"], "does not exist"),
        (["../text", "--minutes", "0"], "minutes = 0: give how long the run may take"),
        (["../text", "--domains", "0"], "domains = 0: give 1 or more"),
        (["../text"], "too little for 2 domains: give about"),
        ([], "the following arguments are required: folder"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("\n".join(documents("law", 3)))
    assert error in told(capsys, *arguments)


def test_a_file_that_appears_meanwhile_is_not_replaced(elsewhere: Path) -> None:
    write(Path("a.yaml"), "one", force=False)
    with pytest.raises(UserError, match="exists already"):
        write(Path("a.yaml"), "two", force=False)
    assert Path("a.yaml").read_text() == "one"
    write(Path("a.yaml"), "three", force=True)
    assert Path("a.yaml").read_text() == "three" and [p.name for p in elsewhere.iterdir()] == ["a.yaml"]
