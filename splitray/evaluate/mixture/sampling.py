"""How the next token is taken from a distribution."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sampling:
    """How text is written.

    Args:
        max_tokens: tokens to write at most.
        temperature: 0 takes the likeliest token.
        top_p: draw among the likeliest tokens that together have this share.
        seed: of the draws. Each row has its own, whatever else is in the batch.
        alternatives: likeliest tokens that a step lists.
    """

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    alternatives: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is at least 1, got {self.max_tokens}")
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"temperature lies between 0 and 100, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and at most 1, got {self.top_p}")
        if self.alternatives < 0:
            raise ValueError(f"alternatives is at least 0, got {self.alternatives}")


def draw(log_probabilities: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """A token of a distribution [vocabulary]."""
    if sampling.temperature == 0:
        return int(log_probabilities.argmax())
    probabilities = torch.softmax(log_probabilities / sampling.temperature, dim=0)
    if sampling.top_p < 1:
        ordered, tokens = probabilities.sort(descending=True, stable=True)
        before = ordered.cumsum(0) - ordered
        probabilities[tokens[before >= sampling.top_p]] = 0.0
    return int(torch.multinomial(probabilities, 1, generator=generator))


def alternatives(log_probabilities: torch.Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest tokens with their log-probabilities, the likeliest first."""
    if count == 0:
        return ()
    top = log_probabilities.topk(min(count, len(log_probabilities)))
    return tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
