"""A filter on planted topics: what it finds, its calibration, its way to disk and back, and what is refused."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from splitray.errors import CorruptError, UserError
from splitray.study import DomainFilter, Examples, FilterSettings
from splitray.study.calibration import calibration_error, precision_and_recall
from splitray.study.contamination import ExamIndex
from splitray.study.quality import quality
from tests.study.planted import exam_of, examples

SETTINGS = FilterSettings(options={"options": {"dimensions": 32}})
FASTTEXT = pytest.param(
    FilterSettings(classifier="fasttext", options={"buckets": 10_000, "dimensions": 16}),
    id="fasttext",
    marks=pytest.mark.skipif(importlib.util.find_spec("fasttext") is None, reason="needs splitray[fasttext]"),
)


@pytest.fixture(scope="module")
def fitted() -> DomainFilter:
    return DomainFilter.fit(examples(1500, seed=1), SETTINGS)


@pytest.mark.parametrize("settings", [pytest.param(SETTINGS, id="embedding"), FASTTEXT])
def test_a_filter_finds_its_topic_in_new_documents(settings: FilterSettings, tmp_path: Path) -> None:
    """One in ten documents is of the topic; the threshold was set for nine right ones in ten."""
    made, new = DomainFilter.fit(examples(1500, seed=1), settings), examples(2000, seed=2)
    probability = made.probability(list(new.texts))
    precision, recall = precision_and_recall(probability, new.labels, made.threshold)
    assert precision > 0.8 and recall > 0.6
    assert calibration_error(probability, new.labels) < 0.05
    assert probability.mean() == pytest.approx(new.labels.mean(), abs=0.03)
    assert made.report.precision >= 0.9 and made.report.fitted + made.report.held_out == 1500
    made.save(tmp_path)
    again = DomainFilter.load(tmp_path)
    np.testing.assert_allclose(again.probability(list(new.texts[:50])), probability[:50], rtol=1e-6, atol=1e-9)
    assert (again.threshold, again.report) == (made.threshold, made.report)


def test_a_text_s_probability_does_not_depend_on_the_texts_beside_it(fitted: DomainFilter) -> None:
    texts = list(examples(60, seed=3).texts)
    alone = np.concatenate([fitted.probability([text]) for text in texts])
    assert np.array_equal(alone, fitted.probability(texts))


def test_examples_of_another_share_are_weighed_to_the_corpus() -> None:
    """Half of the examples are of the topic, one in ten of the corpus: probabilities and precision are the corpus's."""
    even = examples(2400, seed=4, share=0.5)
    made = DomainFilter.fit(even, SETTINGS.model_copy(update={"share": 0.1}))
    new = examples(2000, seed=5)
    probability = made.probability(list(new.texts))
    assert probability.mean() == pytest.approx(new.labels.mean(), abs=0.03)
    assert calibration_error(probability, new.labels) < 0.05
    assert precision_and_recall(probability, new.labels, made.threshold)[0] > 0.8
    assert made.report.topic == pytest.approx(0.1) and made.report.mean == pytest.approx(0.1, abs=0.03)


def test_groups_are_held_out_as_a_whole() -> None:
    given = examples(400, seed=6)
    grouped = Examples(given.texts, given.labels, [f"book {n // 8}" for n in range(400)])
    fitted, held = grouped.split(0.3, seed=0)
    assert sorted([*fitted, *held]) == list(range(400)) and 0.15 < len(held) / 400 < 0.45
    assert not {n // 8 for n in fitted} & {n // 8 for n in held}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([True] * 200, r"all 200 examples are of the topic; give examples of the topic and of other text"),
        ([False] * 200, r"all 200 examples are of other text"),
        ([True] * 30 + [False] * 170, r"\d+ examples of the topic to hold out, and 20 are needed"),
    ],
)
def test_examples_that_make_no_filter_are_refused(labels: list[bool], told: str) -> None:
    with pytest.raises(UserError, match=told):
        DomainFilter.fit(Examples(examples(200, seed=7).texts, np.array(labels)), SETTINGS)


def test_labels_that_the_text_does_not_tell_reach_no_precision() -> None:
    given = examples(600, seed=8)
    drawn = np.random.default_rng(0).random(600) < 0.3
    with pytest.raises(UserError, match=r"precision 0.99: held-out labels show at most"):
        DomainFilter.fit(Examples(given.texts, drawn), SETTINGS.model_copy(update={"precision": 0.99}))


def test_examples_that_hold_exams_are_left_out() -> None:
    given = examples(1500, seed=1)
    index = ExamIndex.build([exam_of(list(given.texts[:7]))])
    made = DomainFilter.fit(given, SETTINGS, exams=index)
    assert made.report.contaminated == 7 and made.report.fitted + made.report.held_out == 1493


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"classifier": "fastext"}, "choose embedding, fasttext, pretrained; did you mean fasttext"),
        ({"options": {"dimension": 3}}, "dimension"),
        ({"precision": 1.0}, "precision"),
        ({"share": 0}, "share"),
        ({"classifier": "pretrained"}, "path"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        FilterSettings(**fields)


def test_a_damaged_filter_is_refused(fitted: DomainFilter, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    values = json.loads((tmp_path / "filter.json").read_text())
    (tmp_path / "filter.json").write_text(json.dumps(values | {"schema": "splitray-filter-99"}))
    with pytest.raises(UserError, match="newer splitray"):
        DomainFilter.load(tmp_path)
    (tmp_path / "filter.json").write_text("{")
    with pytest.raises(CorruptError, match="holds no filter"):
        DomainFilter.load(tmp_path)


def test_quality_tells_prose_from_rubbish_whatever_its_topic() -> None:
    prose = [
        "The tenant shall pay the rent on the first day of each month. Notice is given in writing, and in good time.",
        "The patient was seen in the morning with a mild fever. She was given fluids, and felt better in the evening.",
        "O arrendatário paga a renda no primeiro dia de cada mês. O aviso é feito por escrito, e com antecedência.",
    ]
    rubbish = [
        "0 1 2 3 4 5 6 7 8 9 10 11 12 13",
        "# # # ... ... ...",
        "a b a b a b a b " * 20,
        "buy now! " * 50,
        "",
        " \n",
    ]
    assert quality(prose).min() > 0.85 > quality(rubbish).max()
    assert quality(rubbish)[-1] == 0
