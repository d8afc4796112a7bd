"""The API over the engine that writes here, as an ASGI app: it knows nothing of Ray."""

import importlib.resources
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from splitray.serve.answers import Answer, ChatAnswer, CompletionAnswer
from splitray.serve.endpoints import Limits, endpoints, together
from splitray.serve.engine import Engine, Limit, Piece
from splitray.serve.errors import error_event, event, refusal
from splitray.serve.protocol import Asked, ChatRequest, CompletionRequest
from splitray.serve.settings import ServeSettings


def build(engine: Engine, settings: ServeSettings, token: str) -> FastAPI:
    """The app over an engine.

    Args:
        token: what requests must show as `Authorization: Bearer TOKEN`.
    """
    app = endpoints(_Writing(engine, settings), token, settings.max_bytes)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return (importlib.resources.files("splitray.serve") / "page.html").read_text()

    @app.get("/health")
    async def health() -> JSONResponse:
        alive = engine.alive()
        return JSONResponse({"alive": alive, "waiting": engine.waiting}, 200 if alive else 503)

    return app


class _Writing:
    """Has the engine write, and answers at once or as a stream."""

    def __init__(self, engine: Engine, settings: ServeSettings) -> None:
        self._engine, self._seconds = engine, settings.seconds
        some = next(iter(engine.models.values()))  # they all have one tokenizer, and one length
        self.limits = Limits(tuple(engine.models), some.max_length, settings.max_tokens, some.count)

    async def completions(self, asked: CompletionRequest) -> Response:
        answer = CompletionAnswer(asked.model, asked.logprobs is not None)
        return await self._answer(asked, asked.prompts, asked.max_tokens, asked.logprobs or 0, answer)

    async def chat(self, asked: ChatRequest) -> Response:
        answer = ChatAnswer(asked.model, asked.logprobs)
        alternatives = asked.top_logprobs if asked.logprobs else 0
        return await self._answer(asked, [asked.prompt], asked.wanted, alternatives, answer)

    async def _answer(
        self, asked: Asked, prompts: list[str], max_tokens: int | None, alternatives: int, answer: Answer
    ) -> Response:
        counts = self.limits.check(asked, prompts, max_tokens)
        seed = secrets.randbelow(2**32)
        answer.begin(self._engine.models[asked.model], [tokens for tokens, _ in counts])
        limit = Limit(self._seconds)
        writes = [
            self._engine.write(
                asked.model,
                prompt,
                asked.sampling(most, seed + place, alternatives),
                asked.stops,
                limit,
                whole=not asked.stream,
            )
            for place, (prompt, (_, most)) in enumerate(zip(prompts, counts, strict=True))
        ]
        if not asked.stream:
            await together([_collect(answer, place, write) for place, write in enumerate(writes)])
            return JSONResponse(answer.whole())
        first = await _first(writes[0])
        return StreamingResponse(_events(answer, writes, first, asked.counted), media_type="text/event-stream")


async def _collect(answer: Answer, place: int, write: AsyncGenerator[Piece]) -> None:
    async with aclosing(write) as pieces:
        async for piece in pieces:
            answer.add(place, piece)


async def _first(write: AsyncGenerator[Piece]) -> Piece:
    """A stream's first piece: what can be refused is refused with its status, before the answer has begun."""
    try:
        return await anext(write)
    except Exception as error:
        raise refusal(error) from error


async def _events(answer: Answer, writes: list[AsyncGenerator[Piece]], first: Piece, usage: bool) -> AsyncIterator[str]:
    try:
        for place, write in enumerate(writes):
            async with aclosing(write) as pieces:
                if place == 0:
                    yield event(answer.add(place, first))
                    if first.finished:
                        continue
                async for piece in pieces:
                    yield event(answer.add(place, piece))
        if usage:
            yield event(answer.usage_chunk())
        yield "data: [DONE]\n\n"
    except Exception as error:
        yield error_event(error)
