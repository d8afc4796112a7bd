"""The equal blocks of a model: compiled one by one, and run again in the backward pass where memory is short.

Equal blocks share one compilation, however many there are. Activation checkpointing follows Chen et al. 2016 (arXiv
1604.06174). `selective` is that of Korthikanti et al. 2022 (arXiv 2205.05198) in kind: what is costly to compute is
kept, here matrix products and attention, and what lies between them is computed again.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Checkpointing = Literal["none", "selective", "full"]
_KEPT = {"mm", "addmm", "bmm", "baddbmm", "_grouped_mm"}  # and whatever attention is called, `_varlen_attn` too


def blocks_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of the model's largest stack, in order; empty where it has none."""
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 0]
    if not stacks:
        return []
    largest = max(range(len(stacks)), key=lambda place: sum(p.numel() for p in stacks[place].parameters()))
    return list(stacks[largest])


def checkpoint_blocks(model: torch.nn.Module, how: Checkpointing) -> int:
    """Have a model's blocks compute activations again in the backward pass; the number of blocks that do.

    Called before the model is compiled. Losses and gradients stay the same bits: what runs again is the same code.
    """
    if how == "none":
        return 0
    blocks = blocks_of(model)
    for block in blocks:
        kind: Any = type(block)
        block.__class__ = _checkpointed(kind, how)
    return len(blocks)


@cache
def _checkpointed(kind: type[torch.nn.Module], how: Checkpointing) -> type[torch.nn.Module]:
    """A class of blocks with another forward pass. All blocks of one kind have it, so that they compile as one."""
    extra = {"context_fn": _contexts} if how == "selective" else {}
    inner: Callable[..., Any] = kind.forward

    def forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return inner(self, *args, **kwargs)
        return checkpoint(partial(inner, self, **kwargs), *args, use_reentrant=False, **extra)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _contexts() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = operator._schema.name.split("::")[-1]
    kept = name in _KEPT or "attention" in name or "attn" in name
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
