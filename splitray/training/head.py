"""The next-token loss of a causal LM, without holding the logits of a whole batch.

Logits are the largest arrays of a small model's step: 67 MB in fp32 for 4096 tokens over 4096 entries, and a plain
loss writes and reads five of that size. Here a few rows at a time go through the head, stay in the processor's cache,
and leave their gradient behind while they are there (the idea of Liger Kernel, Hsu et al. 2024, arXiv 2410.10989).
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from splitray.training import varlen
from splitray.training.chunks import small_rows
from splitray.training.compiling import Way, mark
from splitray.training.family import Packing, PlainHead
from splitray.training.fused import Grade, fused_loss, fused_nats
from splitray.training.heads import find_head
from splitray.training.model import family_of
from splitray.training.packing import forward_inputs, packed_logits, packed_states, packing_of
from splitray.training.recipe import LARGE_CHUNKS, Recipe


class NextToken(torch.nn.Module):
    """A causal LM whose forward pass is its training loss.

    Args:
        lm: a model of the recipe's family.
        whole: compute it the plain way, with all logits at once. Models whose head is more than a matrix need that,
            and so does ZeRO 3, which gathers the head's weights inside the head's own forward pass only.
    """

    def __init__(self, lm: torch.nn.Module, recipe: Recipe, whole: bool) -> None:
        super().__init__()
        self.lm, self._family, self._recipe = lm, family_of(recipe.shape), recipe
        self._end, self._packing = recipe.end_token, packing_of(recipe)
        self.whole = whole or self._head() is None
        implementation = self._family.attention(lm)
        if implementation is not None:
            lm.set_attn_implementation(implementation)
        self._grade: Grade | None = None
        ours = implementation == varlen.NAME and self._packing is Packing.MASK
        self._bounded = ours and varlen.takes(lm)

    def _head(self) -> PlainHead | None:
        return head_of(self.lm, self._recipe)

    def room(self, sequences: np.ndarray, micro: int) -> int | None:
        """What `forward` is to be told of a batch, int64 [batch, length + 1], that goes in by `micro` sequences."""
        return varlen.room(sequences, micro, self._end) if self._bounded else None

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor, room: int | None = None) -> torch.Tensor:
        """Mean cross-entropy in nats of int64 `targets` [batch, length], each the token after that of `inputs`.

        Args:
            room: documents that the batch may hold, see `room`; None keeps them apart by a mask.
        """
        head = None if self.whole else self._head()
        if head is None:
            logits = packed_logits(self.lm, inputs, self._end, self._packing, room)
            return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        if self._recipe.version >= LARGE_CHUNKS or not head.bare or inputs.is_cuda:
            states = packed_states(head.trunk, inputs, self._end, self._packing, room)
            return fused_loss(states.flatten(0, 1), head, targets.flatten(), self._grade)
        hidden = head.trunk(**forward_inputs(inputs, self._end, self._packing, room)).last_hidden_state
        loss: torch.Tensor = _HeadLoss.apply(hidden.flatten(0, 1), head.weight, targets.flatten())
        return loss

    def mark_compiled(self, way: Way) -> list[torch.nn.Module]:
        """Have what is worth it compiled, all but the fused loss, which would be unrolled chunk by chunk; the parts."""
        head = None if self.whole else self._head()
        return mark(self.lm if head is None else head.trunk, way)

    def compile_loss(self) -> list[torch.nn.Module]:
        """Have what the fused loss does to a chunk compiled, for a GPU; the parts, none where the loss is plain."""
        head = None if self.whole else self._head()
        if head is None or not head.bare:
            return []
        self._grade = Grade()
        self._grade.compile(dynamic=False)
        return [self._grade]

    def plain_loss(self) -> None:
        """Undo `compile_loss`."""
        self._grade = None


def autocast(recipe: Recipe, device: torch.device) -> Any:
    """The precision of a recipe for a forward pass outside the engine."""
    return torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bf16" else nullcontext()


def head_of(lm: torch.nn.Module, recipe: Recipe) -> PlainHead | None:
    """The head of a recipe's model where the loss needs no array of all logits, else None.

    Before `LARGE_CHUNKS` the model's family told it, and documents in rows of their own took the plain way.
    """
    packing = packing_of(recipe)
    if recipe.version >= LARGE_CHUNKS:
        return find_head(lm, recipe.end_token, packing)
    return None if packing is Packing.ROWS else family_of(recipe.shape).head(lm)


def token_losses(lm: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Nats of every target under a model of the recipe, fp32 [batch, length], without gradients."""
    packing, head = packing_of(recipe), head_of(lm, recipe)
    with torch.no_grad():
        if head is None:
            logits = packed_logits(lm, inputs, recipe.end_token, packing).flatten(0, 1).float()
            flat = targets.flatten()
            return torch.nn.functional.cross_entropy(logits, flat, reduction="none").view_as(targets)
        if recipe.version >= LARGE_CHUNKS or not head.bare:
            states = packed_states(head.trunk, inputs, recipe.end_token, packing)
            return fused_nats(states.flatten(0, 1), head, targets.flatten()).view_as(targets)
        states = head.trunk(**forward_inputs(inputs, recipe.end_token, packing)).last_hidden_state
        hidden, weight, flat = _ready(states.flatten(0, 1), head.weight, targets)
        nats = [_nats(hidden[rows], weight, flat[rows])[0] for rows in _chunks(hidden, weight)]
        return torch.cat(nats).view_as(targets)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T` against targets; gradients are taken in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        low, matrix, flat = _ready(hidden, weight, targets)
        to_hidden, to_weight = torch.empty_like(low), torch.zeros_like(weight)
        total = torch.zeros((), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _chunks(low, matrix):
                nats, error = _nats(low[rows], matrix, flat[rows])
                total += nats.sum()
                error[torch.arange(len(error), device=error.device), flat[rows]] -= 1.0
                error = error.to(matrix.dtype)
                torch.mm(error, matrix, out=to_hidden[rows])
                if matrix.dtype == weight.dtype:
                    to_weight.addmm_(error.T, low[rows])
                else:
                    to_weight += error.T @ low[rows]
        ctx.save_for_backward(to_hidden, to_weight)
        ctx.dtype, ctx.rows = hidden.dtype, len(flat)
        return total / len(flat)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        to_hidden, to_weight = ctx.saved_tensors
        share = gradient / ctx.rows
        return to_hidden.to(ctx.dtype) * share, to_weight * share, None


def _ready(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows and matrix in the precision that autocast asks for, and flat targets."""
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return hidden.to(dtype), weight.to(dtype), targets.flatten()


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[slice]:
    step = small_rows(len(weight), hidden.device.type)
    return (slice(begin, min(begin + step, len(hidden))) for begin in range(0, len(hidden), step))


def _nats(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nats of each row's target, and the row's probabilities.

    torch's softmax takes 0.6 ms for 2^20 logits on one core, an exp of its own and the division 1.0 ms. The row's sum
    of exponentials comes back out of its largest probability, which cannot underflow: it is at least 1 / vocabulary.
    """
    logits = (hidden @ weight.T).float()
    probabilities = logits.softmax(1)
    nats = logits.amax(1) - probabilities.amax(1).log() - logits.gather(1, targets[:, None]).squeeze(1)
    return nats, probabilities
