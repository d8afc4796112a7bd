"""Documents of a topic among others, told apart by some of their words; and exams made of documents."""

import random

import numpy as np

from splitray.evaluate.exams import Exam, Question
from splitray.study import Examples

_WORDS = random.Random(0)


def _vocabulary(count: int) -> list[str]:
    return ["".join(_WORDS.choices("abcdefghijklmnopqrstuvwxyz", k=_WORDS.randint(3, 9))) for _ in range(count)]


SHARED, TOPIC, OTHER = _vocabulary(400), _vocabulary(150), [_vocabulary(150) for _ in range(4)]


def examples(count: int, seed: int, share: float = 0.1) -> Examples:
    """So many documents of 30 to 80 words, a share of them of the topic, in no order."""
    draw = random.Random(seed)
    labels = [draw.random() < share for _ in range(count)]
    texts = []
    for label in labels:
        own = TOPIC if label else draw.choice(OTHER)
        words = (draw.choice(own) if draw.random() < 0.3 else draw.choice(SHARED) for _ in range(draw.randint(30, 80)))
        texts.append(" ".join(words) + ".")
    return Examples(texts, np.array(labels))


def exam_of(texts: list[str]) -> Exam:
    """An exam whose questions are these texts."""
    return Exam("leaked", tuple(Question(text, ("yes indeed", "not at all"), 0) for text in texts))
