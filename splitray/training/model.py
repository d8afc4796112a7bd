"""Models by their family: their size, their weights, and what they continue from."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from splitray.errors import UserError
from splitray.training.family import Family, ModelSpec, Size, find
from splitray.training.places import folder_of
from splitray.training.settings import ModelShape, TrainingSettings

if TYPE_CHECKING:
    import torch

    from splitray.training.recipe import Recipe


def family_of(shape: ModelShape) -> Family:
    """The family of a shape: the one it names, else `folder` for a path and `llama` for dimensions."""
    return find(shape.family_name)


def spec_of(shape: ModelShape, vocab: int, training: TrainingSettings) -> ModelSpec:
    """What a model of this shape is built from, before a corpus has named its end token."""
    return ModelSpec(shape, vocab, 0, training.sequence_length, training.tie_embeddings, training.rope_theta)


def size(shape: ModelShape, vocab: int, training: TrainingSettings) -> Size:
    """Counts of a model, without its memory."""
    return family_of(shape).size(spec_of(shape, vocab, training))


def root_hash(shape: ModelShape) -> str | None:
    """Names the weights a model continues from: a hash over config and safetensors; None from scratch."""
    if shape.path is None:
        return None
    from splitray.training.folder import folder_hash

    return folder_hash(folder_of(shape))


def build(recipe: "Recipe") -> "torch.nn.Module":
    """The model of a segment's recipe, freshly initialised or from its root.

    Initialisation depends on the recipe's seed alone. fp32 weights on the CPU. Those that the recipe does not train are
    frozen.

    Raises:
        UserError: the folder that it continues from has changed or cannot be loaded.
    """
    import torch

    shape = recipe.shape
    if recipe.root not in (None, root_hash(shape)):
        raise UserError(
            f"model path {shape.path}: its files are not those that this run began with; bring them back, or start "
            "a run of another name from what lies there now"
        )
    torch.manual_seed(recipe.seed)
    model = family_of(shape).build(recipe.spec)
    if recipe.trainable is not None:
        for name, param in model.named_parameters():
            param.requires_grad_(fnmatchcase(name, recipe.trainable))
        assert any(p.requires_grad for p in model.parameters()), f"no weight is called {recipe.trainable}"
    return model


def trained(model: "torch.nn.Module") -> "dict[str, torch.nn.Parameter]":
    """The weights that learn, by name: what a state holds."""
    return {name: param for name, param in model.named_parameters() if param.requires_grad}
