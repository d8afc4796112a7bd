"""The world-free state of a model in training: fp32 weights and AdamW moments by parameter name, and a step count.

One format serves published segments and checkpoints inside an unfinished one: safetensors, no pickles, any number
of workers and any ZeRO stage can continue from it.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitray.errors import CorruptError, StorageError
from splitray.storage.store import Published, Store

if TYPE_CHECKING:
    import torch

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, by the names that torch gives them
_WEIGHT_FILE, _MOMENT_FILE = "weights.safetensors", "moments.safetensors"


@dataclass
class State:
    """`weights` by parameter name; `moments` as `exp_avg/<name>` and `exp_avg_sq/<name>`, None once not needed."""

    weights: "dict[str, torch.Tensor]"
    moments: "dict[str, torch.Tensor] | None"
    step: int


def publish(store: Store, key: str, state: State, meta: dict[str, Any]) -> Published:
    """Write a state under a key; `meta` goes into the marker."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    attempt = store.attempt(key)
    with tempfile.TemporaryDirectory(prefix="splitray-state-") as folder:
        files = {_WEIGHT_FILE: state.weights} | ({_MOMENT_FILE: state.moments} if state.moments is not None else {})
        for name, tensors in files.items():
            try:
                save_file({k: t.contiguous() for k, t in tensors.items()}, Path(folder) / name)
            except (OSError, SafetensorError) as error:
                raise StorageError(f"the temporary folder {folder} takes no {name} of {key}: {error}") from error
            attempt.add(Path(folder) / name, name)
    return attempt.publish({**meta, "step": state.step})


def load(published: Published, moments: bool = True) -> State:
    """Read a state back, checksums compared; `CorruptError` where a file is damaged or moments are missing."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(published.fetch(_WEIGHT_FILE))
        if moments and _MOMENT_FILE not in published.files:
            raise CorruptError(f"{published.key} holds no moments, so training cannot continue from it")
        held = load_file(published.fetch(_MOMENT_FILE)) if moments else None
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{published.key}: {error}") from error
    if held is not None:
        shapes = {f"{m}/{name}": tensor.shape for name, tensor in weights.items() for m in MOMENTS}
        if shapes != {name: tensor.shape for name, tensor in held.items()}:
            raise CorruptError(f"{published.key}: its moments do not belong to its weights")
    return State(weights, held, int(published.recorded("step")))
