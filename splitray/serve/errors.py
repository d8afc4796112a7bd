"""What goes wrong with a request, and how it is told: as OpenAI's API does."""

import json
from typing import Any

from fastapi.responses import JSONResponse


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field


class BusyError(Exception):
    """So many requests wait that another would not be answered in time."""


class LateError(Exception):
    """A request's time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request was not finished within {seconds:g} s")


def refusal(error: Exception) -> RefusedError:
    """Any error as one that is answered."""
    if isinstance(error, RefusedError):
        return error
    status = 429 if isinstance(error, BusyError) else 504 if isinstance(error, LateError) else 500
    return RefusedError(status, str(error) or type(error).__name__)


def error_answer(status: int, message: str, field: str | None = None, code: str | None = None) -> JSONResponse:
    """An error as a whole answer."""
    headers = {"retry-after": "1"} if status == 429 else {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(_body(status, message, field, code), status, headers)


def error_event(error: Exception) -> str:
    """An error within a stream, whose status has been sent."""
    refused = refusal(error)
    return event(_body(refused.status, str(refused), None, None))


def event(chunk: dict[str, Any]) -> str:
    """A chunk of a stream."""
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _body(status: int, message: str, field: str | None, code: str | None) -> dict[str, Any]:
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}
