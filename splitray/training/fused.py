"""The next-token loss and its gradients for a head of any size, in few large chunks of rows.

Each chunk makes one matrix of logits, whose place the gradients take a few rows at a time. So a chunk costs three
matrix products, one array in the precision of these, and one sum into the weight's gradient. What this code holds is
counted by `chunks.fused_bytes`: change the two together.
"""

from collections.abc import Iterator
from typing import Any

import torch

from splitray.training.chunks import chunk_rows, part_rows
from splitray.training.family import PlainHead


class Grade(torch.nn.Module):
    """What the loss does to a chunk's logits, for bare heads, as one thing to compile.

    Compiled, a GPU reads the logits three times and writes them once, in their own precision. Uncompiled it would hold
    them several times in fp32, so there the loss goes its own way, part by part.
    """

    def forward(self, raw: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed nats of `targets` int64 [rows] under logits `raw` [rows, vocabulary], and these' gradients."""
        logits, wanted = raw.float(), targets[:, None]
        top = logits.amax(1, keepdim=True)
        powers = (logits - top).exp()
        total = powers.sum(1, keepdim=True)
        nats = (total.log() + top - logits.gather(1, wanted)).sum()
        hit = torch.arange(raw.shape[1], device=raw.device) == wanted
        return nats, (powers / total - hit.float()).to(raw.dtype)


def fused_loss(
    states: torch.Tensor, head: PlainHead, targets: torch.Tensor, grade: Grade | None = None
) -> torch.Tensor:
    """Mean cross-entropy in nats of `targets` int64 [rows] under a head's logits of `states` [rows, width].

    Args:
        grade: compiled, for a bare head.
    """
    loss: torch.Tensor = _Loss.apply(states, head.weight, head.bias, targets, head.scale, head.cap, grade)
    return loss


def fused_nats(states: torch.Tensor, head: PlainHead, targets: torch.Tensor) -> torch.Tensor:
    """Nats of every target, fp32 [rows], without gradients."""
    low, matrix = _narrow(states), _narrow(head.weight)
    found = torch.empty(len(low), device=low.device)
    with torch.no_grad(), torch.autocast(low.device.type, enabled=False):
        for rows in _chunks(low, matrix):
            raw = low[rows] @ matrix.T
            for part in _parts(raw):
                logits = _bent(raw[part], head.bias, head.scale, head.cap)
                found[rows][part] = _nats(logits, logits.softmax(1), targets[rows][part])
    return found


class _Loss(torch.autograd.Function):
    """Gradients are taken in the forward pass and kept; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        scale: float,
        cap: float | None,
        grade: Grade | None,
    ) -> torch.Tensor:
        low, matrix, count = _narrow(states), _narrow(weight), len(targets)
        to_states, to_weight = torch.empty_like(low), None
        to_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        total = torch.zeros((), device=states.device)
        with torch.autocast(states.device.type, enabled=False):
            for rows in _chunks(low, matrix):
                raw = low[rows] @ matrix.T
                if grade is not None:
                    nats, raw = grade(raw, targets[rows])
                    total += nats
                for part in _parts(raw) if grade is None else ():
                    logits = _bent(raw[part], bias, scale, cap)
                    error, wanted = logits.softmax(1), targets[rows][part]
                    total += _nats(logits, error, wanted).sum()
                    error[torch.arange(len(error), device=error.device), wanted] -= 1.0
                    if cap is not None:
                        error *= 1 - (logits / cap).square_()
                    raw[part] = error
                    if to_bias is not None:
                        to_bias += error.sum(0)
                share = scale / count
                torch.mm(raw, matrix, out=to_states[rows])
                to_states[rows] *= share
                to_weight = _add_product(to_weight, raw, low[rows] * share)
        ctx.to_states, ctx.to_weight, ctx.dtypes = to_states, to_weight, (states.dtype, weight.dtype)
        ctx.to_bias = None if to_bias is None or bias is None else (to_bias * (scale / count)).to(bias.dtype)
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        found = [ctx.to_states.to(ctx.dtypes[0]), ctx.to_weight.to(ctx.dtypes[1]), ctx.to_bias]
        ctx.to_states = ctx.to_weight = ctx.to_bias = None  # scaled where they are, so good for one backward pass
        if gradient.device.type != "cpu" or float(gradient) != 1.0:
            for each in found:
                if each is not None:
                    each.mul_(gradient)
        return (*found, None, None, None, None)


def _narrow(values: torch.Tensor) -> torch.Tensor:
    """In the precision that autocast asks for."""
    kind = values.device.type
    return values.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else values


def _chunks(low: torch.Tensor, matrix: torch.Tensor) -> Iterator[slice]:
    step = max(1, chunk_rows(len(low), len(matrix), low.device.type))
    return (slice(begin, min(begin + step, len(low))) for begin in range(0, len(low), step))


def _parts(raw: torch.Tensor) -> Iterator[slice]:
    step = part_rows(raw.shape[1], raw.device.type)
    return (slice(begin, begin + step) for begin in range(0, len(raw), step))


def _bent(raw: torch.Tensor, bias: torch.Tensor | None, scale: float, cap: float | None) -> torch.Tensor:
    """Logits in fp32, an array of their own."""
    logits = raw.to(torch.float32, copy=True)
    if bias is not None:
        logits += bias
    if scale != 1.0:
        logits *= scale
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _nats(logits: torch.Tensor, probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The row's sum of exponentials comes back out of its largest probability, which cannot underflow."""
    return logits.amax(1) - probabilities.amax(1).log() - logits.gather(1, targets[:, None]).squeeze(1)


def _add_product(total: torch.Tensor | None, error: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """`total + error.T @ low`: of one chunk in its own precision, of several in fp32."""
    if total is None:
        return error.T @ low
    total = total.float()
    if low.dtype == torch.float32:
        return total.addmm_(error.T, low)
    total += error.T @ low
    return total
