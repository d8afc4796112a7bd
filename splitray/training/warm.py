"""Engines and models that stay in a process for the next segment of their recipe.

Building a small model and its engine costs as much as a few steps, and compiling it as much as a segment. A kept engine
gets the next segment's weights, moments and step count: it holds nothing else, so the bits are those of a new one.
"""

import json
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from splitray.storage.checksum import fingerprint
from splitray.training.settings import TrainingSettings
from splitray.training.tree import Recipe

if TYPE_CHECKING:
    import torch

    from splitray.training.engine import Engine

_KEPT = 4
_LARGEST = 16_000_000  # parameters: 256 MB each with gradients and moments; a larger one starts in little of its time
_engines: "OrderedDict[str, Engine]" = OrderedDict()


def _name(recipe: Recipe, settings: TrainingSettings) -> str:
    return fingerprint([recipe.values, settings.model_dump(mode="json")])


def take(recipe: Recipe, settings: TrainingSettings) -> "Engine | None":
    """The kept engine of a recipe, for the taker alone."""
    return _engines.pop(_name(recipe, settings), None)


def keep(engine: "Engine", recipe: Recipe, settings: TrainingSettings) -> None:
    """Keep an engine whose segment has ended well; close it where it shards its states or is large."""
    if engine.world > 1 or engine.stage > 0 or recipe.values["params"] > _LARGEST:
        engine.close()
        return
    name = _name(recipe, settings)
    if (older := _engines.pop(name, None)) is not None:
        older.close()
    _engines[name] = engine
    while len(_engines) > _KEPT:
        _engines.popitem(last=False)[1].close()


def model(values: dict[str, Any]) -> "torch.nn.Module":
    """A model of a recipe to load weights into and to score, kept where it is small; not for training."""
    from splitray.training.model import build

    return _model(json.dumps(values)) if values["params"] <= _LARGEST else build(values)


@lru_cache(maxsize=_KEPT)
def _model(values: str) -> "torch.nn.Module":
    from splitray.training.model import build

    return build(json.loads(values))
