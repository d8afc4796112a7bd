"""The API as an ASGI app: it knows nothing of Ray."""

import asyncio
import hmac
import importlib.resources
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from splitray.serve.answers import Answer, ChatAnswer, CompletionAnswer
from splitray.serve.engine import BusyError, Engine, LateError, Piece
from splitray.serve.protocol import Asked, ChatRequest, CompletionRequest
from splitray.serve.settings import ServeSettings

_OPEN = ("/", "/health")  # without a token: the page asks for it, and health is asked by machines


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field


class Guard:
    """Asks for the token, and reads the body: one that is too long is answered 413 without reading the rest of it."""

    def __init__(self, app: ASGIApp, token: str, most: int) -> None:
        self.app, self.most = app, most
        self._shown = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        if scope["path"] not in _OPEN and not hmac.compare_digest(headers.get(b"authorization", b""), self._shown):
            answer = _error(401, "show the server's token as 'Authorization: Bearer TOKEN'", code="invalid_api_key")
            return await answer(scope, receive, send)
        too_long = _error(413, f"the body is longer than {self.most} bytes")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            return await too_long(scope, receive, send)
        messages, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None  # gone before it had said what it wants
            messages.append(message)
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
            if size > self.most:
                return await too_long(scope, receive, send)
        pending = iter(messages)

        async def replay() -> Message:
            return next(pending, None) or await receive()

        await self.app(scope, replay, send)


def build(engine: Engine, settings: ServeSettings, token: str) -> FastAPI:
    """The app over an engine.

    Args:
        token: what requests must show as `Authorization: Bearer TOKEN`.
    """
    app = FastAPI(title="splitray", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, token=token, most=settings.max_bytes)
    created = int(time.time())

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return _error(error.status, str(error), error.field)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return _error(400, f"{field}: {first['msg']}" if field else str(first["msg"]), field or None)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return (importlib.resources.files("splitray.serve") / "page.html").read_text()

    @app.get("/health")
    async def health() -> JSONResponse:
        alive = engine.alive()
        return JSONResponse({"alive": alive, "waiting": engine.waiting}, 200 if alive else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name, created) for name in engine.models]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        _known(engine, name)
        return _model(name, created)

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest) -> Response:
        alternatives = asked.logprobs or 0
        answer = CompletionAnswer(asked.model, asked.logprobs is not None)
        return await _answer(engine, settings, asked, asked.prompts, asked.max_tokens, alternatives, answer)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest) -> Response:
        answer = ChatAnswer(asked.model, asked.logprobs)
        wanted = asked.max_completion_tokens or asked.max_tokens
        alternatives = asked.top_logprobs if asked.logprobs else 0
        return await _answer(engine, settings, asked, [asked.prompt], wanted, alternatives, answer)

    return app


async def _answer(
    engine: Engine,
    settings: ServeSettings,
    asked: Asked,
    prompts: list[str],
    max_tokens: int | None,
    alternatives: int,
    answer: Answer,
) -> Response:
    """Check a request, write for it, and answer at once or as a stream."""
    counts = _check(engine, settings, asked, prompts, max_tokens)
    seed = secrets.randbelow(2**32)
    answer.begin(engine.models[asked.model], [tokens for tokens, _ in counts])
    writes = [
        engine.write(
            asked.model, prompt, asked.sampling(most, seed + place, alternatives), asked.stops, settings.seconds
        )
        for place, (prompt, (_, most)) in enumerate(zip(prompts, counts, strict=True))
    ]
    if not asked.stream:
        tasks = [asyncio.ensure_future(_collect(answer, place, write)) for place, write in enumerate(writes)]
        try:
            await asyncio.gather(*tasks)
        except Exception as error:
            raise _refusal(error) from error
        finally:
            for task in tasks:
                task.cancel()
        return JSONResponse(answer.whole())
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    first = await _first(writes[0])
    return StreamingResponse(_events(answer, writes, first, usage), media_type="text/event-stream")


async def _collect(answer: Answer, place: int, write: AsyncGenerator[Piece]) -> None:
    async with aclosing(write) as pieces:
        async for piece in pieces:
            answer.add(place, piece)


async def _first(write: AsyncGenerator[Piece]) -> Piece:
    """A stream's first piece: what can be refused is refused with its status, before the answer has begun."""
    try:
        return await anext(write)
    except Exception as error:
        raise _refusal(error) from error


async def _events(answer: Answer, writes: list[AsyncGenerator[Piece]], first: Piece, usage: bool) -> AsyncIterator[str]:
    try:
        for place, write in enumerate(writes):
            async with aclosing(write) as pieces:
                if place == 0:
                    yield _event(answer.add(place, first))
                    if first.finished:
                        continue
                async for piece in pieces:
                    yield _event(answer.add(place, piece))
        if usage:
            yield _event(answer.usage_chunk())
        yield "data: [DONE]\n\n"
    except Exception as error:
        refusal = _refusal(error)
        yield _event(_body(refusal.status, str(refusal), None, None))


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _check(
    engine: Engine, settings: ServeSettings, asked: Asked, prompts: list[str], max_tokens: int | None
) -> list[tuple[int, int]]:
    """Tokens of each prompt and tokens that may follow it.

    Raises:
        RefusedError: with the field that is wrong.
    """
    _known(engine, asked.model)
    if field := asked.unserved():
        raise RefusedError(400, f"{field} is not served here: leave it out", field)
    if max_tokens is not None and max_tokens > settings.max_tokens:
        raise RefusedError(400, f"max_tokens is {max_tokens}, and this server writes {settings.max_tokens} at most")
    counts = []
    mixture = engine.models[asked.model]
    most = mixture.max_length - 1
    for prompt in prompts:
        tokens = mixture.count(prompt)
        wanted = max(1, min(most - tokens, settings.max_tokens)) if max_tokens is None else max_tokens
        if tokens + wanted > most:
            raise RefusedError(
                400,
                f"the prompt has {tokens} tokens; with {wanted} to write that is more than the {most} that these "
                "models read",
                "prompt",
            )
        counts.append((tokens, wanted))
    return counts


def _known(engine: Engine, name: str) -> None:
    if name not in engine.models:
        raise RefusedError(404, f"there is no model {name!r}; there are {', '.join(engine.models)}", "model")


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "splitray"}


def _refusal(error: Exception) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    status = 429 if isinstance(error, BusyError) else 504 if isinstance(error, LateError) else 500
    return RefusedError(status, str(error) or type(error).__name__)


def _body(status: int, message: str, field: str | None, code: str | None) -> dict[str, Any]:
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


def _error(status: int, message: str, field: str | None = None, code: str | None = None) -> JSONResponse:
    headers = {"retry-after": "1"} if status == 429 else {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(_body(status, message, field, code), status, headers)
