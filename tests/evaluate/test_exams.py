"""Exams: files that people have, and scores against arithmetic done apart."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splitray.corpus.tokenizer import Encoder
from splitray.errors import UserError
from splitray.evaluate.exams import Exam, Question, compare, grade, read_exam, score_exam
from splitray.evaluate.exams.scoring import detectable, encode_pair
from splitray.evaluate.mixture import OPEN, Mixture
from tests.support.ensemble import EXAM as ROWS
from tests.support.ensemble import LENGTH, ensemble, plain_nats, tokenizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_lines_and_parquet_give_one_exam(tmp_path: Path) -> None:
    lines = tmp_path / "law.jsonl"
    lines.write_text("\ufeff" + "\n\n".join(json.dumps({**row, "id": 3}) for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "law.parquet")
    one, other = read_exam(lines), read_exam(tmp_path / "law.parquet")
    assert one == other and one.name == "law" and len(one.questions) == len(ROWS)
    assert one.chance == pytest.approx(1 / 3)
    assert len(read_exam(lines, most=4).questions) == 4


def test_a_shot_is_never_the_question_itself() -> None:
    exam = Exam("e", tuple(Question(f"q{n}", (f"right {n}", "wrong"), 0) for n in range(3)), shots=5)
    for place in range(3):
        context = exam.context(place)
        assert context.endswith(f"q{place}\n") and context.count("right") == 2
        assert f"right {place}" not in context


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no question"),
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1: a question is an object"),
        ('{"question": "q", "choices": ["a", "b"]}', "line 1 has no answer"),
        ('{"question": 1, "choices": ["a", "b"], "answer": 0}', "question is no text"),
        ('{"question": "q", "choices": ["a"], "answer": 0}', "at least two texts"),
        ('{"question": "q", "choices": "ab", "answer": 0}', "at least two texts"),
        ('{"question": "q", "choices": ["a", ""], "answer": 0}', "none of them empty"),
        ('{"question": "q", "choices": ["a", "b"], "answer": 2}', "answer 2 is no place among 2"),
        ('{"question": "q", "choices": ["a", "b"], "answer": "A"}', "answer 'A' is no place"),
        ('{"question": "q", "choices": ["a", "b"], "answer": true}', "answer True is no place"),
    ],
)
def test_what_is_no_exam_is_refused_by_line_and_field(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_exam(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "u.jsonl").write_bytes('{"question": "é"}'.encode("latin-1"))
    pq.write_table(pa.table({"question": ["q"], "options": [["a", "b"]]}), tmp_path / "c.parquet")
    for name, message in (
        ("e.parquet", "no Parquet"),
        ("u.jsonl", "not UTF-8"),
        ("c.parquet", "no column choices, answer"),
        ("none.jsonl", "there is no exam"),
    ):
        with pytest.raises(UserError, match=message):
            read_exam(tmp_path / name)
    (tmp_path / "e.csv").write_text("q")
    with pytest.raises(UserError, match=r"neither \.jsonl nor \.parquet"):
        read_exam(tmp_path / "e.csv")


def test_choices_cost_what_their_tokens_cost(encoder: Encoder) -> None:
    """One model, against whole forward passes; the same number from a mixture of one."""
    model = ensemble("llama", encoder.vocabulary, 1)
    exam = Exam("e", tuple(Question(r["question"], tuple(r["choices"]), r["answer"]) for r in ROWS))
    found = score_exam(Mixture(model, encoder, LENGTH, gate=OPEN), exam)
    for place, question in enumerate(exam.questions):
        for choice, nats in zip(question.choices, found[place], strict=True):
            context, answer = encode_pair(encoder, exam.context(place), choice)
            text = [*context, *answer][-LENGTH:]
            first = encoder.end if len(context) + len(answer) <= LENGTH else context[-(LENGTH + 1 - len(answer))]
            plain = plain_nats(next(iter(model.values())), np.array(text), first)
            assert nats == pytest.approx(plain[len(text) - len(answer) :].sum(), abs=2e-3)


def test_grades_are_what_they_are_called() -> None:
    exam = Exam("e", (Question("q", ("ab", "cdef"), 1), Question("q", ("a", "b"), 0), Question("q", ("a", "é"), 1)))
    scores = grade(exam, [np.array([2.0, 3.0]), np.array([1.0, 1.0]), np.array([3.0, 4.0])])
    assert scores.accuracy.tolist() == [0, 0.5, 0], "a tie is half a point"
    assert scores.accuracy_norm.tolist() == [1, 0.5, 1], "per byte: é has two"
    np.testing.assert_allclose(scores.nats_per_byte, [0.75, 1, 2])
    np.testing.assert_allclose(scores.margin, [0.25, 0, 1])
    better = compare(scores, scores)
    assert all(m.value == m.low == m.high == 0 for m in better.values())
    assert detectable(Exam("e", exam.questions * 100)) == pytest.approx(1.96 * np.sqrt(2 * 0.25 / 300))
    low = scores.means()["accuracy"]
    assert low.value == pytest.approx(1 / 6) and low.low <= low.value <= low.high


def test_blanks_at_the_end_belong_to_the_choice(encoder: Encoder) -> None:
    context, answer = encode_pair(encoder, "two words ", "more")
    assert context == encoder.encode(["two words"])[0][:-1].tolist()
    assert encoder.decode([np.array([*context, *answer, encoder.end])]) == ["two words more"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_separators_inside_a_text_end_no_line(tmp_path: Path, separator: str) -> None:
    """They are legal in JSON strings, and Python ends lines at them."""
    rows = [{"question": f"one{separator}two", "choices": ["a", "b"], "answer": 0}] * 2
    path = tmp_path / "exam.jsonl"
    path.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), newline="")
    assert [q.question for q in read_exam(path).questions] == [f"one{separator}two"] * 2
