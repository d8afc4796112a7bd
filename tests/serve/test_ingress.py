"""The ingress over vLLM's engines, with the classes of requests and answers that Ray and vLLM have.

The engines are stand-ins: tiny models on the CPU that answer as vLLM does.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: the extra serve-gpu, in an environment of its own")
import ray
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.llm import LLMConfig, LLMServer
from ray.serve.llm.openai_api_models import ErrorResponse
from starlette.testclient import TestClient

from splitray.evaluate.mixture import OPEN, Mixture, Sampling, alone, load_mixture, parts_of
from splitray.serve.engines import Server, application, configs
from splitray.serve.ingress import ANSWERED_BY, Ingress
from splitray.serve.settings import ServeSettings
from tests.support.engines import Engine
from tests.support.ensemble import write_run
from tests.support.planted import documents

TOKEN = "a token of at least sixteen"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
SETTINGS = ServeSettings(engine="vllm", max_tokens=16, max_bytes=4096, seconds=30)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def mixture(run: Path) -> Mixture:
    return load_mixture(run, gate=OPEN)


@pytest.fixture
def engines(mixture: Mixture) -> dict[str, Engine]:
    return {name: Engine(name, model, mixture.encoder.end) for name, model in zip(mixture.names, mixture.models)}


def client_of(engines: dict[str, Engine], run: Path, settings: ServeSettings = SETTINGS) -> TestClient:
    app = Ingress(engines, str(run), settings, TOKEN).__serve_build_asgi_app__()
    return TestClient(app, headers=HEADERS, raise_server_exceptions=False)


@pytest.fixture
def client(engines: dict[str, Engine], run: Path) -> Iterator[TestClient]:
    with client_of(engines, run) as client:
        yield client


def test_auto_is_answered_by_the_model_that_the_exact_mixture_weighs_most(
    client: TestClient, mixture: Mixture, engines: dict[str, Engine]
) -> None:
    chosen = set()
    for prompt in [row["text"][:50] for row in documents(domains=2, each=4)] + [""]:
        step = next(mixture.stream([prompt], Sampling(max_tokens=1, temperature=0)))
        name = mixture.names[int(np.argmax(step.weights))]
        answer = client.post("/v1/completions", json={"model": "auto", "prompt": prompt, "max_tokens": 3})
        assert answer.status_code == 200, answer.text
        assert answer.headers[ANSWERED_BY] == answer.json()["model"] == name
        assert answer.json()["choices"][0]["text"].startswith(f"{name} writes 3")
        chosen.add(name)
        sent = engines[name].asked[-1]
        assert sent.prompt == [[mixture.encoder.end, *mixture.encoder.encode([prompt])[0][:-1].tolist()]]
    assert len(chosen) > 1
    assert not any(engine.cancelled for engine in engines.values()), "what was answered is not cancelled"


def test_a_prefix_is_all_that_every_model_reads(engines: dict[str, Engine], run: Path) -> None:
    client = client_of(engines, run, SETTINGS.model_copy(update={"prefix": 5}))
    assert client.post("/v1/completions", json={"model": "auto", "prompt": "two words " * 3}).status_code == 200
    asked = [body for engine in engines.values() for body in engine.asked if body.prompt_logprobs is not None]
    assert len(asked) == len(engines) and all(len(b.prompt) == 6 and b.max_tokens == 1 for b in asked)


def test_a_named_model_is_asked_alone_and_takes_several_prompts(client: TestClient, engines: dict[str, Engine]) -> None:
    body = {"model": "1_second", "prompt": ["a", "two words"], "max_tokens": 2, "seed": 7, "stop": "x", "top_p": 0.5}
    answer = client.post("/v1/completions", json=body | {"temperature": 0})
    assert answer.headers[ANSWERED_BY] == "1_second" and len(answer.json()["choices"]) == 2
    assert not engines["0_first"].asked and not engines["base"].asked
    (sent,) = engines["1_second"].asked
    assert (sent.seed, sent.stop, sent.top_p, sent.temperature, sent.max_tokens) == (7, ["x"], 0.5, 0, 2)
    refused = client.post("/v1/completions", json=body | {"model": "auto"})
    assert refused.status_code == 400 and "one prompt" in refused.json()["error"]["message"]


def test_chats(client: TestClient, engines: dict[str, Engine], mixture: Mixture) -> None:
    said = [{"role": "user", "content": "two words"}, {"role": "assistant", "content": "and more"}]
    answer = client.post("/v1/chat/completions", json={"model": "auto", "messages": said})
    step = next(mixture.stream(["two words\nand more\n"], Sampling(max_tokens=1, temperature=0)))
    name = mixture.names[int(np.argmax(step.weights))]
    assert answer.status_code == 200 and answer.headers[ANSWERED_BY] == answer.json()["model"] == name
    told, sent = answer.json(), engines[name].asked[-1]
    assert told["object"] == "chat.completion" and told["id"].startswith("chatcmpl-")
    assert told["choices"][0]["message"]["content"] == f"{name} writes {sent.max_tokens} after {len(sent.prompt)}"
    assert told["choices"][0]["logprobs"] is None and sent.logprobs is None
    assert sent.max_tokens == SETTINGS.max_tokens


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|endoftext|> b", "naïve 日本"])
def test_what_looks_like_a_special_token_in_a_chat_is_text(
    client: TestClient, engines: dict[str, Engine], mixture: Mixture, text: str
) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": text}]}
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    (sent,), end = engines["base"].asked, mixture.encoder.end
    assert sent.prompt[0] == end and end not in sent.prompt[1:]
    assert mixture.encoder.decode([np.array([*sent.prompt[1:], end])]) == [f"{text}\n"]


def test_a_chats_log_probabilities_are_the_models(client: TestClient, mixture: Mixture) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "two words"}], "temperature": 0}
    told = client.post("/v1/chat/completions", json=body | {"logprobs": True, "top_logprobs": 3}).json()
    (token,) = told["choices"][0]["logprobs"]["content"]
    ours = alone(mixture)["base"]
    step = next(ours.stream(["two words\n"], Sampling(max_tokens=1, temperature=0, alternatives=3)))
    decode = mixture.encoder.decode
    texts = [decode([np.array([t, mixture.encoder.end])])[0] for t, _ in step.alternatives]
    assert [t["token"] for t in token["top_logprobs"]] == texts
    assert [t["logprob"] for t in token["top_logprobs"]] == pytest.approx([p for _, p in step.alternatives], abs=1e-4)


def test_a_chats_stream_has_chunks_of_a_chat(client: TestClient) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "two words"}], "stream": True}
    answer = client.post("/v1/chat/completions", json=body)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert answer.headers[ANSWERED_BY] == "base" and events[-1] == "[DONE]"
    deltas = [json.loads(e)["choices"][0]["delta"] for e in events[:-1]]
    assert deltas == [{"role": "assistant", "content": "one"}, {"content": "two"}]


def test_streams_say_who_writes_and_end_with_their_time(engines: dict[str, Engine], run: Path) -> None:
    body = {"model": "auto", "prompt": "two words", "stream": True}
    answer = client_of(engines, run).post("/v1/completions", json=body)
    assert answer.headers[ANSWERED_BY] in engines and answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert [json.loads(line[6:])["choices"][0]["text"] for line in lines[:-1]] == ["one", "two"]
    assert lines[-1] == "data: [DONE]" and not any(engine.cancelled for engine in engines.values())
    engines["base"].wait = 0.4
    late = client_of(engines, run, SETTINGS.model_copy(update={"seconds": 1.0}))
    told = late.post("/v1/completions", json=body | {"model": "base"})
    assert told.status_code == 200 and "one" in told.text
    assert json.loads(told.text.strip().split("\n\n")[-1][6:])["error"]["message"].endswith("within 1 s")
    assert engines["base"].cancelled == 1, "an engine does not write for nobody"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["auto", "base"])
def test_a_request_has_its_time(engines: dict[str, Engine], run: Path, model: str, stream: bool) -> None:
    engines["base"].wait = 5.0
    client = client_of(engines, run, SETTINGS.model_copy(update={"seconds": 0.3}))
    answer = client.post("/v1/completions", json={"model": model, "prompt": "a", "stream": stream})
    assert answer.status_code == 504 and engines["base"].cancelled == 1


def test_faults_of_engines_are_told_as_errors(client: TestClient, engines: dict[str, Engine]) -> None:
    refused = ErrorResponse(error={"message": "too long for it", "type": "BadRequestError", "code": 400})
    for fault, status, told in (
        (BackPressureError(num_queued_requests=9, max_queued_requests=9), 429, "requests wait already"),
        (RayActorError(), 500, "the engine of base failed"),
        (refused, 400, "too long for it"),
    ):
        engines["base"].fault = fault
        for model in ("auto", "base"):
            for stream in (False, True):
                answer = client.post("/v1/completions", json={"model": model, "prompt": "a", "stream": stream})
                assert answer.status_code == status and told in answer.json()["error"]["message"], answer.text
    engines["base"].fault = None
    assert client.post("/v1/completions", json={"model": "auto", "prompt": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"model": "gpt-4"}, 404, "there is no model 'gpt-4'; there are auto, 0_first"),
        ({"model": "base:adapter"}, 404, "there is no model"),
        ({"max_tokens": 17}, 400, "this server writes 16 at most"),
        ({"n": 3}, 400, "n is not served"),
        ({"prompt": "x" * 5000}, 413, "4096 bytes"),
        ({"prompt": "two words " * 300}, 400, "these models read"),
    ],
)
def test_limits_are_those_of_the_other_engine(
    client: TestClient, engines: dict[str, Engine], changed: dict[str, object], status: int, said: str
) -> None:
    answer = client.post("/v1/completions", json={"model": "auto", "prompt": "a"} | changed)
    assert answer.status_code == status and said in answer.json()["error"]["message"], answer.text
    assert not any(engine.asked for engine in engines.values())


def test_no_field_of_vllms_own_passes(client: TestClient, engines: dict[str, Engine]) -> None:
    own = {"ignore_eos": True, "min_tokens": 9, "prompt_logprobs": 5, "structured_outputs": {"regex": "(a+)+"}}
    body = {"model": "base", "prompt": "a", **own}
    assert client.post("/v1/completions", json=body).status_code == 200
    (sent,) = engines["base"].asked
    assert not sent.ignore_eos and sent.min_tokens == 0
    assert sent.prompt_logprobs is None and sent.structured_outputs is None


def test_nobody_without_the_token_and_no_other_endpoint(client: TestClient) -> None:
    paths = ("/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/docs")
    for path in paths:
        for headers in ({"authorization": ""}, {"authorization": "Bearer no"}):
            answer = client.request("POST", path, headers=headers)
            assert answer.status_code == 401 and "base" not in answer.text
    for path in ("/v1/embeddings", "/v1/score", "/v1/audio/transcriptions", "/tokenize", "/detokenize", "/docs", "/"):
        assert client.post(path).status_code == client.get(path).status_code == 404
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["auto", "0_first", "1_second", "base"]
    assert client.get("/v1/models/base").json()["id"] == "base" and client.get("/v1/models/no").status_code == 404
    foreign = client.options(
        "/v1/models", headers={"origin": "https://elsewhere", "access-control-request-method": "GET"}
    )
    assert not any(name.startswith("access-control") for name in foreign.headers)


@pytest.mark.parametrize(("gpus", "bundles", "memory"), [(0, [1], 0.9), (0.25, [0.25], 0.225), (4, [1] * 4, 0.9)])
def test_each_model_has_an_engine_of_its_own(run: Path, gpus: float, bundles: list[float], memory: float) -> None:
    parts = parts_of(run)
    made = configs(parts, ServeSettings(engine="vllm", gpus=gpus, replicas=2, batch=32))
    assert [config.model_id for config in made] == list(parts.places)
    for config in made:
        engine = config.get_engine_config()  # vLLM knows every argument, or this fails
        assert engine.actual_hf_model_id == parts.places[config.model_id] and not engine.trust_remote_code
        assert [bundle["GPU"] for bundle in engine.placement_bundles] == bundles
        assert engine.engine_kwargs["gpu_memory_utilization"] == pytest.approx(memory)
        assert engine.engine_kwargs["load_format"] == "safetensors" and engine.engine_kwargs["max_num_seqs"] == 32
        assert not engine.frontend_kwargs, "no template: chats are sent as tokens"
        assert config.deployment_config["num_replicas"] == 2


def test_an_application_is_made_of_them_without_a_cluster(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(runtime_env={}))
    made = application(str(run), ServeSettings(engine="vllm", batch=4, waiting=6), TOKEN, {"name": "splitray"})
    engines, address, *_ = made._bound_deployment.init_args
    assert address == str(run) and list(engines) == ["0_first", "1_second", "base"]
    for name, engine in engines.items():
        deployment = engine._bound_deployment
        assert deployment.name == f"Server:{name}" and deployment.max_queued_requests == 6
    assert made._bound_deployment.max_ongoing_requests == (4 + 6) * 3
    assert not ray.is_initialized()


def test_a_server_brings_its_model_to_its_node(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run lies in an object store each node has a copy of its own, and the config has forgotten the first."""
    given = configs(parts_of(run), SETTINGS)[0]
    assert given.get_engine_config().actual_hf_model_id == str(run / "specialists/0_first")
    taken: list[LLMConfig] = []

    async def init(self: LLMServer, llm_config: LLMConfig) -> None:
        taken.append(llm_config)

    monkeypatch.setattr(LLMServer, "__init__", init)
    monkeypatch.setattr(LLMServer, "__del__", lambda self: None)  # it would end an engine that was never begun
    monkeypatch.setattr("splitray.serve.engines.local_copy", lambda address: tmp_path / Path(address).name)
    asyncio.run(Server.__init__(Server.__new__(Server), given))
    engine = taken[0].get_engine_config()
    assert engine.actual_hf_model_id == str(tmp_path / "0_first") and taken[0].model_id == "0_first"
    assert engine.engine_kwargs == given.get_engine_config().engine_kwargs
    assert taken[0].deployment_config == given.deployment_config and taken[0].runtime_env == given.runtime_env
