"""What the head of any causal LM of `transformers` computes, found out with the model's own logits as the judge.

Most heads are a matrix. Some add a bias, scale the logits (Cohere, Granite) or cap them (Gemma 2). What a config says
is tried. What gives the model's own losses is taken.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import torch

from splitray.training.family import Packing, PlainHead
from splitray.training.fused import fused_nats
from splitray.training.packing import packed_logits, packed_states

_log = logging.getLogger(__name__)

_SCALES, _DIVISORS = ("logit_scale", "lm_head_multiplier", "output_multiplier"), ("logits_scaling", "logits_scale")
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "logit_cap", "final_logit_soft_cap")
_LOUD = 25.0  # the probed logits' largest size before a cap: caps of 30 and 50 bend those
_NEAR = 1e-4  # of two losses in fp32, relative; a wrong head is off by more than a thousandth
_TOKENS = (2, 12)


@dataclass(frozen=True)
class _Found:
    """A head by its modules: weights may be replaced after they were looked at."""

    trunk: torch.nn.Module
    linear: torch.nn.Linear
    scale: float
    cap: float | None

    @property
    def head(self) -> PlainHead:
        return PlainHead(self.trunk, self.linear.weight, self.linear.bias, self.scale, self.cap)


_known: "WeakKeyDictionary[torch.nn.Module, _Found | None]" = WeakKeyDictionary()


def find_head(lm: Any, end_token: int, packing: Packing | None) -> PlainHead | None:
    """The head of a causal LM where the loss can be computed without all logits; None where it cannot.

    Asked once for every model. A model that is refused is named in the log, with the reason.
    """
    if lm not in _known:
        found, why = _find(lm, end_token, packing)
        if found is None:
            _log.info("%s: its loss is computed with all logits at once, since %s", type(lm).__name__, why)
        _known[lm] = found
    known = _known[lm]
    return None if known is None else known.head


def _find(lm: Any, end_token: int, packing: Packing | None) -> tuple[_Found | None, str]:
    linear = lm.get_output_embeddings()
    if type(linear) is not torch.nn.Linear:
        return None, "its head is no plain matrix"
    parts = (lm.base_model, lm.get_decoder())
    trunk = next((part for part in parts if part is not None and linear not in set(part.modules())), None)
    if trunk is None:
        return None, "its head is part of its trunk"
    rows = int(lm.get_input_embeddings().weight.shape[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokens = torch.randint(0, min(rows, linear.weight.shape[0]), _TOKENS)
    tokens[:, _TOKENS[1] // 3] = min(end_token, rows - 1)
    tokens = tokens.to(linear.weight.device)
    mode = lm.training
    lm.eval()  # dropout would tell two passes apart
    try:
        # in bf16 SmolLM2's two ways differ by 0.7 %, which says nothing of its head: both ways are judged exactly
        with torch.autocast(tokens.device.type, enabled=False):
            return _judged(lm, trunk, linear, tokens, end_token, packing)
    except Exception as error:  # a model's own code raises whatever it meets
        return None, f"its trunk does not run alone ({type(error).__name__}: {error})"
    finally:
        lm.train(mode)


def _judged(
    lm: Any, trunk: Any, linear: torch.nn.Linear, tokens: torch.Tensor, end_token: int, packing: Packing | None
) -> tuple[_Found | None, str]:
    """Try what the config says of the head on logits that are as large as those a cap bends."""
    flat = tokens[:, 1:].flatten()
    inputs = tokens[:, :-1]
    with torch.no_grad():
        states = packed_states(trunk, inputs, end_token, packing).flatten(0, 1)
        loud = _LOUD / float(linear(states).abs().max().clamp(min=1e-6))
        hook = linear.register_forward_hook(lambda module, given, logits: logits * loud)
        try:
            logits = packed_logits(lm, inputs, end_token, packing)
        finally:
            hook.remove()
    if logits.shape != (*inputs.shape, linear.weight.shape[0]):
        return None, "its logits have another shape than its head gives"
    own = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), flat, reduction="none")
    for scale, cap in _candidates(lm.config.get_text_config(decoder=True)):
        bias = None if linear.bias is None else linear.bias * loud
        head = PlainHead(trunk, linear.weight, bias, scale, cap)
        if bool(((fused_nats(states * loud, head, flat) - own).abs() <= _NEAR * own.abs().clamp(min=1.0)).all()):
            return _Found(trunk, linear, scale, cap), ""
    return None, "its losses are not those of its head's matrix"


def _candidates(config: Any) -> Iterator[tuple[float, float | None]]:
    """Scales and caps that a config may mean, those that it names first."""
    scales = [_number(config, name) for name in _SCALES]
    scales += [1 / value if value else None for value in (_number(config, name) for name in _DIVISORS)]
    caps = [cap for cap in (_number(config, name) for name in _CAPS) if cap]
    return product([*(s for s in scales if s), 1.0], [*caps, None])


def _number(config: Any, name: str) -> float | None:
    value = getattr(config, name, None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
