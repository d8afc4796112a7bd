"""OpenAI's endpoints, whatever engine writes: the token, the limits of a request, the routes."""

import asyncio
import hmac
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from splitray.serve.errors import RefusedError, error_answer, refusal
from splitray.serve.protocol import Asked, ChatRequest, CompletionRequest

T = TypeVar("T")
AUTO = "auto"  # the name of the model that is all of them
_OPEN = ("/", "/health")  # without a token: the page asks for it, and health is asked by machines


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
            told = "show the server's token as 'Authorization: Bearer TOKEN'"
            return await error_answer(401, told, code="invalid_api_key")(scope, receive, send)
        too_long = error_answer(413, f"the body is longer than {self.most} bytes")
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


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Args:
        models: the names that it may give.
        max_length: tokens of context that the models were trained with.
        max_tokens: that one request may have written.
        count: tokens of a prompt.
    """

    models: tuple[str, ...]
    max_length: int
    max_tokens: int
    count: Callable[[str], int]

    def check(self, asked: Asked, prompts: list[str], max_tokens: int | None) -> list[tuple[int, int]]:
        """Tokens of each prompt and tokens that may follow it.

        Raises:
            RefusedError: with the field that is wrong.
        """
        self.known(asked.model)
        if field := asked.unserved():
            raise RefusedError(400, f"{field} is not served here: leave it out", field)
        if max_tokens is not None and max_tokens > self.max_tokens:
            raise RefusedError(400, f"max_tokens is {max_tokens}, and this server writes {self.max_tokens} at most")
        return [self._count(prompt, max_tokens) for prompt in prompts]

    def known(self, name: str) -> None:
        """Refuse a model that is not here."""
        if name not in self.models:
            raise RefusedError(404, f"there is no model {name!r}; there are {', '.join(self.models)}", "model")

    def _count(self, prompt: str, max_tokens: int | None) -> tuple[int, int]:
        most, tokens = self.max_length - 1, self.count(prompt)
        wanted = max(1, min(most - tokens, self.max_tokens)) if max_tokens is None else max_tokens
        if tokens + wanted > most:
            raise RefusedError(
                400,
                f"the prompt has {tokens} tokens; with {wanted} to write that is more than the {most} that these "
                "models read",
                "prompt",
            )
        return tokens, wanted


class Backend(Protocol):
    """What answers."""

    limits: Limits

    async def completions(self, asked: CompletionRequest) -> Response: ...

    async def chat(self, asked: ChatRequest) -> Response: ...


def endpoints(backend: Backend, token: str, max_bytes: int) -> FastAPI:
    """The API over a backend.

    Args:
        token: what requests must show as `Authorization: Bearer TOKEN`.
        max_bytes: of a request's body.
    """
    app = FastAPI(title="splitray", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, token=token, most=max_bytes)
    created = int(time.time())

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return error_answer(error.status, str(error), error.field)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return error_answer(400, f"{field}: {first['msg']}" if field else str(first["msg"]), field or None)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name, created) for name in backend.limits.models]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        backend.limits.known(name)
        return _model(name, created)

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest) -> Response:
        return await backend.completions(asked)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest) -> Response:
        return await backend.chat(asked)

    return app


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "splitray"}


async def together(parts: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of parts of one request; where one fails, the others end too.

    Raises:
        RefusedError: as which the first error is answered.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    except Exception as error:
        raise refusal(error) from error
    finally:
        for task in tasks:
            task.cancel()
