"""The harness of EleutherAI on a mixture, against our own scorer."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lm_eval")

from splitray.evaluate.exams import grade, read_exam, score_exam
from splitray.evaluate.exams.harness import MixtureLM
from splitray.evaluate.mixture import Gate, Mixture
from tests.support.ensemble import EXAM as ROWS
from tests.support.ensemble import LENGTH, ensemble, tokenizer

TASK = """
task: planted
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\n"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


def test_the_harness_finds_what_we_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    encoder = tokenizer(tmp_path / "tokenizer")
    mixture = Mixture(ensemble("llama", encoder.vocabulary), encoder, LENGTH, gate=Gate(0.01, 0.99))
    file = tmp_path / "planted.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/planted.yaml").write_text(TASK.format(file=file))
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    result = simple_evaluate(model=MixtureLM(mixture), tasks=["planted"], task_manager=manager, log_samples=True)
    exam = read_exam(file)
    nats = score_exam(mixture, exam)
    samples = sorted(result["samples"]["planted"], key=lambda sample: sample["doc_id"])
    for sample, own in zip(samples, nats, strict=True):
        theirs = [-float(response[0][0]) for response in sample["resps"]]
        np.testing.assert_allclose(theirs, own, atol=1e-6)
    ours = grade(exam, nats)
    assert result["results"]["planted"]["acc,none"] == pytest.approx(ours.accuracy.mean())
    by_characters = [np.argmin(n / [len(c) for c in q.choices]) == q.answer for n, q in zip(nats, exam.questions)]
    assert result["results"]["planted"]["acc_norm,none"] == pytest.approx(np.mean(by_characters))


def test_rolling_and_written_text(tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance

    encoder = tokenizer(tmp_path / "tokenizer")
    mixture = Mixture(ensemble("llama", encoder.vocabulary), encoder, LENGTH)
    lm = MixtureLM(mixture)
    texts = [row["question"] * 3 for row in ROWS] + [""]
    asked = [Instance("loglikelihood_rolling", {}, (text,), n) for n, text in enumerate(texts)]
    whole = mixture.score(texts)
    own = [-float(s.nats[:-1].sum()) for s in whole]  # without the end token
    np.testing.assert_allclose(lm.loglikelihood_rolling(asked), own, atol=1e-3)
    until = {"until": ["a"], "max_gen_toks": 12}
    answers = lm.generate_until([Instance("generate_until", {}, (text, until), n) for n, text in enumerate(texts)])
    assert all("a" not in answer for answer in answers) and len(answers) == len(texts)
