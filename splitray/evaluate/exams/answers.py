"""Exams of published models: taken once, then read from the store."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from splitray.errors import CorruptError
from splitray.evaluate.exams.questions import Exam
from splitray.evaluate.exams.scoring import score_exam
from splitray.storage.checksum import fingerprint
from splitray.storage.keys import LossKey, SegmentKey
from splitray.storage.store import Published, Store
from splitray.training import warm
from splitray.training.recipe import Recipe
from splitray.training.state import load, load_weights

_VERSION = 1  # bump when the same model would answer the same exam with other numbers
_FILE = "choices.npy"


def answers_key(segment: str, corpus: Any, exam: Exam) -> str:
    """The store's name of a segment's losses on the choices of an exam, which its questions and tokenizer decide."""
    asked = [[question.question, list(question.choices), question.answer] for question in exam.questions]
    content = fingerprint([_VERSION, asked, exam.shots, corpus.manifest["tokenizer"]["sha256"]], 12)
    return LossKey(SegmentKey.parse(segment), content, f"exam-{exam.name}").format()


def answer(store: Store, corpus: Any, key: str, exam: Exam, device: str = "cpu") -> Published:
    """Have the model of a published segment take an exam, unless it has: the loss in nats of every choice.

    Args:
        corpus: a `splitray.corpus.Corpus`, whose tokenizer is the model's.
    """
    from splitray.corpus.tokenizer import Encoder
    from splitray.evaluate.mixture import Mixture

    name = answers_key(key, corpus, exam)
    if (held := store.find(name)) is not None:
        return held
    published = store.find(key)
    if published is None:
        raise CorruptError(f"{key} has no readable marker")
    recipe = Recipe.from_json(published.recorded("recipe"))
    model = warm.model(recipe)
    with store.invalidating(published):
        load_weights(model, load(published, moments=False))
    taker = Mixture({"model": model.to(device)}, Encoder(corpus.tokenizer_path()), recipe.sequence_length)
    nats = np.concatenate(score_exam(taker, exam))
    attempt = store.attempt(name)
    with tempfile.TemporaryDirectory(prefix="splitray-exam-") as folder:
        np.save(Path(folder) / _FILE, nats, allow_pickle=False)
        attempt.add(Path(folder) / _FILE, _FILE)
        return attempt.publish({"segment": key, "exam": exam.name, "questions": len(exam.questions)})


def choices_of(store: Store, corpus: Any, key: str, exam: Exam) -> list[np.ndarray]:
    """What `answer` has left: loss in nats of every choice of every question, float64 [choices] each.

    Raises:
        CorruptError: the store does not hold it, or what it holds is damaged.
    """
    held = store.find(name := answers_key(key, corpus, exam))
    if held is None:
        raise CorruptError(f"the store {store.root.uri} holds no {name}")
    with store.invalidating(held):
        nats = np.load(held.fetch(_FILE), allow_pickle=False)
    return np.split(nats, np.cumsum([len(question.choices) for question in exam.questions])[:-1])
