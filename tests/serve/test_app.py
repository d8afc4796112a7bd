"""The API as its users meet it: OpenAI's own client over a socket, and requests that are wrong."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("fastapi")
import httpx
import openai
import uvicorn

from splitray.evaluate.mixture import Mixture, Sampling, alone
from splitray.serve.app import build
from splitray.serve.engine import Engine, Limit
from splitray.serve.settings import ServeSettings
from splitray.serve.writer import TextWriter
from tests.support.ensemble import LENGTH, ensemble, tokenizer
from tests.support.ports import free_port

TOKEN = "a token of at least sixteen"
SETTINGS = ServeSettings(max_tokens=32, max_bytes=4096, seconds=60)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    encoder = tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return Mixture(ensemble("llama", encoder.vocabulary), encoder, LENGTH)


@pytest.fixture(scope="module")
def server(mixture: Mixture) -> Iterator[str]:
    """Its address; the server runs in a thread."""
    port = free_port()
    engine = Engine({"auto": mixture, **alone(mixture)}, batch=4, waiting=64)
    app = build(engine, SETTINGS, TOKEN)
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join()
    engine.close()
    assert not engine.alive()


@pytest.fixture
def client(server: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key=TOKEN, max_retries=0)


def test_openais_client_lists_completes_and_streams(client: openai.OpenAI, mixture: Mixture) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["auto", "model 0", "model 1", "model 2"]
    assert client.models.retrieve("auto").id == "auto"
    expected = mixture.generate(["two words"], Sampling(max_tokens=12, temperature=0))[0]
    whole = client.completions.create(model="auto", prompt="two words", max_tokens=12, temperature=0, logprobs=2)
    choice = whole.choices[0]
    assert choice.text == expected.text and choice.finish_reason == expected.finished
    assert choice.logprobs is not None and choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs == pytest.approx([s.log_probability for s in expected.steps], abs=1e-4)
    assert all(len(top) <= 2 for top in choice.logprobs.top_logprobs or [])
    assert whole.usage is not None and whole.usage.completion_tokens == len(expected.steps)
    assert whole.usage.prompt_tokens == len(mixture.encoder.encode(["two words"])[0]) - 1
    stream = client.completions.create(
        model="auto",
        prompt="two words",
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == expected.text
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == len(expected.steps)
    shares = [share for c in chunks if c.choices for share in c.choices[0].model_extra["splitray"]["shares"]]
    assert len(shares) == len(expected.steps) and all(sum(share) == pytest.approx(1, abs=1e-3) for share in shares)


def test_chats_and_several_prompts(client: openai.OpenAI, mixture: Mixture) -> None:
    alone_0 = alone(mixture)["model 0"]
    asked: dict[str, Any] = {
        "model": "model 0",
        "messages": [{"role": "user", "content": "two words"}],
        "max_tokens": 8,
    }
    said = client.chat.completions.create(**asked, temperature=0, logprobs=True)
    expected = alone_0.generate(["two words\n"], Sampling(max_tokens=8, temperature=0))[0]
    assert said.choices[0].message.content == expected.text
    assert said.choices[0].logprobs is not None and len(said.choices[0].logprobs.content or []) == len(expected.steps)
    pieces = list(
        client.chat.completions.create(
            model="model 0",
            messages=[{"role": "user", "content": "two words"}],
            max_tokens=8,
            temperature=0,
            stream=True,
        )
    )
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == expected.text
    several = client.completions.create(model="auto", prompt=["a", "two words"], max_tokens=5, temperature=0)
    for choice, prompt in zip(several.choices, ["a", "two words"], strict=True):
        assert choice.text == mixture.generate([prompt], Sampling(max_tokens=5, temperature=0))[0].text


def test_a_seed_repeats_and_a_stop_stops(client: openai.OpenAI) -> None:
    def write(**more: object) -> str:
        answer = client.completions.create(model="auto", prompt="a", max_tokens=24, **more)  # type: ignore[call-overload]
        return str(answer.choices[0].text)

    assert write(seed=5) == write(seed=5) != write(seed=6)
    text = write(seed=5)
    stop = text[4:6]
    assert write(seed=5, stop=[stop]) == text[: text.index(stop)]


def test_many_at_once_are_each_answered_as_alone(client: openai.OpenAI) -> None:
    def write(number: int) -> str:
        answer = client.completions.create(
            model=["auto", "model 1"][number % 2], prompt=f"word {number % 5}", max_tokens=6, temperature=0
        )
        return str(answer.choices[0].text)

    one_by_one = [write(n) for n in range(10)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(write, range(40)))
    assert together == one_by_one * 4


BODY = {"model": "auto", "prompt": "a"}


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"model": "gpt-4"}, 404, "there is no model 'gpt-4'; there are auto, model 0"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"max_tokens": 33}, 400, "this server writes 32 at most"),
        ({"max_tokens": 32, "prompt": "two words " * 20}, 400, "more than the 47"),
        ({"temperature": 9}, 400, "temperature"),
        ({"n": 3}, 400, "n is not served"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias is not served"),
        ({"prompt": 5}, 400, "prompt"),
        ({"prompt": []}, 400, "1 to 16 prompts"),
        ({"stop": ["a"] * 5}, 400, "at most 4 stops"),
        ({"prompt": "a \ud800"}, 400, "half of a character at place 2"),
        ({"prompt": ["a", "\udc00"]}, 400, "half of a character"),
        ({"stop": "\ud800"}, 400, "half of a character"),
        ({"model": "\ud800"}, 400, "half of a character"),
        ({"prompt": None}, 400, "prompt: Field required"),
        ({"stop": ""}, 400, "a stop must not be empty"),
        ({"stop": ["a", ""]}, 400, "a stop must not be empty"),
        ({"prompt": "x" * 5000}, 413, "4096 bytes"),
    ],
)
def test_what_is_wrong_is_said(server: str, changed: dict[str, object], status: int, said: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    answer = httpx.post(f"{server}/v1/completions", content=json.dumps(BODY | changed), headers=headers)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


def test_what_is_null_has_its_default(server: str) -> None:
    """OpenAI's reference has null for most fields, and clients send it."""
    nulls = dict.fromkeys(("max_tokens", "temperature", "top_p", "stream", "stop", "logprobs", "n", "stream_options"))
    body = {"model": "auto", "prompt": "a"} | nulls
    answer = httpx.post(f"{server}/v1/completions", json=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] <= 16
    said = {"model": "auto", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2} | {"temperature": None}
    answer = httpx.post(f"{server}/v1/chat/completions", json=said, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text


def test_nobody_without_the_token(server: str) -> None:
    for headers in ({}, {"authorization": "Bearer no"}, {"authorization": TOKEN}):
        for path in ("/v1/models", "/v1/completions", "/docs", "/openapi.json", "/nothing"):
            answer = httpx.request("GET" if path != "/v1/completions" else "POST", server + path, headers=headers)
            assert answer.status_code == 401, (path, headers)
            assert "model 0" not in answer.text
    assert httpx.get(f"{server}/health").json()["alive"] is True
    page = httpx.get(server)
    assert page.status_code == 200 and "model 0" not in page.text and TOKEN not in page.text


def test_a_body_without_a_length_and_one_that_is_no_json(server: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    long = httpx.post(f"{server}/v1/completions", content=(b"x" * 1000 for _ in range(50)), headers=headers)
    assert long.status_code == 413
    broken = httpx.post(f"{server}/v1/completions", content=b"{", headers=headers)
    assert broken.status_code == 400 and "JSON" in broken.json()["error"]["message"]


def test_who_goes_away_is_not_written_for(server: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    body = BODY | {"max_tokens": 32, "stream": True, "temperature": 2}
    for _ in range(8):
        with httpx.stream("POST", f"{server}/v1/completions", json=body, headers=headers) as answer:
            next(answer.iter_lines())
    for _ in range(200):
        if httpx.get(f"{server}/health").json()["waiting"] == 0:
            break
    done = httpx.post(f"{server}/v1/completions", json=BODY, headers=headers, timeout=30)
    assert done.status_code == 200


def test_too_many_are_turned_away(mixture: Mixture) -> None:
    """A queue of one: whoever comes while it is full is told to come again."""
    engine = Engine({"auto": mixture}, batch=1, waiting=1)
    from starlette.testclient import TestClient

    app = TestClient(build(engine, SETTINGS, TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda _: app.post("/v1/completions", json=BODY | {"max_tokens": 24}, headers=headers), range(12))
        )
    engine.close()
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429} and all(a.headers["retry-after"] for a in answers if a.status_code == 429)


def test_a_request_has_its_time(mixture: Mixture) -> None:
    from starlette.testclient import TestClient

    engine = Engine({"auto": mixture}, batch=1)
    app = TestClient(build(engine, SETTINGS.model_copy(update={"seconds": 1e-3}), TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert app.post("/v1/completions", json=BODY, headers=headers).status_code == 504
    streamed = app.post("/v1/completions", json=BODY | {"stream": True}, headers=headers)
    assert streamed.status_code == 504
    engine.close()


def test_the_prompts_of_a_request_share_its_time(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins when the first has ended: by then the time is over here."""
    from starlette.testclient import TestClient

    class Over(Limit):
        @property
        def deadline(self) -> float:
            self._left, left = -1.0, self._left
            return time.monotonic() + left

        @deadline.setter
        def deadline(self, value: float) -> None:
            self._left = self.seconds

    monkeypatch.setattr("splitray.serve.app.Limit", Over)
    engine = Engine({"auto": mixture}, batch=1)
    body = BODY | {"stream": True, "prompt": ["one", "two"], "max_tokens": 2}
    app = TestClient(build(engine, SETTINGS, TOKEN))
    told = app.post("/v1/completions", json=body, headers={"authorization": f"Bearer {TOKEN}"}).text
    engine.close()
    assert '"index": 0' in told.replace('"index":0', '"index": 0') and "[DONE]" not in told
    assert "60 s" in told, told[-300:]


@pytest.mark.parametrize("stops", [(), ("é",), ("wörd", "ds"), ("never",)])
def test_text_comes_in_whole_characters_and_ends_before_its_stop(mixture: Mixture, stops: tuple[str, ...]) -> None:
    text = "naïve wörds 日本 ends"
    tokens = mixture.encoder.encode([text])[0][:-1].tolist()
    writer = TextWriter(mixture.encoder, stops)
    pieces = [writer.add(token) for token in tokens] + [writer.close()]
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert "".join(pieces) == (text[: min(ends)] if ends else text)
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)
    assert json.dumps(pieces)
