"""Buffers in the files of models from outside: what earlier versions of transformers saved beside the weights.

They are constants that the classes of today compute: triangles of causal masks, the number that stands for minus
infinity, the frequencies of rotary positions, counts from 0. GPT-J, GPT-Neo, GPT-2 and Falcon on the hub have them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

_CONSTANT = re.compile(r"(^|\.)(masked_bias|inv_freq|position_ids)$")
_TRIANGLE = re.compile(r"(^|\.)(attn|attention|self_attention)\.bias$")  # also the name of a layer's bias, a vector


def without_buffers(names: Sequence[str], folder: Path) -> list[str]:
    """The names that are no such buffer.

    Args:
        names: of tensors that the model has no place for.
        folder: with their files.
    """
    from safetensors import safe_open

    left = [name for name in names if not _CONSTANT.search(name)]
    if any(_TRIANGLE.search(name) for name in left):
        triangles = set()
        for file in folder.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                for name in set(left) & set(tensors.keys()):
                    shape = tensors.get_slice(name).get_shape()
                    if _TRIANGLE.search(name) and len(shape) == 4 and shape[:2] == [1, 1] and shape[2] == shape[3]:
                        triangles.add(name)
        left = [name for name in left if name not in triangles]
    return left
