"""The world-free state of a model in training: fp32 weights and AdamW moments by parameter name, and a step count.

Published segments and checkpoints inside an unfinished one are alike: safetensors, no pickles, any number of workers
and any ZeRO stage can continue from it. A single process writes all weights as one file and all moments as another. A
group writes a file a rank, see `shards`. Both are read here whole.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitray.errors import CorruptError, StorageError
from splitray.storage.store import Published, Store
from splitray.training.shards import INDEX, MOMENTS, WEIGHTS, Piece, Reader, numel

if TYPE_CHECKING:
    import torch

WEIGHT_FILE, MOMENT_FILE = "weights.safetensors", "moments.safetensors"


@dataclass
class State:
    """`weights` by parameter name; `moments` as `exp_avg/<name>` and `exp_avg_sq/<name>`, None once not needed.

    `settle` waits until the values are there: on a GPU they may still be on their way.
    """

    weights: "dict[str, torch.Tensor]"
    moments: "dict[str, torch.Tensor] | None"
    step: int
    settle: Callable[[], None] = lambda: None


def publish(store: Store, key: str, state: State, meta: dict[str, Any]) -> Published:
    """Write a state under a key; `meta` goes into the marker."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state.settle()
    attempt = store.attempt(key)
    with tempfile.TemporaryDirectory(prefix="splitray-state-") as folder:
        files = {WEIGHT_FILE: state.weights} | ({MOMENT_FILE: state.moments} if state.moments is not None else {})
        for name, tensors in files.items():
            try:
                save_file({k: t.contiguous() for k, t in tensors.items()}, Path(folder) / name)
            except (OSError, SafetensorError) as error:
                raise StorageError(f"the temporary folder {folder} takes no {name} of {key}: {error}") from error
            attempt.add(Path(folder) / name, name)
    return attempt.publish({**meta, "step": state.step})


def load(published: Published, moments: bool = True) -> State:
    """Read a state back, checksums compared; `CorruptError` where a file is damaged or moments are missing."""
    if INDEX in published.files:
        return _consolidated(Reader(published), moments)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(published.fetch(WEIGHT_FILE))
        if moments and MOMENT_FILE not in published.files:
            raise CorruptError(f"{published.key} holds no moments, so training cannot continue from it")
        held = load_file(published.fetch(MOMENT_FILE)) if moments else None
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{published.key}: {error}") from error
    if held is not None:
        shapes = {f"{m}/{name}": tensor.shape for name, tensor in weights.items() for m in MOMENTS}
        if shapes != {name: tensor.shape for name, tensor in held.items()}:
            raise CorruptError(f"{published.key}: its moments do not belong to its weights")
    return State(weights, held, int(published.recorded("step")))


def _consolidated(reader: Reader, moments: bool) -> State:
    """All of a state that was written in shards."""
    if moments and not reader.has_moments:
        raise CorruptError(f"{reader.key} holds no moments, so training cannot continue from it")

    def whole(kind: str, name: str) -> "torch.Tensor":
        shape = reader.shapes[name]
        return reader.read(Piece(kind, name, 0, numel(shape))).reshape(shape)

    weights = {name: whole(WEIGHTS, name) for name in reader.shapes}
    held = {f"{kind}/{name}": whole(kind, name) for kind in MOMENTS for name in reader.shapes} if moments else None
    return State(weights, held, reader.step)


def check_names(model: Mapping[str, Iterable[int]], state: Mapping[str, Iterable[int]]) -> None:
    """Refuse a state whose parameters have other names or shapes than the model's."""
    if model.keys() != state.keys():
        raise CorruptError(f"the state holds other parameters than the model: {sorted(model.keys() ^ state)[:4]}")
    for name, shape in model.items():
        if tuple(shape) != tuple(state[name]):
            raise CorruptError(f"{name} has shape {tuple(state[name])}, the model's {tuple(shape)}")


def load_weights(model: Any, state: State) -> None:
    """Copy a state's weights into a model of the same recipe: those that learn, where others are frozen."""
    import torch

    from splitray.training.model import trained

    named = trained(model)
    check_names({n: p.shape for n, p in named.items()}, {n: w.shape for n, w in state.weights.items()})
    with torch.no_grad():
        for name, param in named.items():
            param.copy_(state.weights[name])
