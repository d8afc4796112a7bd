"""Every causal architecture of transformers as a model of a few thousand weights, built offline."""

from typing import Any

VOCAB, HIDDEN = 96, 32
# Names that configs use for one thing, and the value that makes it tiny.
_TINY: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), VOCAB),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim"), HIDDEN),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "d_inner", "d_ff", "n_inner", "ffn_dim"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "dff", "ffn_embed_dim", "hidden_size_mlp"), 48),
    **dict.fromkeys(("head_dim", "d_kv", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("swa_head_dim", "swa_v_head_dim", "index_head_dim", "linear_key_head_dim"), 8),
    **dict.fromkeys(("linear_value_head_dim", "mamba_head_dim", "mamba_d_head", "rotary_dim", "kda_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("shared_intermediate_size", "intermediate_size_mlp", "expert_dim"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "top_k_experts", "moe_topk"), 2),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "hidden_size_per_layer_input", "o_lora_rank"), 8),
    **dict.fromkeys(("vocab_size_per_layer_input",), VOCAB),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size"), 6),
    **dict.fromkeys(("state_size", "ssm_state_size", "mamba_d_state", "d_state"), 8),
    **dict.fromkeys(("n_group", "topk_group", "n_groups", "mamba_n_groups", "first_k_dense_replace"), 1),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 4),
    **dict.fromkeys(("lru_width",), 32),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 1),
}
# What an architecture needs beside that: its parts must fit together.
_LATENT: tuple[str, ...] = (
    "axk1",
    "axk2",
    "bailing_hybrid",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "glm4_moe_lite",
)
_LATENT += ("glm_moe_dsa", "kimi_linear", "longcat_flash", "minicpm3", "youtu")
_OWN: dict[str, dict[str, Any]] = {
    **{name: {"num_key_value_heads": 4} for name in _LATENT},
    **{name: {"head_dim": 8} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral", "nemotron", "dots1")},
    **{name: {"mamba_n_heads": 8} for name in ("bamba", "granitemoehybrid")},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}


def config(name: str) -> Any:
    """A tiny config of an architecture; its text part alone where it has several."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[name]
    plain = kind()
    changes = _changes(plain, name)
    for part in getattr(kind, "sub_configs", {}):
        if getattr(plain, part, None) is not None:
            changes[part] = _changes(getattr(plain, part), name)
    return kind(**changes)


def _changes(plain: Any, name: str) -> dict[str, Any]:
    known = {*plain.to_dict(), *plain.attribute_map}
    aliases = set(plain.attribute_map)
    tiny = {
        n: v
        for n, v in _TINY.items()
        if n in known and n not in aliases and (_field(plain, n) is not None or n.endswith("token_id"))
    }
    for alias, real in plain.attribute_map.items():
        if alias in _TINY:
            tiny[real] = _TINY[alias]
    depth = tiny.get("num_hidden_layers") or tiny.get("n_layer") or 2
    for field, value in plain.to_dict().items():
        if isinstance(value, list) and field in ("layer_types", "mlp_layer_types"):
            tiny[field] = _spread(value, depth)
    return tiny | _OWN.get(name, {})


def _field(plain: Any, name: str) -> Any:
    """A field's value; some configs refuse to give one where layers differ in it."""
    return plain.to_dict().get(name)


def _spread(kinds: list[str], depth: int) -> list[str]:
    """As many layers as asked for, every kind among them as far as they go."""
    return (list(dict.fromkeys(kinds)) * depth)[:depth]
