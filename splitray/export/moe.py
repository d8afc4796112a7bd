"""K specialists as one mixture-of-experts checkpoint in Mixtral's layout, which stock libraries load.

Attention, norms, embeddings and head are the mean of the specialists'. Each specialist's MLP is an expert. A router for
each layer comes in closed form: ridge regression of a token's domain on what the layer's MLP reads, after
arXiv 2603.29765. No weight is trained.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from splitray.corpus.calibration import fit_temperature
from splitray.errors import UserError
from splitray.training.llama import llama_head

if TYPE_CHECKING:
    import torch

_RIDGE = 1e-3  # of the mean square of what is read: enough to invert, and far below what decides
_BATCH = 16  # windows at once
_EXPERT = ".mlp."
_SHARED = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "rope_parameters", "rms_norm_eps", "hidden_act"),
    *("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"),
)


def merge(models: Mapping[str, Any], texts: Mapping[str, np.ndarray], length: int, active: int = 2) -> Any:
    """One `MixtralForCausalLM` from specialists of one shape.

    Args:
        models: `LlamaForCausalLM` by domain.
        texts: training tokens of each domain, int64 [tokens]; the routers are fitted on as many of each as all have.
        length: tokens of a window.
        active: experts that a token passes, weighted by the router's softmax.

    Raises:
        UserError: the models are no Llamas, or not of one shape, or fewer than `active`.
    """
    import torch

    _check(models, active)
    mean = _mean(list(models.values()))
    first = next(iter(models.values()))
    moe: Any = _empty(first.config, len(models), active)
    state = moe.state_dict()
    for name, value in mean.items():
        if _EXPERT not in name:
            state[name].copy_(value)
    for place, model in enumerate(models.values()):
        own = model.state_dict()
        for layer in range(first.config.num_hidden_layers):
            source, target = f"model.layers.{layer}.mlp", f"model.layers.{layer}.mlp.experts"
            halves = [own[f"{source}.gate_proj.weight"], own[f"{source}.up_proj.weight"]]
            state[f"{target}.gate_up_proj"][place].copy_(torch.cat(halves))
            state[f"{target}.down_proj"][place].copy_(own[f"{source}.down_proj.weight"])
    for layer, weight in enumerate(_routers(models, mean, texts, length)):
        state[f"model.layers.{layer}.mlp.gate.weight"].copy_(weight)
    moe.load_state_dict(state)
    return moe.eval()


def average(models: Sequence[Any]) -> Any:
    """The model whose weights are the mean of some: a baseline, and where the merged attention comes from."""
    import copy

    merged = copy.deepcopy(models[0])
    merged.load_state_dict(_mean(models))
    return merged


def _check(models: Mapping[str, Any], active: int) -> None:
    for name, model in models.items():
        if llama_head(model) is None:
            raise UserError(f"{name} is a {type(model).__name__}; only Llama models are merged into one with experts")
    shapes = {name: [tuple(p.shape) for p in model.parameters()] for name, model in models.items()}
    first = next(iter(shapes))
    if other := next((name for name, shape in shapes.items() if shape != shapes[first]), None):
        raise UserError(f"{other} has another shape than {first}: experts are of one shape")
    if not 1 <= active <= len(models):
        raise UserError(f"a token can pass 1 to {len(models)} experts, not {active}")


def _mean(models: Sequence[Any]) -> dict[str, "torch.Tensor"]:
    import torch

    states = [model.state_dict() for model in models]
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}


def _empty(llama: Any, experts: int, active: int) -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    same = {name: getattr(llama, name, None) for name in _SHARED}
    return MixtralForCausalLM(MixtralConfig(**same, num_local_experts=experts, num_experts_per_tok=active))


def _routers(
    models: Mapping[str, Any], mean: Mapping[str, "torch.Tensor"], texts: Mapping[str, np.ndarray], length: int
) -> list["torch.Tensor"]:
    """A router's weights for each layer, fp32 [domains, hidden].

    What a layer reads is taken where every token passes the expert of its own domain.
    """
    import torch

    count = len(models)
    layers = next(iter(models.values())).config.num_hidden_layers
    hidden = next(iter(models.values())).config.hidden_size
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
        for read in _read(model, mean, tokens):
            for layer, rows in enumerate(read):
                square[layer] += rows.T @ rows
                product[layer] += rows.sum(0)[:, None] * label
                samples[layer].append(rows[:: max(1, len(rows) // 256)].float())
            homes += [place] * len(samples[0][-1])
    found = []
    for layer in range(layers):
        size = square[layer].diagonal().mean()
        weight = torch.linalg.solve(square[layer] + _RIDGE * size * torch.eye(hidden), product[layer]).T
        found.append((weight / _softness(torch.cat(samples[layer]).double() @ weight.T, homes)).float())
    return found


def _softness(scores: "torch.Tensor", homes: Sequence[int]) -> float:
    """The temperature at which the softmax of the scores is likeliest to name the domain."""
    return fit_temperature(scores.numpy(), np.array(homes))


def _read(model: Any, mean: Mapping[str, "torch.Tensor"], tokens: "torch.Tensor") -> Iterator[list["torch.Tensor"]]:
    """What each layer's MLP reads, float64 [tokens, hidden], for a batch of windows at a time."""
    import copy

    import torch

    mixed = copy.deepcopy(model)
    own = model.state_dict()
    mixed.load_state_dict({name: own[name] if _EXPERT in name else value for name, value in mean.items()})
    kept: list[torch.Tensor] = []

    def keep(module: Any, arguments: tuple["torch.Tensor", ...]) -> None:
        kept.append(arguments[0].flatten(0, 1).double().cpu())

    for layer in mixed.model.layers:
        layer.mlp.register_forward_pre_hook(keep)
    with torch.inference_mode():
        for begin in range(0, len(tokens), _BATCH):
            kept.clear()
            mixed(input_ids=tokens[begin : begin + _BATCH], use_cache=False)
            yield list(kept)
