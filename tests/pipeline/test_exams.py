"""The exams that a configuration names: read before anything is paid for, and asked again only where they changed."""

import json
from pathlib import Path

import pytest

from splitray.config import Config
from splitray.errors import UserError
from splitray.evaluate.exams import Exam
from splitray.evaluate.exams.takers import examine
from splitray.evaluate.mixture import alone, load_mixture
from splitray.pipeline.exams import asked_exams, stands
from splitray.pipeline.run_folder import RunFolder
from splitray.results.exams import ExamsResult
from splitray.storage.folder import Folder
from tests.support.configs import PLAIN
from tests.support.ensemble import EXAM, write_run


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def configured(*exams: object) -> Config:
    return Config(**PLAIN | {"evaluate": {"exams": list(exams)}})


def test_exams_are_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    asked = configured(write(tmp_path / "law.jsonl", EXAM))
    plain = Config(**PLAIN)
    assert asked.identity() == plain.identity() and asked.refit() == plain.refit()
    folder = Folder(tmp_path / "run")
    assert "exams" not in RunFolder(folder, plain).stages() and "exams" in RunFolder(folder, asked).stages()


def test_what_cannot_be_asked_is_said_with_its_place(tmp_path: Path) -> None:
    good = write(tmp_path / "law.jsonl", EXAM)
    (tmp_path / "other").mkdir()
    for exams, said in (
        ([good, str(tmp_path / "none.jsonl")], r"evaluate\.exams\.1: there is no exam"),
        ([write(tmp_path / "odd.jsonl", [EXAM[0], {"question": "?"}])], r"exams\.0: .*line 2 has no choices, answer"),
        ([good, write(tmp_path / "other/law.jsonl", EXAM)], r"exams\.1: two exams are named 'law'"),
    ):
        with pytest.raises(UserError, match=said):
            asked_exams(configured(*exams))


def test_every_model_takes_every_exam_and_again_only_where_it_changed(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run")
    file = write(tmp_path / "law.jsonl", EXAM)
    config = configured({"file": file, "shots": 1, "questions": 8})
    ((exam, taken),) = asked_exams(config)
    assert isinstance(exam, Exam) and (taken.questions, taken.shots) == (8, 1) and 0 < taken.detectable < 1
    assert taken.chance == pytest.approx(1 / 3)
    mixture = load_mixture(place)
    takers = {"mixture": mixture, **alone(mixture), "unsplit": alone(mixture)["base"]}
    scores = {score.taker: score for score in examine(takers, [exam])}
    assert set(scores) == {"mixture", "0_first", "1_second", "base", "unsplit"}
    assert scores["base"].accuracy == scores["unsplit"].accuracy
    same = scores["base"].accuracy_difference
    assert same is not None and (same.value, same.low, same.high) == (0, 0, 0)
    assert scores["unsplit"].accuracy_difference is None
    run = RunFolder(Folder(tmp_path / "records"), config)
    assert not stands(run, "exams")
    run.carry_out("exams", lambda: ExamsResult((taken,), tuple(scores.values())), lambda: None)
    assert stands(run, "exams"), "as it was written, so it is read"
    write(Path(file), EXAM[1:])
    assert not stands(run, "exams"), "the file is another"
