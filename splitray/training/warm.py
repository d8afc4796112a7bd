"""Engines and models that stay in a process for the next segment of their recipe.

Building a small model and its engine costs as much as a few steps, and compiling it as much as a segment. A kept engine
gets the next segment's weights, moments and step count: it holds nothing else, so the bits are those of a new one.
"""

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING

from splitray.storage.checksum import fingerprint
from splitray.training.recipe import Recipe
from splitray.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch

    from splitray.training.engine import Engine

_KEPT = 4
_LARGEST = 16_000_000  # parameters: 256 MB each with gradients and moments; a larger one starts in little of its time
_engines: "OrderedDict[str, Engine]" = OrderedDict()


def _name(recipe: Recipe, settings: TrainingSettings) -> str:
    return fingerprint([recipe.to_json(), settings.model_dump(mode="json")])


def take(recipe: Recipe, settings: TrainingSettings) -> "Engine | None":
    """The kept engine of a recipe, for the taker alone."""
    return _engines.pop(_name(recipe, settings), None)


def keep(engine: "Engine", recipe: Recipe, settings: TrainingSettings) -> None:
    """Keep an engine whose segment has ended well; close it where it shards its states or is large."""
    if engine.world > 1 or engine.stage > 0 or recipe.params > _LARGEST:
        engine.close()
        return
    name = _name(recipe, settings)
    if (older := _engines.pop(name, None)) is not None:
        older.close()
    _engines[name] = engine
    while len(_engines) > _KEPT:
        _engines.popitem(last=False)[1].close()


def model(recipe: Recipe) -> "torch.nn.Module":
    """A model of a recipe to load weights into and to score, kept where it is small; not for training."""
    from splitray.training.model import build

    return _model(recipe) if recipe.params <= _LARGEST else build(recipe)


@lru_cache(maxsize=_KEPT)
def _model(recipe: Recipe) -> "torch.nn.Module":
    from splitray.training.model import build

    return build(recipe)
