"""Tokens to text as they come: no half character leaves, and nothing that may turn out to be a stop."""

from collections.abc import Sequence

import numpy as np

from splitray.corpus.tokenizer import Encoder

_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextWriter:
    """One request's text.

    Args:
        stops: texts at which it ends; they are not part of it.
    """

    def __init__(self, encoder: Encoder, stops: Sequence[str] = ()) -> None:
        self._encoder, self._stops = encoder, [stop for stop in stops if stop]
        self._tokens: list[int] = []
        # The last piece is decoded again with the new one: how a token looks depends on the one before it.
        self._last, self._done = 0, 0
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is certain after one more token; empty once a stop was met."""
        self._tokens.append(token)
        return self._release(self._held + self._fresh(whole=False), end=False)

    def close(self) -> str:
        """What is left at the end."""
        return self._release(self._held + self._fresh(whole=True), end=True)

    def _fresh(self, whole: bool) -> str:
        known, text = self._decode(self._tokens[self._last : self._done]), self._decode(self._tokens[self._last :])
        if len(text) <= len(known) or (text.endswith(_BROKEN) and not whole):
            return ""
        self._last, self._done = self._done, len(self._tokens)
        return text[len(known) :]

    def _decode(self, tokens: list[int]) -> str:
        return self._encoder.decode([np.array([*tokens, self._encoder.end])])[0] if tokens else ""

    def _release(self, text: str, end: bool) -> str:
        if self.stopped:
            return ""
        places = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        keep = 0 if end else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop begins with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
