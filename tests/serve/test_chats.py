"""Answers to prompts told as answers to chats. The answers are as vLLM 0.29 writes them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from splitray.serve.chats import ChatForm

WORDS = {3: "one", 4: " two", 5: "\n", 0: ""}
HEAD = {"id": "cmpl-7", "object": "text_completion", "created": 11, "model": "base"}
USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
LOGPROBS = {
    "text_offset": [0, 3],
    "token_logprobs": [-1.5, -0.1],
    "tokens": ["token_id:3", "token_id:4"],
    "top_logprobs": [{"token_id:3": -1.5, "token_id:5": -0.5, "token_id:4": -3.0}, {"token_id:4": -0.1}],
}


def choice(text: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": None, "stop_reason": None} | more


def told(form: ChatForm, chunks: Iterable[str | bytes]) -> list[str]:
    async def arriving() -> AsyncIterator[str | bytes]:
        for chunk in chunks:
            yield chunk

    async def all_of_it() -> list[str]:
        return [event async for event in form.stream(arriving())]

    return asyncio.run(all_of_it())


def event(**fields: Any) -> str:
    return f"data: {json.dumps(HEAD | fields)}\n\n"


def test_a_whole_answer_is_one_that_openais_client_reads() -> None:
    chat = pytest.importorskip("openai.types.chat")
    answer = ChatForm(WORDS.__getitem__, 2).whole(
        HEAD | {"choices": [choice("one two", logprobs=LOGPROBS, finish_reason="stop")], "usage": USAGE}
    )
    read = chat.ChatCompletion.model_validate(answer)
    assert (read.id, read.object, read.model) == ("chatcmpl-7", "chat.completion", "base")
    assert read.choices[0].message.content == "one two" and read.choices[0].finish_reason == "stop"
    assert read.usage.total_tokens == 6
    first, second = read.choices[0].logprobs.content
    assert (first.token, first.logprob, first.bytes) == ("one", -1.5, list(b"one"))
    assert [(t.token, t.logprob) for t in first.top_logprobs] == [("\n", -0.5), ("one", -1.5)], "the likeliest two"
    assert [t.token for t in second.top_logprobs] == [" two"]


def test_log_probabilities_come_only_where_they_were_asked_for() -> None:
    answer = HEAD | {"choices": [choice("one", logprobs=LOGPROBS)]}
    assert ChatForm(WORDS.__getitem__, None).whole(answer)["choices"][0]["logprobs"] is None
    none = ChatForm(WORDS.__getitem__, 0).whole(answer)["choices"][0]["logprobs"]["content"]
    assert [(t["token"], t["top_logprobs"]) for t in none] == [("one", []), (" two", [])]


@pytest.mark.parametrize("cut", [1, 7, 50, 10_000])
def test_a_stream_is_told_event_by_event_however_it_arrives(cut: int) -> None:
    whole = event(choices=[choice("one")]) + event(choices=[choice(" two", finish_reason="length")])
    whole += event(choices=[], usage=USAGE) + "data: [DONE]\n\n"
    events = told(ChatForm(WORDS.__getitem__, None), [whole[at : at + cut] for at in range(0, len(whole), cut)])
    assert events[-1] == "data: [DONE]\n\n" and all(e.endswith("\n\n") for e in events)
    chunks = [json.loads(e.removeprefix("data: ")) for e in events[:-1]]
    assert [c["object"] for c in chunks] == ["chat.completion.chunk"] * 3
    assert [c["choices"][0]["delta"] for c in chunks[:2]] == [
        {"role": "assistant", "content": "one"},
        {"content": " two"},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:2]] == [None, "length"]
    assert chunks[2]["choices"] == [] and chunks[2]["usage"] == USAGE and "usage" not in chunks[0]


def test_an_error_inside_of_a_stream_stays_one() -> None:
    error = {"error": {"message": "the engine is gone", "type": "InternalServerError", "code": 500}}
    events = told(ChatForm(WORDS.__getitem__, None), [f"data: {json.dumps(error)}\n\n".encode(), "data: [DONE]\n\n"])
    assert json.loads(events[0].removeprefix("data: ")) == error and events[1] == "data: [DONE]\n\n"
