"""Architectures with experts that stock libraries load, and the dense ones whose weights fit into them as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splitray.errors import UserError

ROUTERS = "*.mlp.gate.weight"  # their names in all these architectures, as a pattern of the shell
MLP = ".mlp."  # what an expert is made of, in the names of all these architectures
_OWN = {"architectures", "model_type", "transformers_version", "dtype", "_name_or_path", "torch_dtype"}


@dataclass(frozen=True)
class Layout:
    """How a dense architecture of `transformers` becomes one with experts.

    Args:
        dense, sparse: class names of the two causal LMs.
        config: of the sparse one.
        experts: the field of the config that counts experts.
        fixed: fields that make the sparse one compute what the dense one does, where all experts are alike.
        width: the field that an expert's width goes to, where it is not `intermediate_size`.
        silent: parts that the dense one lacks, written as zeros, which add nothing.
    """

    dense: str
    sparse: str
    config: str
    experts: str
    fixed: Mapping[str, object] = field(default_factory=dict)
    width: str | None = None
    silent: tuple[str, ...] = ()

    def build(self, dense: Any, experts: int, active: int) -> Any:
        """The sparse model of a dense one's config, its weights not yet set."""
        import transformers

        fields = {name: value for name, value in dense.config.to_dict().items() if name not in _OWN}
        fields |= dict(self.fixed) | {self.experts: experts, "num_experts_per_tok": active}
        if self.width is not None:
            fields[self.width] = dense.config.intermediate_size
        config = getattr(transformers, self.config)(**fields)
        config.dtype = "float32"
        return getattr(transformers, self.sparse)(config).float()


_QWEN = {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
_SHARED_EXPERT = ("mlp.shared_expert.", "mlp.shared_expert_gate.")
_SILENT_WIDTH = 64  # of Qwen 2's shared expert, which cannot be left out; tensor parallelism divides it by up to 64
LAYOUTS = {
    layout.dense: layout
    for layout in (
        Layout("LlamaForCausalLM", "MixtralForCausalLM", "MixtralConfig", "num_local_experts"),
        Layout("MistralForCausalLM", "MixtralForCausalLM", "MixtralConfig", "num_local_experts"),
        Layout(
            "Qwen2ForCausalLM",
            "Qwen2MoeForCausalLM",
            "Qwen2MoeConfig",
            "num_experts",
            {**_QWEN, "shared_expert_intermediate_size": _SILENT_WIDTH, "qkv_bias": True},
            "moe_intermediate_size",
            _SHARED_EXPERT,
        ),
        Layout(
            "Qwen3ForCausalLM",
            "Qwen3MoeForCausalLM",
            "Qwen3MoeConfig",
            "num_experts",
            _QWEN,
            "moe_intermediate_size",
        ),
        Layout("Olmo2ForCausalLM", "FlexOlmoForCausalLM", "FlexOlmoConfig", "num_experts", {"norm_topk_prob": True}),
    )
}


def layout_of(name: str, model: Any) -> Layout:
    """The layout of a model.

    Args:
        name: what a message calls it.

    Raises:
        UserError: no stock architecture with experts computes what this one does.
    """
    layout = LAYOUTS.get(type(model).__name__)
    if layout is None:
        known = ", ".join(dense.removesuffix("ForCausalLM") for dense in LAYOUTS)
        raise UserError(
            f"{name} is a {type(model).__name__}, and no stock architecture with experts has its layers; "
            f"models that can be merged: {known}"
        )
    if getattr(model.config, "use_sliding_window", False):
        raise UserError(
            f"{name} has attention windows in some layers (use_sliding_window), which {layout.sparse} gives to all or "
            "none; it cannot be merged"
        )
    return layout


def check_fit(name: str, dense: Any, sparse: Any, layout: Layout) -> None:
    """Refuse a dense model with weights that its layout has no place for, such as biases.

    Raises:
        UserError: with the weights.
    """
    ours = {n: tuple(p.shape) for n, p in dense.state_dict().items() if MLP not in n}
    theirs = {n: tuple(p.shape) for n, p in sparse.state_dict().items() if MLP not in n}
    homeless = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
    homeless += sorted(n for n in dense.state_dict() if MLP in n and n.endswith(".bias"))
    if homeless:
        raise UserError(f"{name} has weights that {layout.sparse} has not: {', '.join(homeless[:3])}; it is not merged")
