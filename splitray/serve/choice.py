"""Which model answers, where the models are black boxes: the mixture's weights after the first tokens of a prompt.

Engines tell the likelihood of a prompt and no more. So the mixture cannot mix their distributions token by token. It
can still weigh them, and the one with most weight writes the whole answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from splitray.evaluate.mixture import OPEN, gated_nats


def weights(log_prior: np.ndarray, nats: np.ndarray) -> np.ndarray:
    """The exact mixture's weights after some tokens, float64 [models].

    Args:
        log_prior: log weights before the first token, [models].
        nats: each model's loss of each token, [tokens, models].
    """
    found: np.ndarray = np.exp(gated_nats(nats, log_prior, OPEN).log_weights)
    return found


def prompt_nats(tokens: Sequence[int], told: Sequence[Mapping[int, Any] | None] | None) -> np.ndarray:
    """A model's loss of each token of a prompt but the first, float64 [tokens - 1].

    Args:
        told: vLLM's `prompt_logprobs`: for each token None (the first) or a table that has the token itself.

    Raises:
        ValueError: it is not about these tokens.
    """
    if told is None or len(told) != len(tokens):
        raise ValueError(f"the engine told of {len(told or ())} tokens of a prompt, and it was asked of {len(tokens)}")
    return np.array([-_logprob(token, table) for token, table in zip(tokens[1:], told[1:], strict=True)])


def _logprob(token: int, table: Mapping[int, Any] | None) -> float:
    if table is None or token not in table:
        raise ValueError(f"the engine did not tell the likelihood of token {token}")
    return float(table[token].logprob)
