"""The API over vLLM's engines, one for each model. It needs vLLM: import it only where that is the engine."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray.exceptions import RayError
from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard, OpenAIHTTPException
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from ray.serve.llm.ingress import OpenAiIngress
from ray.serve.llm.openai_api_models import CompletionRequest, ErrorResponse

from splitray.evaluate.mixture import parts_of
from splitray.serve import protocol
from splitray.serve.chats import ChatForm
from splitray.serve.choice import prompt_nats, weights
from splitray.serve.endpoints import AUTO, Limits, endpoints, together
from splitray.serve.errors import BusyError, LateError, RefusedError, error_event, refusal
from splitray.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
ANSWERED_BY = "x-splitray-model"  # the header that names the model


class Ingress(OpenAiIngress):
    """Ray's ingress with our endpoints before it: our token, our limits, our requests, and the model `auto`.

    What engines are sent is made of the fields that our protocol knows. So no field of vLLM's own passes from outside.

    Args:
        engines: handles of the models' deployments by the models' names.
        run: address of the run folder, absolute: a replica works in a folder of its own.
        token: what requests must show.
    """

    def __init__(self, engines: dict[str, DeploymentHandle], run: str, settings: ServeSettings, token: str) -> None:
        parts = parts_of(run, settings.prior)
        super().__init__(engines, {name: _card(name) for name in engines})
        self._names, self._prior, self._encoder = tuple(parts.places), parts.prior, parts.encoder
        self._settings, self._token = settings, token
        names = (AUTO, *self._names)
        self.limits = Limits(names, parts.max_length, settings.max_tokens, lambda prompt: len(self._tokens(prompt)) - 1)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return endpoints(self, self._token, self._settings.max_bytes)

    async def completions(self, asked: protocol.CompletionRequest) -> Response:
        deadline = self._deadline()
        self.limits.check(asked, asked.prompts, asked.max_tokens)
        name = await self._model(asked.model, asked.prompts, deadline)
        body = CompletionRequest(
            model=name,
            prompt=[self._tokens(prompt) for prompt in asked.prompts],
            max_tokens=asked.max_tokens,
            logprobs=asked.logprobs,
            **_sampling(asked),
        )
        return await self._answer(name, body, deadline)

    async def chat(self, asked: protocol.ChatRequest) -> Response:
        deadline = self._deadline()
        ((_, most),) = self.limits.check(asked, [asked.prompt], asked.wanted)
        name = await self._model(asked.model, [asked.prompt], deadline)
        top = asked.top_logprobs if asked.logprobs else None
        body = CompletionRequest(
            model=name,
            prompt=self._tokens(asked.prompt),
            max_tokens=most,
            logprobs=top,
            return_tokens_as_token_ids=True,
            **_sampling(asked),
        )
        return await self._answer(name, body, deadline, ChatForm(self._text, top))

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._settings.seconds

    def _tokens(self, prompt: str) -> list[int]:
        """A prompt's tokens after an end token, as every document began in training."""
        return [self._encoder.end, *self._encoder.encode([prompt])[0][:-1].tolist()]

    def _text(self, token: int) -> str:
        end = self._encoder.end
        return "" if token == end else self._encoder.decode([np.array([token, end])])[0]

    async def _model(self, asked: str, prompts: list[str], deadline: float) -> str:
        """The model that answers: the one that was asked for, or the heaviest after the prompt's first tokens."""
        if asked != AUTO:
            return asked
        if len(prompts) > 1:
            raise RefusedError(400, f"{AUTO} chooses a model for one prompt: send a request for each", "prompt")
        # In a thread: a router's embedder may take its time, and other requests go on.
        log_prior = (await asyncio.to_thread(self._prior.log_weights, prompts))[0]
        tokens = self._tokens(prompts[0])[: self._settings.prefix + 1]
        if len(tokens) > 1:
            told = await together([self._nats(name, tokens, deadline) for name in self._names])
            nats = np.stack(told, axis=1)
        else:
            nats = np.empty((0, len(self._names)))
        return self._names[int(weights(log_prior, nats).argmax())]

    async def _nats(self, name: str, tokens: list[int], deadline: float) -> np.ndarray:
        """A model's loss of each token but the first. An engine writes one token at least, which nobody reads."""
        body = CompletionRequest(model=name, prompt=tokens, max_tokens=1, temperature=0, prompt_logprobs=0)
        async with _until(deadline, self._settings.seconds):
            (answer,) = [answer async for answer in self._get_response(body=body, call_method="completions")]
        if isinstance(answer, ErrorResponse):
            raise RefusedError(int(answer.error.code), str(answer.error.message))
        return prompt_nats(tokens, answer.choices[0].prompt_logprobs)

    async def _answer(self, name: str, body: Any, deadline: float, chat: ChatForm | None = None) -> Response:
        """What a model writes; in the form of a chat where that was asked for."""
        try:
            async with _until(deadline, self._settings.seconds):
                # Without the request: its headers hold the token, and engines need none of them.
                answer: Response = await self._process_llm_request(body, call_method="completions")
        except OpenAIHTTPException as error:
            raise RefusedError(error.status_code, error.message) from error
        except Exception as error:
            raise refusal(error) from error
        if isinstance(answer, StreamingResponse):
            chunks = aiter(answer.body_iterator)
            answer.body_iterator = self._stream(chat.stream(chunks) if chat else chunks, deadline)
        elif chat:
            answer = JSONResponse(chat.whole(json.loads(bytes(answer.body))))
        answer.headers[ANSWERED_BY] = name
        return answer

    async def _stream(self, chunks: AsyncIterator[Any], deadline: float) -> AsyncGenerator[Any]:
        try:
            while True:
                async with _until(deadline, self._settings.seconds):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
        except Exception as error:
            yield error_event(error)

    async def _get_response(
        self, *, body: Any, call_method: str, raw_request: object | None = None
    ) -> AsyncGenerator[Any]:
        """As Ray's own, and an engine stops writing where nobody listens any more: its time is over, or it went."""
        asked, over = getattr(self._get_configured_serve_handle(body.model), call_method).remote(body, None), False
        try:
            async for answer in asked:
                over = not body.stream  # a whole answer is one
                yield answer
            over = True
        except BackPressureError as error:
            raise BusyError(f"{self._settings.waiting} requests wait already; try again later") from error
        except RayError as error:  # its text is a traceback
            _log.error("the engine of %s failed", body.model, exc_info=error)
            raise RuntimeError(f"the engine of {body.model} failed; the server's log says how") from error
        finally:
            if not over:
                asked.cancel()


@asynccontextmanager
async def _until(deadline: float, seconds: float) -> AsyncIterator[None]:
    """A stretch of work that ends with a `LateError` at the deadline, in the loop's time."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise LateError(seconds) from None


def _sampling(asked: protocol.Asked) -> dict[str, Any]:
    """What both kinds of request share, in vLLM's names."""
    return {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": asked.seed,
        "stop": asked.stops,
        "stream": asked.stream,
        "stream_options": {"include_usage": True} if asked.counted else None,
    }


def _card(name: str) -> ModelCard:
    return ModelCard(id=name, object="model", owned_by="splitray", permission=[], metadata={})
