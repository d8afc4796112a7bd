"""Shapes of a ladder that are to the target what their sizes are: one ratio of width to depth.

Size alone does not decide a loss. In the proof, 1.64M parameters at a ratio of 24 were 3.8 % below 1.74M at 16, and the
law, which knows sizes, was as far off. No form can learn that from a ladder whose depth grows with its width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from splitray.errors import UserError
from splitray.training.model import size
from splitray.training.settings import ModelShape, TrainingSettings

_HEAD, _SMALL = 32, 16  # widths are multiples of a head, and below two of these of half of one
_SECOND = 1.5  # times the ratio, of the second shape at one size
_DEEPEST = 512


@dataclass(frozen=True)
class ProposedShape:
    """A shape, its parameters as the law counts them, and its width over its depth."""

    shape: ModelShape
    params: int
    ratio: float


def shapes_like(target: ModelShape, params: Sequence[float], vocabulary: int) -> tuple[ProposedShape, ...]:
    """The shape nearest to each of `params` that has the target's ratio of width to depth, smallest first.

    Args:
        vocabulary: of the tokenizer; the head counts among the parameters.

    Raises:
        UserError: the target is a folder, or two sizes would get one shape.
    """
    if target.path is not None:
        raise UserError("a model that continues from a folder has no smaller ones of its shape; give hidden and layers")
    ratio = target.width / target.depth
    every = [_proposed(layers, ratio, vocabulary) for layers in range(1, _DEEPEST)]
    found = [min(every, key=lambda shape: abs(shape.params / wanted - 1)) for wanted in sorted(params)]
    if len({shape.params for shape in found}) < len(found):
        sizes = ", ".join(f"{value:.3g}" for value in sorted(params))
        raise UserError(
            f"sizes {sizes} are too near to one another for shapes of {ratio:.3g} width a layer: ask for fewer"
        )
    return tuple(found)


def second_shape(like: ProposedShape, vocabulary: int) -> ProposedShape:
    """A shape of about as many parameters that is half as wide again for its depth: it shows what the ratio does."""
    every = [_proposed(layers, _SECOND * like.ratio, vocabulary) for layers in range(1, _DEEPEST)]
    return min(every, key=lambda shape: abs(shape.params / like.params - 1))


def _proposed(layers: int, ratio: float, vocabulary: int) -> ProposedShape:
    multiple = _SMALL if ratio * layers < 2 * _HEAD else _HEAD
    width = max(multiple, round(ratio * layers / multiple) * multiple)
    shape = ModelShape(hidden=width, layers=layers)
    return ProposedShape(shape, size(shape, vocabulary, TrainingSettings()).params, width / layers)
