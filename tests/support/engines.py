"""Stand-ins for the deployments of vLLM's engines. They need vLLM: requests and answers are of its classes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import torch
from ray.serve.llm.openai_api_models import (
    CompletionRequest,
    CompletionResponse,
    ErrorResponse,
)


class Engine:
    """A deployment's handle. What it was asked and whether it was cancelled is kept."""

    def __init__(self, name: str, model: Any, end: int) -> None:
        self.name, self.model, self.end = name, model, end
        self.asked: list[Any] = []
        self.cancelled = 0
        self.fault: Exception | ErrorResponse | None = None
        self.wait = 0.0
        self.completions = self

    def options(self, stream: bool) -> "Engine":
        assert stream
        return self

    def remote(self, body: Any, raw_request: object) -> "Answers":
        assert raw_request is None, "headers hold the token"
        self.asked.append(body)
        return Answers(self, body)

    async def answers(self, body: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(self.wait)
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault is not None:
            yield self.fault
        elif body.stream:
            for word in ("one", "two"):
                await asyncio.sleep(self.wait)
                told = {"id": "cmpl-1", "created": 1, "model": body.model, "choices": [{"index": 0, "text": word}]}
                yield [f"data: {json.dumps(told)}\n\n"]
            yield ["data: [DONE]\n\n"]
        else:
            yield self._completion(body)

    def _completion(self, body: CompletionRequest) -> CompletionResponse:
        rows = body.prompt if isinstance(body.prompt[0], list) else [body.prompt]
        choices = [
            {"index": n, "text": self._write(row, body.max_tokens), "finish_reason": "length"}
            | self._told(body, row)
            | self._alternatives(body, row)
            for n, row in enumerate(rows)
        ]
        return CompletionResponse(model=body.model, choices=choices, usage={"prompt_tokens": 1, "total_tokens": 2})

    def _told(self, body: CompletionRequest, row: list[int]) -> dict[str, Any]:
        if body.prompt_logprobs is None:
            return {}
        with torch.no_grad():
            known = self.model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(1)
        tables = [{token: {"logprob": float(known[n, token]), "rank": 1}} for n, token in enumerate(row[1:])]
        return {"prompt_logprobs": [None, *tables]}

    def _alternatives(self, body: CompletionRequest, row: list[int]) -> dict[str, Any]:
        """Of the token after the prompt, as if that were all that is written."""
        if body.logprobs is None:
            return {}
        with torch.no_grad():
            known = self.model(input_ids=torch.tensor([row])).logits[0, -1].double().log_softmax(0)
        assert body.return_tokens_as_token_ids, "texts of tokens are not one to one"
        best = known.topk(body.logprobs + 1)
        table = {f"token_id:{token}": value for value, token in zip(best.values.tolist(), best.indices.tolist())}
        first = next(iter(table))
        return {
            "logprobs": {
                "tokens": [first],
                "token_logprobs": [table[first]],
                "top_logprobs": [table],
                "text_offset": [0],
            }
        }

    def _write(self, row: list[int], most: int) -> str:
        return f"{self.name} writes {most} after {len(row)}"


class Answers:
    """As a `DeploymentResponseGenerator`."""

    def __init__(self, engine: Engine, body: Any) -> None:
        self.engine, self.answers = engine, engine.answers(body)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.answers

    def cancel(self) -> None:
        self.engine.cancelled += 1
