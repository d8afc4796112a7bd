"""How a mixture, or one model as a mixture of one, does in an exam.

A choice's likelihood is that of its tokens after the question. As in EleutherAI's harness, question and choice are
encoded together, and the choice's tokens are those beyond the question's own; blanks at the end of a question belong to
the choice. So both give one number to 1e-6.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from splitray.evaluate.exams.questions import Exam
from splitray.law.planning.estimate import Estimate

if TYPE_CHECKING:
    from splitray.corpus.tokenizer import Encoder
    from splitray.evaluate.mixture import Mixture

_DRAWS = 2000


def _mean(by_question: np.ndarray) -> Estimate:
    """A mean over questions with its 95 % interval over them; the draws are the same for every call of one length."""
    picks = np.random.default_rng(0).integers(len(by_question), size=(_DRAWS, len(by_question)))
    return Estimate.resampled(float(by_question.mean()), by_question[picks].mean(axis=1))


@dataclass(frozen=True)
class ExamScores:
    """One taker of an exam, by question, float64 [questions].

    Args:
        accuracy: 1 where the right choice has the highest likelihood. Where n choices share it, 1/n.
        accuracy_norm: the same by likelihood per byte.
        nats_per_byte: of the right choice, in UTF-8 bytes.
        margin: nats per byte of the best wrong choice less those of the right one; above 0 where it is found.
    """

    accuracy: np.ndarray
    accuracy_norm: np.ndarray
    nats_per_byte: np.ndarray
    margin: np.ndarray

    MEASURES = ("accuracy", "accuracy_norm", "nats_per_byte", "margin")

    def means(self) -> dict[str, Estimate]:
        return {name: _mean(getattr(self, name)) for name in self.MEASURES}


def compare(ours: ExamScores, other: ExamScores) -> dict[str, Estimate]:
    """Means of `ours` less `other`, paired by question."""
    return {name: _mean(getattr(ours, name) - getattr(other, name)) for name in ExamScores.MEASURES}


def detectable(exam: Exam) -> float:
    """The smallest difference in accuracy that two independent takers near chance show in 19 exams of 20."""
    chance = exam.chance
    return float(1.96 * np.sqrt(2 * chance * (1 - chance) / len(exam.questions)))


def encode_pair(encoder: "Encoder", context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens of a context and of what follows it, as the harness cuts them."""
    blanks = len(context) - len(context.rstrip())
    if blanks:
        context, continuation = context[:-blanks], context[-blanks:] + continuation
    whole, alone = (tokens[:-1].tolist() for tokens in encoder.encode([context + continuation, context]))
    return alone, whole[len(alone) :]


@dataclass(frozen=True)
class Continuation:
    """What follows a context: its loss in nats, and whether each of its tokens was the likeliest, if that was asked."""

    nats: float
    greedy: bool | None


def continuations(
    mixture: "Mixture", pairs: list[tuple[list[int], list[int]]], texts: list[str], greedy: bool = False
) -> list[Continuation]:
    """How likely a mixture holds what follows each context.

    Where both do not fit into the models' context, the front is cut.

    Args:
        pairs: tokens of context and continuation.
        texts: what the mixture's prior reads of each.
        greedy: also say whether the continuation is what the mixture would have written.
    """
    most, end = mixture.max_length + 1, mixture.encoder.end
    rows = [np.array([end, *context, *answer][-most:]) for context, answer in pairs]
    found = []
    for row, (_, answer), scored in zip(rows, pairs, mixture.score_tokens(rows, texts, greedy), strict=True):
        own = slice(max(0, len(row) - 1 - len(answer)), None)
        best = scored.likeliest
        same = None if best is None else bool((best[own] == scored.tokens[own]).all())
        found.append(Continuation(float(scored.nats[own].sum()), same))
    return found


def score_exam(mixture: "Mixture", exam: Exam) -> list[np.ndarray]:
    """Loss in nats of every choice of every question, float64 [choices] each."""
    contexts = [exam.context(place) for place in range(len(exam.questions))]
    asked = [(c, choice) for c, q in zip(contexts, exam.questions, strict=True) for choice in q.choices]
    pairs = [encode_pair(mixture.encoder, context, choice) for context, choice in asked]
    nats = np.array([c.nats for c in continuations(mixture, pairs, [context for context, _ in asked])])
    return np.split(nats, np.cumsum([len(q.choices) for q in exam.questions])[:-1])


def grade(exam: Exam, nats: list[np.ndarray]) -> ExamScores:
    """Scores from the loss of every choice, as `score_exam` gives them."""
    accuracy, by_length, per_byte, margin = (np.empty(len(nats)) for _ in range(4))
    for place, (question, found) in enumerate(zip(exam.questions, nats, strict=True)):
        normalised = found / np.array([len(choice.encode()) for choice in question.choices])
        accuracy[place] = _share(found, question.answer)
        by_length[place] = _share(normalised, question.answer)
        per_byte[place] = normalised[question.answer]
        margin[place] = np.delete(normalised, question.answer).min() - normalised[question.answer]
    return ExamScores(accuracy, by_length, per_byte, margin)


def _share(nats: np.ndarray, answer: int) -> float:
    """1 where the answer alone has the least loss, 1/n where n share it, else 0."""
    least = nats == nats.min()
    return float(least[answer]) / float(least.sum())
