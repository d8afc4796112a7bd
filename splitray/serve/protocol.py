"""What requests may say, after OpenAI's API reference.

A field that would change the answer and is not served is refused. One that is null has its default, as it has there.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from splitray.evaluate.mixture import Sampling

_REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


def _check_characters(value: object) -> None:
    """JSON may name half of a character, as a client does that cuts a text inside of one. No encoding can write it.

    Raises:
        ValueError: a text of the value, or of its list, holds one.
    """
    for text in value if isinstance(value, list) else [value]:
        try:
            text.encode() if isinstance(text, str) else None
        except UnicodeEncodeError as error:
            raise ValueError(f"half of a character at place {error.start}: cut texts between characters") from None


class StreamOptions(BaseModel):
    """`include_usage`: a last chunk with the counts."""

    include_usage: bool = False


class Asked(BaseModel):
    """What both kinds of request share. Unknown fields are left alone; those of `_REFUSED` must have their default."""

    model_config = ConfigDict(extra="allow")

    model: str
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**40)
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value is not None}

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        _check_characters(value)
        return value

    @field_validator("stop")
    @classmethod
    def _stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        _check_characters(value)
        if isinstance(value, list) and len(value) > 4:
            raise ValueError("at most 4 stops")
        if "" in ([value] if isinstance(value, str) else value or []):
            raise ValueError("a stop must not be empty: every text has one at its beginning")
        return value

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    @property
    def counted(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def unserved(self) -> str | None:
        """The name of a field that is not served and asks for something."""
        extra = self.model_extra or {}
        return next(
            (name for name, plain in _REFUSED.items() if extra.get(name) is not None and extra[name] not in plain), None
        )

    def sampling(self, max_tokens: int, seed: int, alternatives: int) -> Sampling:
        return Sampling(
            max_tokens, self.temperature, self.top_p, seed if self.seed is None else self.seed, alternatives
        )


class CompletionRequest(Asked):
    """`POST /v1/completions`."""

    prompt: str | list[str]
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=5)

    @field_validator("prompt")
    @classmethod
    def _prompts(cls, value: str | list[str]) -> str | list[str]:
        _check_characters(value)
        if isinstance(value, list) and not 1 <= len(value) <= 16:
            raise ValueError("1 to 16 prompts")
        return value

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class Part(BaseModel):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: str

    @field_validator("text")
    @classmethod
    def _whole(cls, value: str) -> str:
        _check_characters(value)
        return value


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @field_validator("content")
    @classmethod
    def _whole(cls, value: str | list[Part]) -> str | list[Part]:
        _check_characters(value)
        return value

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Asked):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    @property
    def wanted(self) -> int | None:
        """Tokens that it asks for, by either of the two names."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompt(self) -> str:
        """The turns' texts, a line each. Models that were only pretrained know no other form of a conversation."""
        return "\n".join(message.text for message in self.messages) + "\n"
