"""Answers to prompts told as answers to chats.

Engines that are sent a chat write its text with a template, and then read special tokens in it: a user who types the
end token would end the document. So they are sent tokens, as for completions, and what they answer is told here in the
other form.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

_TOKEN = "token_id:"  # vLLM's name of a token that is asked for by number
_DATA, _DONE, _END = "data: ", "[DONE]", "\n\n"


class ChatForm:
    """The form of one chat's answer.

    Args:
        text: of a token.
        top: alternatives of each token that are told; None where no log-probabilities were asked for.
    """

    def __init__(self, text: Callable[[int], str], top: int | None) -> None:
        self._text, self._top = text, top
        self._begun = False

    def whole(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """A `text_completion` of one prompt as a `chat.completion`."""
        (choice,) = told["choices"]
        message = {"role": "assistant", "content": choice["text"]}
        return self._answer(told, "chat.completion", [self._choice(choice, {"message": message})])

    def chunk(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """A chunk of a stream; errors stay as they are. The last may have no choice but the counts."""
        if "choices" not in told:
            return dict(told)
        choices = []
        for choice in told["choices"]:
            role = {} if self._begun else {"role": "assistant"}
            self._begun = True
            choices.append(self._choice(choice, {"delta": {**role, "content": choice["text"]}}))
        return self._answer(told, "chat.completion.chunk", choices)

    async def stream(self, chunks: AsyncIterator[str | bytes | memoryview]) -> AsyncGenerator[str]:
        """The events of a stream, each translated as soon as it is whole."""
        rest = ""
        async for chunk in chunks:
            rest += chunk if isinstance(chunk, str) else bytes(chunk).decode()
            *events, rest = rest.split(_END)
            for event in events:
                yield self._event(event)
        if rest.strip():
            yield self._event(rest)

    def _event(self, event: str) -> str:
        data = event.strip().removeprefix(_DATA)
        if not event.strip().startswith(_DATA) or data == _DONE:
            return event + _END
        return f"{_DATA}{json.dumps(self.chunk(json.loads(data)))}{_END}"

    def _answer(self, told: Mapping[str, Any], kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = "chatcmpl-" + str(told["id"]).removeprefix("cmpl-")
        answer = {"id": name, "object": kind, "created": told["created"], "model": told["model"], "choices": choices}
        return answer | ({"usage": told["usage"]} if told.get("usage") is not None else {})

    def _choice(self, choice: Mapping[str, Any], text: dict[str, Any]) -> dict[str, Any]:
        logprobs = choice.get("logprobs") if self._top is not None else None
        found = {"index": choice["index"], **text, "finish_reason": choice.get("finish_reason")}
        return found | {"logprobs": None if logprobs is None else {"content": self._tokens(logprobs)}}

    def _tokens(self, logprobs: Mapping[str, Any]) -> list[dict[str, Any]]:
        tables = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
        rows = zip(logprobs["tokens"], logprobs["token_logprobs"], tables, strict=True)
        return [
            self._token(name, value) | {"top_logprobs": self._likeliest(table or {})} for name, value, table in rows
        ]

    def _likeliest(self, table: Mapping[str, float]) -> list[dict[str, Any]]:
        """At most as many as were asked for: engines add the token that was written."""
        ordered = sorted(table.items(), key=lambda item: -item[1])
        return [self._token(name, value) for name, value in ordered[: self._top]]

    def _token(self, name: str, value: float) -> dict[str, Any]:
        text = self._text(int(name.removeprefix(_TOKEN)))
        return {"token": text, "logprob": value, "bytes": list(text.encode())}
