"""K specialists as one mixture-of-experts checkpoint in an architecture that stock libraries load.

Each specialist's MLP is an expert. Attention, norms, embeddings and head are shared: the mean of the specialists', or
those of another model such as the base. The routers come in closed form. No weight is trained here.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from splitray.errors import UserError
from splitray.export.layouts import MLP, Layout, check_fit, layout_of
from splitray.export.routers import fit_routers

if TYPE_CHECKING:
    import torch


def merge(
    models: Mapping[str, Any], texts: Mapping[str, np.ndarray], length: int, active: int = 2, shared: Any = None
) -> Any:
    """One causal LM with experts from specialists of one shape; see `splitray.export.layouts` for its class.

    Args:
        models: dense causal LMs by domain, on the CPU.
        texts: training tokens of each domain, int64 [tokens]; the routers are fitted on as many of each as all have.
        length: tokens of a window.
        active: experts that a token passes, weighted by the router's softmax.
        shared: the model whose attention, norms, embeddings and head are taken; the mean of `models` where None.

    Raises:
        UserError: no stock architecture fits the models, they are not of one shape, or fewer than `active`.
    """
    import torch

    layout = _check(models, active, shared)
    common = _mean(list(models.values())) if shared is None else _float(shared)
    first = next(iter(models.values()))
    moe = layout.build(first, len(models), active)
    check_fit(next(iter(models)), first, moe, layout)
    state = moe.state_dict()
    for name, value in state.items():
        if MLP not in name:
            value.copy_(common[name])
        elif any(part in name for part in layout.silent):
            value.zero_()
    for place, model in enumerate(models.values()):
        own = model.state_dict()
        for layer in range(first.config.num_hidden_layers):
            source, target = f"model.layers.{layer}.mlp", f"model.layers.{layer}.mlp.experts"
            halves = [own[f"{source}.gate_proj.weight"], own[f"{source}.up_proj.weight"]]
            state[f"{target}.gate_up_proj"][place].copy_(torch.cat(halves))
            state[f"{target}.down_proj"][place].copy_(own[f"{source}.down_proj.weight"])
    for layer, weight in enumerate(fit_routers(models, common, texts, length)):
        state[f"model.layers.{layer}.mlp.gate.weight"].copy_(weight)
    moe.load_state_dict(state)
    return moe.eval()


def average(models: Sequence[Any]) -> Any:
    """The model whose weights are the mean of some: a baseline, and where the merged attention comes from."""
    import copy

    merged = copy.deepcopy(models[0])
    merged.load_state_dict(_mean(models))
    return merged


def idle(moe: Any) -> int:
    """Weights of a merged model that a token does not meet: those of the experts that it passes by."""
    experts = [p for name, p in moe.named_parameters() if f"{MLP}experts." in name]
    return sum(int(p[0].numel()) * (len(p) - moe.config.num_experts_per_tok) for p in experts)


def _check(models: Mapping[str, Any], active: int, shared: Any) -> Layout:
    layouts = {name: layout_of(name, model) for name, model in models.items()}
    every = {**models} if shared is None else {**models, "base": shared}
    shapes = {name: {n: tuple(p.shape) for n, p in model.named_parameters()} for name, model in every.items()}
    first = next(iter(shapes))
    if other := next((name for name, shape in shapes.items() if shape != shapes[first]), None):
        raise UserError(f"{other} has another shape than {first}: experts are of one shape")
    if not 1 <= active <= len(models):
        raise UserError(f"a token can pass 1 to {len(models)} experts, not {active}")
    return layouts[first]


def _float(model: Any) -> dict[str, "torch.Tensor"]:
    return {name: value.float() for name, value in model.state_dict().items()}


def _mean(models: Sequence[Any]) -> dict[str, "torch.Tensor"]:
    import torch

    states = [model.state_dict() for model in models]
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}
