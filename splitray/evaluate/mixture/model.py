"""A mixture of causal LMs that scores and writes text. Its weights are in `weights`, its start in `prior`."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from splitray.corpus.tokenizer import Encoder
from splitray.errors import UserError
from splitray.evaluate.mixture.batch import Batch, Read
from splitray.evaluate.mixture.prior import Prior, UniformPrior
from splitray.evaluate.mixture.sampling import Sampling, alternatives, draw
from splitray.evaluate.mixture.weights import BAYES, Gate, Update

_PIECE = 64  # tokens of a given text that are read between two looks at the weights, at most
_ROWS = 16  # texts at once
_LOGITS = 1 << 24  # entries that a model writes for a piece: 64 MB in fp32


@dataclass(frozen=True)
class Scored:
    """A text under the mixture.

    Args:
        tokens: int64 [tokens].
        nats: the loss of each, float64 [tokens].
        weights: the models' weights before each, float64 [tokens, models].
        running: how often each was read by a model, int64 [tokens]. A model that stops reads its piece of the text to
            the end. One that is asked again, or comes back, reads the latest tokens once more.
        likeliest: the token that the mixture held likeliest in the place of each, int64 [tokens]; None where it was not
            asked for.
    """

    tokens: np.ndarray
    nats: np.ndarray
    weights: np.ndarray
    running: np.ndarray
    likeliest: np.ndarray | None = None


@dataclass(frozen=True)
class Step:
    """One written token of one row.

    Args:
        log_probability: of the token under the mixture, before temperature.
        weights: the models' weights before it, float64 [models].
        alternatives: the likeliest tokens with their log-probabilities.
    """

    row: int
    token: int
    log_probability: float
    weights: np.ndarray
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Generated:
    """What was written for one prompt. `finished`: "stop" at the end token, "length" at a limit."""

    text: str
    finished: str
    steps: tuple[Step, ...] = field(default=(), repr=False)


class Mixture:
    """Models of one tokenizer as one model.

    Args:
        models: `transformers` causal LMs by name, on one device: the specialists in the prior's order, then the base.
        encoder: their tokenizer.
        max_length: tokens of context that the models were trained with.
        prior: what is believed before the first token; uniform where None.
        gate: when a model stops running.
        update: how the weights move past a token; by Bayes' rule where None.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        encoder: Encoder,
        max_length: int,
        prior: Prior | None = None,
        gate: Gate | None = None,
        update: Update | None = None,
    ) -> None:
        if not models:
            raise ValueError("a mixture has at least one model")
        self.names = tuple(models)
        self.models = [model.eval() for model in models.values()]
        self.encoder, self.max_length = encoder, max_length
        self.prior: Prior = prior or UniformPrior(len(models))
        self.gate, self.update = gate or Gate(), update or BAYES
        longest = _PIECE if len(models) > 1 else max_length
        self._piece = max(1, min(longest, _LOGITS // (_ROWS * encoder.vocabulary)))

    # given text

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Each text's loss, token by token, and who carried it; the end token is part of a text.

        A text stands alone: it begins after an end token, as every document did in training.
        """
        encoded = self.encoder.encode(list(texts))
        return self.score_tokens([np.append(self.encoder.end, tokens) for tokens in encoded], texts)

    def score_tokens(self, rows: Sequence[np.ndarray], texts: Sequence[str], likeliest: bool = False) -> list[Scored]:
        """The loss of every token of some rows but the first.

        A row beyond `max_length` is read in windows, and the weights go on from one to the next.

        Args:
            rows: integers [tokens], at least two each; the first is given.
            texts: what the prior reads of each row.
            likeliest: also find the likeliest token of each place. It reads every model's whole distribution again.
        """
        rows = [np.asarray(row, dtype=np.int64) for row in rows]
        prior = self.prior.log_weights(list(texts)) if rows else np.empty((0, len(self.names)))
        order = np.argsort([len(row) for row in rows], kind="stable")
        found: dict[int, Scored] = {}
        for begin in range(0, len(order), _ROWS):
            some = order[begin : begin + _ROWS]
            found |= dict(zip(some.tolist(), self._score([rows[r] for r in some], prior[some], likeliest), strict=True))
        return [found[row] for row in range(len(rows))]

    def _score(self, rows: list[np.ndarray], log_prior: np.ndarray, likeliest: bool) -> Iterator[Scored]:
        lengths = np.array([len(row) - 1 for row in rows])
        count, width = len(rows), int(lengths.max())
        text = np.full((count, width + 1), self.encoder.end, dtype=np.int64)  # padding on the right changes nothing
        for place, row in enumerate(rows):
            text[place, : len(row)] = row
        nats = np.zeros((count, width))
        best = np.zeros((count, width), dtype=np.int64)
        weights = np.zeros((count, width, len(self.names)))
        batch = Batch(self.models, log_prior, self.gate, self.update, self._piece)
        for piece in self._pieces(width, lambda begin: batch.ahead(lengths > begin)):
            if piece.start and piece.start % self.max_length == 0:
                batch.begin_window()
            reads = batch.read(text[:, piece], None, lengths > piece.start)
            own = batch.nats(reads, text[:, piece.start + 1 : piece.stop + 1])
            if len(self.models) == 1:  # nothing moves
                weights[:, piece], nats[:, piece] = 1.0, own[:, :, 0]
            else:
                for place in range(piece.start, piece.stop):
                    weights[:, place] = batch.weights
                    nats[:, place] = batch.follow(own[:, place - piece.start], lengths > place)
            if likeliest:
                best[:, piece] = batch.likeliest(reads, weights[:, piece])
        for place, row in enumerate(rows):
            n = len(row) - 1
            found = best[place, :n] if likeliest else None
            yield Scored(row[1:], nats[place, :n], weights[place, :n], batch.reads[place, :n], found)

    def _pieces(self, width: int, most: Callable[[int], int]) -> Iterator[slice]:
        """Stretches of a text; none lies in two windows, and none is longer than `most` says at its beginning."""
        begin = 0
        while begin < width:
            window = begin - begin % self.max_length + self.max_length
            stop = min(begin + most(begin), window, width)
            yield slice(begin, stop)
            begin = stop

    # written text

    def generate(self, prompts: Sequence[str], sampling: Sampling | None = None) -> list[Generated]:
        """What the mixture writes after each prompt.

        Raises:
            UserError: a prompt leaves no room for a token within `max_length`.
        """
        steps: list[list[Step]] = [[] for _ in prompts]
        for step in self.stream(prompts, sampling or Sampling()):
            steps[step.row].append(step)
        return [self._written(row) for row in steps]

    def stream(
        self,
        prompts: Sequence[str],
        sampling: Sampling | Sequence[Sampling],
        wanted: Callable[[int], bool] | None = None,
    ) -> Iterator[Step]:
        """The tokens written for the prompts, as they come, the end token included. Errors as of `generate`.

        Args:
            sampling: for all rows, or one each.
            wanted: asked before each token of a row; where it says no, the row has ended.
        """
        if not prompts:
            return
        each = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        text, mask = self._aligned(prompts)
        room = np.minimum(self.max_length - mask.sum(axis=1), [s.max_tokens for s in each])
        padding = mask if mask.min() == 0 else None
        batch = Batch(self.models, self.prior.log_weights(list(prompts)), self.gate, self.update, self._piece)
        reads = self._prompt(batch, text, padding)
        live = np.ones(len(text), dtype=bool)
        draws = [torch.Generator().manual_seed((s.seed << 20) + row) for row, s in enumerate(each)]
        for count in itertools.count(1):
            mixed = batch.mixed(reads)
            chosen = np.full(len(text), self.encoder.end, dtype=np.int64)
            for row in np.flatnonzero(live).tolist():
                if wanted is not None and not wanted(row):
                    continue
                chosen[row] = draw(mixed[row], each[row], draws[row])
                log_probability = float(mixed[row, chosen[row]])
                others = alternatives(mixed[row], each[row].alternatives)
                yield Step(row, int(chosen[row]), log_probability, batch.weights[row], others)
            if len(self.models) > 1:
                batch.follow(batch.nats(_last(reads), chosen[:, None])[:, 0], live)
            live &= (chosen != self.encoder.end) & (count < room)
            if not live.any():
                return
            shown = None if padding is None else np.ones((len(text), 1), dtype=np.int64)
            reads = batch.read(chosen[:, None], shown, live)

    def count(self, prompt: str) -> int:
        """Tokens of a prompt. With those that are written after it they are fewer than `max_length`."""
        return len(self.encoder.encode([prompt])[0]) - 1

    def _aligned(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Prompts after an end token, padded on the left, int64 [rows, tokens], and where they are, 0 or 1."""
        encoded = [[self.encoder.end, *tokens[:-1].tolist()] for tokens in self.encoder.encode(list(prompts))]
        for row, tokens in enumerate(encoded):
            if len(tokens) >= self.max_length:
                raise UserError(
                    f"prompt {row} has {len(tokens) - 1} tokens, and these models read {self.max_length - 1} at most, "
                    "their answer included: shorten it"
                )
        width = max(len(tokens) for tokens in encoded)
        text = np.full((len(encoded), width), self.encoder.end, dtype=np.int64)
        mask = np.zeros_like(text)
        for row, tokens in enumerate(encoded):
            text[row, width - len(tokens) :], mask[row, width - len(tokens) :] = tokens, 1
        return text, mask

    def _prompt(self, batch: Batch, text: np.ndarray, mask: np.ndarray | None) -> list[Read]:
        """Read the prompts and let the weights follow; what the models expect after the last piece."""
        everyone = np.ones(len(text), dtype=bool)
        reads: list[Read] = []
        for piece in self._pieces(text.shape[1], lambda begin: batch.ahead(everyone)):
            reads = batch.read(text[:, piece], None if mask is None else mask[:, piece], everyone)
            if len(self.models) == 1:
                continue
            targets = text[:, piece.start + 1 : piece.stop + 1]
            known = [Read(r.model, r.rows, r.log_probabilities[:, : targets.shape[1]]) for r in reads]
            own = batch.nats(known, targets)
            for place in range(targets.shape[1]):
                rows = everyone if mask is None else mask[:, piece.start + place] > 0
                batch.follow(own[:, place], rows)
        return reads

    def _written(self, steps: list[Step]) -> Generated:
        ended = bool(steps) and steps[-1].token == self.encoder.end
        tokens = [step.token for step in steps[: len(steps) - ended]]
        text = self.encoder.decode([np.array([*tokens, self.encoder.end])])[0]
        return Generated(text, "stop" if ended else "length", tuple(steps))


def _last(reads: list[Read]) -> list[Read]:
    return [Read(read.model, read.rows, read.log_probabilities[:, -1:]) for read in reads]
