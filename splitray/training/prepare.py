"""What is done to a model before its engine takes it: blocks that run again, and compilation, tried on a batch."""

import logging
from dataclasses import dataclass
from functools import partial

import torch

from splitray.errors import UserError
from splitray.training.blocks import Checkpointing, checkpoint_blocks
from splitray.training.compiling import Way, compile_or_not
from splitray.training.family import Packing
from splitray.training.head import NextToken, autocast
from splitray.training.memory import choose_checkpointing
from splitray.training.model import family_of
from splitray.training.packing import packing_of
from splitray.training.recipe import Recipe
from splitray.training.settings import TrainingSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """How a model's step runs; None: uncompiled."""

    compiled: Way | None
    checkpointing: Checkpointing


def prepare(
    module: NextToken, recipe: Recipe, settings: TrainingSettings, micro: int, stage: int, world: int
) -> Prepared:
    """Prepare a module for training with `micro` sequences at once; moves it to this process's device.

    Under ZeRO 3 weights are gathered by hooks that break compilation, and documents in rows of their own have many
    shapes. Neither is compiled by default.
    """
    gpu = torch.cuda.is_available()
    fit = stage < 3 and packing_of(recipe) is not Packing.ROWS
    way = settings.compiles(gpu and fit, recipe.params)
    how = _checkpointing(recipe, settings, micro * recipe.sequence_length, stage, world, way is not None)
    if how != "none" and not checkpoint_blocks(module.lm, how):
        raise UserError(
            f"training.activation_checkpointing is {how}, and the model has no stack of blocks to apply it to: "
            "set it to none"
        )
    if way is not None:
        attempt, parts = partial(_try, module, recipe, micro), module.mark_compiled(way)
        if stage < 3 and not compile_or_not("the model is trained", parts, attempt):
            way = None
        elif gpu and (parts := module.compile_loss()) and not compile_or_not("the loss is computed", parts, attempt):
            module.plain_loss()
    return Prepared(way, how)


def _checkpointing(
    recipe: Recipe, settings: TrainingSettings, tokens: int, stage: int, world: int, compiled: bool
) -> Checkpointing:
    if settings.activation_checkpointing != "auto":
        return settings.activation_checkpointing
    if not torch.cuda.is_available():
        return "none"
    capacity = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    counted = family_of(recipe.shape).size(recipe.spec)
    how = choose_checkpointing(counted, tokens, stage, world, compiled, capacity)
    if how != "none":
        _log.info("training.activation_checkpointing: %s, so that a step fits the GPU's memory", how)
    return how


def _try(module: NextToken, recipe: Recipe, micro: int) -> None:
    """A forward and backward pass of the shape that training has, whose gradients are thrown away."""
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    module.to(device)
    token = 0 if recipe.end_token else 1  # long documents: as many boundaries as most batches have
    rows = torch.full((micro, recipe.sequence_length + 1), token, device=device)
    with autocast(recipe, device):
        loss = module(rows[:, :-1], rows[:, 1:], module.room(rows.cpu().numpy(), micro))
    loss.backward()
    module.zero_grad(set_to_none=True)
