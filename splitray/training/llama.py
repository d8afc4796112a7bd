"""The family that the ladder is made of: Llama-style models from a shape."""

from typing import TYPE_CHECKING

from splitray.training.family import Family, ModelSpec, Packing, PlainHead, Size, register

if TYPE_CHECKING:
    import torch

    from splitray.training.settings import ModelShape


@register
class Llama(Family):
    """Rotary positions, RMS norms, SwiGLU, no biases; `transformers` loads what is exported."""

    name = "llama"

    def build(self, spec: ModelSpec) -> "torch.nn.Module":
        from transformers import LlamaConfig, LlamaForCausalLM

        shape = spec.shape
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=spec.vocab,
                hidden_size=shape.width,
                intermediate_size=shape.mlp_width,
                num_hidden_layers=shape.depth,
                num_attention_heads=shape.head_count,
                num_key_value_heads=shape.kv_head_count,
                max_position_embeddings=spec.sequence_length,
                rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
                tie_word_embeddings=spec.tie_embeddings,
                # 0.02 is made for widths near 1000: tiny models start with logits of no variance (ours: 1/sqrt(hidden))
                initializer_range=min(0.02 * (1024 / shape.width) ** 0.5, 0.1),
                bos_token_id=None,
                eos_token_id=spec.end_token,
                pad_token_id=None,
            )
        )

    def check(self, shape: "ModelShape") -> None:
        if shape.width % shape.head_count:
            raise ValueError(f"hidden {shape.hidden} is not a multiple of heads {shape.head_count}")
        if (shape.width // shape.head_count) % 2:
            raise ValueError(f"hidden/heads = {shape.width // shape.head_count} must be even for rotary positions")
        if shape.head_count % shape.kv_head_count:
            raise ValueError(f"heads {shape.head_count} is not a multiple of kv_heads {shape.kv_head_count}")

    def size(self, spec: ModelSpec) -> Size:
        """Counts from the shape alone: the dry run and the plan need no torch for them."""
        shape, vocab = spec.shape, spec.vocab
        hidden, mlp = shape.width, shape.mlp_width
        head_dim = hidden // shape.head_count
        attention = 2 * hidden * hidden + 2 * hidden * head_dim * shape.kv_head_count
        blocks = shape.depth * (attention + 3 * hidden * mlp + 2 * hidden)
        params = blocks + hidden + vocab * hidden
        return Size(params, params if spec.tie_embeddings else params + vocab * hidden, hidden, shape.depth)

    def head(self, model: "torch.nn.Module") -> PlainHead | None:
        return llama_head(model)

    def attention(self, model: "torch.nn.Module") -> str | None:
        return llama_attention(model)

    def packing(self, spec: ModelSpec) -> Packing:
        return Packing.MASK


def llama_head(model: "torch.nn.Module") -> PlainHead | None:
    """The head of exactly `LlamaForCausalLM`: what only looks like a Llama may scale or cap its logits."""
    from transformers import LlamaForCausalLM

    if type(model) is not LlamaForCausalLM or model.lm_head.bias is not None:
        return None
    return PlainHead(model.model, model.lm_head.weight)


def llama_attention(model: "torch.nn.Module") -> str | None:
    """Our attention for short sequences on a CPU, for models that it was measured and tested with."""
    if llama_head(model) is None:
        return None
    from splitray.training import attention

    return attention.NAME
