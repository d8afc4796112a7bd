"""Pieces of text as OpenAI's answers: whole ones, and chunks of a stream.

Beside the standard's fields a choice carries `splitray`: for each token the share that each model had.
"""

import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from splitray.evaluate.mixture import Mixture, Step
from splitray.serve.engine import Piece

_DIGITS = 4  # of a share


class Answer(ABC):
    """The answer to one request, which may have several prompts.

    Args:
        model: the name that was asked for.
        logprobs: whether log-probabilities were asked for.
    """

    prefix: str
    kind: str
    chunk_kind: str

    def __init__(self, model: str, logprobs: bool) -> None:
        self.head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.logprobs = logprobs

    def begin(self, mixture: Mixture, prompt_tokens: list[int]) -> None:
        """Args: prompt_tokens: of each prompt."""
        self.mixture, self.prompt_tokens = mixture, sum(prompt_tokens)
        self.pieces: list[list[Piece]] = [[] for _ in prompt_tokens]

    def add(self, place: int, piece: Piece) -> dict[str, Any]:
        """Take a piece of one prompt's text; its chunk, for a stream."""
        first = not self.pieces[place]
        self.pieces[place].append(piece)
        choice = {"index": place, "finish_reason": piece.finished, **self._part(piece, first)}
        return self._told(self.chunk_kind, [choice | self._extra(piece.steps)])

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        choices = []
        for place, pieces in enumerate(self.pieces):
            joined = Piece.joined(pieces)
            choices.append(
                {"index": place, "finish_reason": joined.finished, **self._full(joined)} | self._extra(joined.steps)
            )
        return self._told(self.kind, choices) | {"usage": self._usage()}

    def usage_chunk(self) -> dict[str, Any]:
        """A stream's last chunk: the counts."""
        return self._told(self.chunk_kind, []) | {"usage": self._usage()}

    def _told(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.head, "object": kind, "choices": choices}

    def _usage(self) -> dict[str, int]:
        written = sum(len(piece.steps) for pieces in self.pieces for piece in pieces)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        }

    def _extra(self, steps: tuple[Step, ...]) -> dict[str, Any]:
        if len(self.mixture.names) == 1:
            return {}
        shares = [[round(float(share), _DIGITS) for share in step.weights] for step in steps]
        return {"splitray": {"models": list(self.mixture.names), "shares": shares}}

    def _text(self, token: int) -> str:
        encoder = self.mixture.encoder
        return "" if token == encoder.end else encoder.decode([np.array([token, encoder.end])])[0]

    @abstractmethod
    def _part(self, piece: Piece, first: bool) -> dict[str, Any]:
        """A chunk's own fields."""

    @abstractmethod
    def _full(self, piece: Piece) -> dict[str, Any]:
        """A whole answer's own fields."""


class CompletionAnswer(Answer):
    """`text_completion`."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def _full(self, piece: Piece) -> dict[str, Any]:
        return {"text": piece.text, "logprobs": self._logprobs(piece.steps) if self.logprobs else None}

    def _part(self, piece: Piece, first: bool) -> dict[str, Any]:
        return self._full(piece)

    def _logprobs(self, steps: tuple[Step, ...]) -> dict[str, Any]:
        tokens = [self._text(step.token) for step in steps]
        return {
            "tokens": tokens,
            "token_logprobs": [step.log_probability for step in steps],
            "top_logprobs": [{self._text(t): p for t, p in step.alternatives} for step in steps],
            "text_offset": np.cumsum([0, *map(len, tokens[:-1])]).tolist() if tokens else [],
        }


class ChatAnswer(Answer):
    """`chat.completion`."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def _full(self, piece: Piece) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": piece.text}, "logprobs": self._logprobs(piece.steps)}

    def _part(self, piece: Piece, first: bool) -> dict[str, Any]:
        role = {"role": "assistant"} if first else {}
        return {"delta": {**role, "content": piece.text}, "logprobs": self._logprobs(piece.steps)}

    def _logprobs(self, steps: tuple[Step, ...]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {"content": [self._token(s.token, s.log_probability) | {"top_logprobs": self._top(s)} for s in steps]}

    def _top(self, step: Step) -> list[dict[str, Any]]:
        return [self._token(token, log_probability) for token, log_probability in step.alternatives]

    def _token(self, token: int, log_probability: float) -> dict[str, Any]:
        text = self._text(token)
        return {"token": text, "logprob": log_probability, "bytes": list(text.encode())}
