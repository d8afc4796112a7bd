"""Routers in closed form: ridge regression of a token's domain on what a layer's MLP reads, after arXiv 2603.29765.

Only sums over tokens are kept, so the memory does not grow with the text.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from splitray.corpus.calibration import fit_temperature
from splitray.errors import UserError
from splitray.export.layouts import MLP

if TYPE_CHECKING:
    import torch

_RIDGE = 1e-3  # of the mean square of what is read: enough to invert, and far below what decides
_BATCH = 16  # windows at once
_SAMPLE = 256  # tokens of a batch that the temperature is fitted on


def fit_routers(
    models: Mapping[str, Any], shared: Mapping[str, "torch.Tensor"], texts: Mapping[str, np.ndarray], length: int
) -> list["torch.Tensor"]:
    """A router's weights for each layer, fp32 [domains, hidden].

    What a layer reads is taken where every token passes the expert of its own domain. The regression's targets are 1
    for the domain and 0 for others, less their mean. The weights are divided by the temperature at which the softmax
    of the scores is likeliest to name the domain.

    Args:
        models: dense models by domain.
        shared: the weights that all experts will share, by name.
        texts: training tokens of each domain, int64 [tokens]; as many of each are read as all have.
        length: tokens of a window.

    Raises:
        UserError: a domain has less than one window.
    """
    import torch

    first = next(iter(models.values()))
    count, layers, hidden = len(models), first.config.num_hidden_layers, first.config.hidden_size
    square = torch.zeros(layers, hidden, hidden, dtype=torch.float64)
    product = torch.zeros(layers, hidden, count, dtype=torch.float64)
    windows = min(len(texts[domain]) for domain in models) // length
    if windows == 0:
        raise UserError(f"the routers need at least {length} training tokens of every domain")
    samples: list[list[torch.Tensor]] = [[] for _ in range(layers)]
    homes: list[int] = []
    for place, (domain, model) in enumerate(models.items()):
        label = torch.full((count,), -1 / count, dtype=torch.float64)
        label[place] += 1
        tokens = torch.from_numpy(texts[domain][: windows * length].reshape(windows, length))
        for read in _read(model, shared, tokens):
            for layer, rows in enumerate(read):
                square[layer] += rows.T @ rows
                product[layer] += rows.sum(0)[:, None] * label
                samples[layer].append(rows[:: max(1, len(rows) // _SAMPLE)].float())
            homes += [place] * len(samples[0][-1])
    found = []
    for layer in range(layers):
        size = square[layer].diagonal().mean()
        weight = torch.linalg.solve(square[layer] + _RIDGE * size * torch.eye(hidden), product[layer]).T
        scores = torch.cat(samples[layer]).double() @ weight.T
        found.append((weight / _softness(scores, homes)).float())
    return found


def _softness(scores: "torch.Tensor", homes: Sequence[int]) -> float:
    return fit_temperature(scores.numpy(), np.array(homes))


def _read(model: Any, shared: Mapping[str, "torch.Tensor"], tokens: "torch.Tensor") -> Iterator[list["torch.Tensor"]]:
    """What each layer's MLP reads, float64 [tokens, hidden], for a batch of windows at a time."""
    import copy

    import torch

    mixed = copy.deepcopy(model)
    own = model.state_dict()
    mixed.load_state_dict({name: own[name] if MLP in name else value for name, value in shared.items()})
    device = next(mixed.parameters()).device
    kept: list[torch.Tensor] = []

    def keep(module: Any, arguments: tuple["torch.Tensor", ...]) -> None:
        kept.append(arguments[0].flatten(0, 1).double().cpu())

    for layer in mixed.model.layers:
        layer.mlp.register_forward_pre_hook(keep)
    with torch.inference_mode():
        for begin in range(0, len(tokens), _BATCH):
            kept.clear()
            mixed(input_ids=tokens[begin : begin + _BATCH].to(device), use_cache=False)
            yield list(kept)
